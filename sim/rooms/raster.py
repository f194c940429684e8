"""Which triangle does each pixel see: a z-buffer in compiled code, for any camera that has rays.

Two-dimensional homogeneous rasterisation (Olano and Greer 1997): a triangle's edges are planes through the camera
centre, and a pixel is inside where its viewing ray is on the inner side of all three. The test is exact per ray, so
lens distortion costs a table of rays and nothing else, and needs no clipping: bounding boxes only save work.
"""

from __future__ import annotations

import numba
import numpy as np

# Bounding boxes of triangles are taken from their part beyond this depth [m]; nothing nearer is drawn.
NEAR = 0.02


@numba.njit(cache=True, nogil=True, error_model="numpy")
def to_camera(vertices, T, lens, points, pixels):
    """(V, 3) world vertices -> ``points`` (V, 3) in the camera frame and ``pixels`` (V, 2) of an undistorted camera.

    T: 4x4 T_camera_world; lens: fx, fy, cx, cy. Pixels are NaN nearer than ``NEAR``.
    """
    fx, fy, cx, cy = lens
    for n in range(len(vertices)):
        a, b, c = vertices[n, 0], vertices[n, 1], vertices[n, 2]
        x = T[0, 0] * a + T[0, 1] * b + T[0, 2] * c + T[0, 3]
        y = T[1, 0] * a + T[1, 1] * b + T[1, 2] * c + T[1, 3]
        z = T[2, 0] * a + T[2, 1] * b + T[2, 2] * c + T[2, 3]
        points[n, 0], points[n, 1], points[n, 2] = x, y, z
        if z > NEAR:
            pixels[n, 0], pixels[n, 1] = fx * x / z + cx, fy * y / z + cy
        else:
            pixels[n, 0], pixels[n, 1] = np.nan, np.nan


@numba.njit(cache=True, nogil=True, error_model="numpy")
def clusters_in_view(spheres, T, half_angle):
    """Indices of the spheres (C, 4: x, y, z, radius) that meet a cone about the optical axis, nearest first."""
    cos_field, sin_field = np.cos(half_angle), np.sin(half_angle)
    distance = np.empty(len(spheres))
    index = np.empty(len(spheres), dtype=np.int64)
    count = 0
    for n in range(len(spheres)):
        a, b, c, radius = spheres[n, 0], spheres[n, 1], spheres[n, 2], spheres[n, 3]
        x = T[0, 0] * a + T[0, 1] * b + T[0, 2] * c + T[0, 3]
        y = T[1, 0] * a + T[1, 1] * b + T[1, 2] * c + T[1, 3]
        z = T[2, 0] * a + T[2, 1] * b + T[2, 2] * c + T[2, 3]
        # Signed distance from the cone's mantle; near the apex it errs on the safe side.
        if z > -radius and np.sqrt(x * x + y * y) * cos_field - z * sin_field <= radius:
            distance[count] = z - radius
            index[count] = n
            count += 1
    return index[np.argsort(distance[:count])]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _clipped_box(points, corners, lens, width, height):
    """Pixel box (low, high, top, bottom) of the part of a triangle beyond ``NEAR``, for an undistorted camera."""
    fx, fy, cx, cy = lens
    u0, u1, v0, v1 = np.inf, -np.inf, np.inf, -np.inf
    for k in range(3):
        i, j = corners[k], corners[(k + 1) % 3]
        zi, zj = points[i, 2], points[j, 2]
        for step in range(2):
            if step == 0 and zi > NEAR:
                t, z = 0.0, zi
            elif step == 1 and (zi > NEAR) != (zj > NEAR):
                t, z = (NEAR - zi) / (zj - zi), NEAR
            else:
                continue
            u = fx * (points[i, 0] + t * (points[j, 0] - points[i, 0])) / z + cx
            v = fy * (points[i, 1] + t * (points[j, 1] - points[i, 1])) / z + cy
            u0, u1, v0, v1 = min(u0, u), max(u1, u), min(v0, v), max(v1, v)
    return max(u0, -1.0), min(u1, width), max(v0, -1.0), min(v1, height)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def rasterise(points, pixels, faces, starts, clusters, lens, pad, ray_x, ray_y, inverse_depth, face_index):
    """Draw clusters of triangles into a z-buffer.

    Args:
        points: (V, 3) float64 vertices in the camera frame [m].
        pixels: (V, 2) float64 where they project to; NaN where the camera cannot say.
        faces: (F, 3) int32; drawn only where seen from their counter-clockwise side.
        starts: (C + 1,) int64; faces of cluster c are starts[c]..starts[c + 1].
        clusters: indices of the clusters to draw.
        lens: fx, fy, cx, cy [pixel].
        pad: share of its size by which a lens may bulge a triangle's bounding box; 0 for an undistorted camera.
        ray_x, ray_y: (H, W) float64 viewing directions with z = 1, NaN where a pixel has none.
        inverse_depth: (H, W) float64 in and out, 0 where nothing is drawn yet [1/m].
        face_index: (H, W) int32 in and out, -1 where nothing is drawn yet.
    """
    height, width = inverse_depth.shape
    for cluster in clusters:
        for f in range(starts[cluster], starts[cluster + 1]):
            i0, i1, i2 = faces[f, 0], faces[f, 1], faces[f, 2]
            x0, y0, z0 = points[i0, 0], points[i0, 1], points[i0, 2]
            x1, y1, z1 = points[i1, 0], points[i1, 1], points[i1, 2]
            x2, y2, z2 = points[i2, 0], points[i2, 1], points[i2, 2]
            # Normals of the edge planes; a shared edge is exactly negated in its neighbour, so no crack can open.
            a0, b0, c0 = y1 * z2 - z1 * y2, z1 * x2 - x1 * z2, x1 * y2 - y1 * x2
            volume = x0 * a0 + y0 * b0 + z0 * c0
            if volume >= 0.0 or (z0 <= NEAR and z1 <= NEAR and z2 <= NEAR):
                continue
            p0, p1, p2 = pixels[i0, 0], pixels[i1, 0], pixels[i2, 0]
            q0, q1, q2 = pixels[i0, 1], pixels[i1, 1], pixels[i2, 1]
            u0, u1, v0, v1 = min(p0, p1, p2), max(p0, p1, p2), min(q0, q1, q2), max(q0, q1, q2)
            if not np.isfinite(p0 + p1 + p2 + q0 + q1 + q2):
                if pad == 0.0:
                    u0, u1, v0, v1 = _clipped_box(points, (i0, i1, i2), lens, width, height)
                else:
                    u0, u1, v0, v1 = 0.0, width, 0.0, height
            elif pad > 0.0:
                margin = 1.0 + pad * max(u1 - u0, v1 - v0)
                u0, u1, v0, v1 = u0 - margin, u1 + margin, v0 - margin, v1 + margin
            if u1 < 0.0 or v1 < 0.0 or u0 > width - 1 or v0 > height - 1:
                continue
            low, high = int(np.ceil(max(u0, 0.0))), int(min(u1, width - 1.0))
            top, bottom = int(np.ceil(max(v0, 0.0))), int(min(v1, height - 1.0))
            a1, b1, c1 = y2 * z0 - z2 * y0, z2 * x0 - x2 * z0, x2 * y0 - y2 * x0
            a2, b2, c2 = y0 * z1 - z0 * y1, z0 * x1 - x0 * z1, x0 * y1 - y0 * x1
            inverse = 1.0 / volume
            for v in range(top, bottom + 1):
                for u in range(low, high + 1):
                    x, y = ray_x[v, u], ray_y[v, u]
                    e0, e1, e2 = a0 * x + b0 * y + c0, a1 * x + b1 * y + c1, a2 * x + b2 * y + c2
                    if e0 <= 0.0 and e1 <= 0.0 and e2 <= 0.0:
                        w = (e0 + e1 + e2) * inverse
                        if w > inverse_depth[v, u]:
                            inverse_depth[v, u] = w
                            face_index[v, u] = f
