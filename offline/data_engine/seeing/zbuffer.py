"""Exact z-buffer of a triangle mesh: what a pinhole camera sees at the centre of each pixel.

Depth is interpolated perspectively (1 / z is linear in the picture), triangles that cross the near
plane are clipped, both sides of a face are drawn (scanned surfaces are open), and of two surfaces at
one depth the first face wins. Checked against Open3D's ray casting in the tests.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import inverse

from offline.data_engine.seeing.surface import Surface

NEAR = 0.01
"""Nearer surface is not drawn [m]."""


@dataclass(frozen=True)
class ZBuffer:
    """A rendered window of a picture.

    Attributes:
        depth: (h, w) float32 along the optical axis [m], 0 where there is no surface.
        ids: (h, w) int32 object id of the nearest surface, 0 = none or unannotated.
        origin: (u, v) of the window's first pixel in the camera's picture.
    """

    depth: np.ndarray
    ids: np.ndarray
    origin: tuple[int, int] = (0, 0)


def require_pinhole(camera: Camera, what: str) -> None:
    """Raise ValueError unless straight lines stay straight in ``camera``'s picture."""
    if camera.distortion_model != "none":
        raise ValueError(f"{what} has lens distortion ({camera.distortion_model}), expected a rectified picture")


class Projection:
    """A surface's vertices seen from one pose: computed once, rasterised for the scene and for single objects.

    Args:
        surface: of the scene.
        camera: without distortion.
        T_world_camera: 4x4.
    """

    def __init__(self, surface: Surface, camera: Camera, T_world_camera: np.ndarray):
        require_pinhole(camera, "camera")
        if not np.isfinite(T_world_camera).all():
            raise ValueError("cannot render from a pose that is not finite")
        self.surface = surface
        self.camera = camera
        self._k = tuple(np.float32(x) for x in (camera.fx, camera.fy, camera.cx, camera.cy))
        R = inverse(T_world_camera)[:3, :3].astype(np.float32)
        self._points = np.empty((len(surface.vertices), 3), np.float32)
        self._pixels = np.empty((len(surface.vertices), 3), np.float32)
        centre = T_world_camera[:3, 3].astype(np.float32)
        fx, fy, cx, cy = self._k
        _project(surface.vertices, R, centre, fx, fy, cx, cy, np.float32(NEAR), self._points, self._pixels)

    def render(self, faces: slice | None = None, window: tuple[int, int, int, int] | None = None) -> ZBuffer:
        """Z-buffer of all faces, or of one object's range, in ``window`` (u0, v0, u1, v1; end exclusive).

        The default window is the picture; one that reaches beyond it shows what the frame cuts off.
        """
        u0, v0, u1, v1 = window or (0, 0, self.camera.width, self.camera.height)
        lo, hi, _ = (faces or slice(None)).indices(len(self.surface.faces))
        return self._run(((lo, hi),), (u0, v0, u1, v1))

    def render_without(self, faces: slice, window: tuple[int, int, int, int]) -> ZBuffer:
        """Z-buffer of everything but one object's range of faces."""
        return self._run(((0, faces.start), (faces.stop, len(self.surface.faces))), window)

    def _run(self, ranges, window) -> ZBuffer:
        u0, v0, u1, v1 = window
        depth = np.zeros((v1 - v0, u1 - u0), np.float32)
        ids = np.zeros(depth.shape, np.int32)
        fx, fy, cx, cy = self._k
        for lo, hi in ranges:
            _rasterise(
                self._points,
                self._pixels,
                self.surface.faces,
                self.surface.face_ids,
                lo,
                hi,
                fx,
                fy,
                cx,
                cy,
                np.float32(NEAR),
                u0,
                v0,
                depth,
                ids,
            )
        np.divide(np.float32(1), depth, out=depth, where=depth > 0)
        return ZBuffer(depth, ids, (u0, v0))

    def window(self, faces: slice, limits: tuple[int, int, int, int]) -> tuple[int, int, int, int] | None:
        """The pixels that a range of faces may touch, within ``limits``; None if there are none."""
        box = _bounds(self._points, self._pixels, self.surface.faces, faces.start, faces.stop, np.float32(NEAR))
        if box[0] > box[2]:
            return None
        u0, v0 = max(np.ceil(box[0]), limits[0]), max(np.ceil(box[1]), limits[1])
        u1, v1 = min(np.floor(box[2]) + 1, limits[2]), min(np.floor(box[3]) + 1, limits[3])
        return (int(u0), int(v0), int(u1), int(v1)) if u0 < u1 and v0 < v1 else None


@numba.njit(cache=True, error_model="numpy")
def _project(vertices, R, centre, fx, fy, cx, cy, near, points, pixels):
    """World vertices -> camera points (x, y, z) and pixels (u, v, 1 / z); 1 / z is 0 in front of the near plane."""
    for i in range(len(vertices)):
        # Subtracting the camera first keeps float32 exact to micrometres far from the world's origin.
        x, y, z = vertices[i, 0] - centre[0], vertices[i, 1] - centre[1], vertices[i, 2] - centre[2]
        px = R[0, 0] * x + R[0, 1] * y + R[0, 2] * z
        py = R[1, 0] * x + R[1, 1] * y + R[1, 2] * z
        pz = R[2, 0] * x + R[2, 1] * y + R[2, 2] * z
        points[i, 0], points[i, 1], points[i, 2] = px, py, pz
        q = np.float32(1.0) / pz if pz >= near else np.float32(0.0)
        pixels[i, 0] = fx * px * q + cx
        pixels[i, 1] = fy * py * q + cy
        pixels[i, 2] = q


@numba.njit(cache=True, error_model="numpy")
def _span(offset, inverse, lo, hi):
    """Cut [lo, hi] to where offset + x / inverse >= 0; ``inverse`` 0 stands for a weight that is constant along x."""
    if inverse > 0.0:
        return max(lo, -offset * inverse), hi
    if inverse < 0.0:
        return lo, min(hi, -offset * inverse)
    return (lo, hi) if offset >= -1e-9 else (1.0, -1.0)


@numba.njit(cache=True, error_model="numpy")
def _triangle(u0, v0, q0, u1, v1, q1, u2, v2, q2, left, top, face_id, buffer, ids):
    """Draw one triangle, given as pixels and 1 / z, into ``buffer`` (1 / z, greater is nearer)."""
    h, w = buffer.shape
    x_first = max(np.int64(np.ceil(min(u0, u1, u2))) - left, 0)
    x_last = min(np.int64(np.floor(max(u0, u1, u2))) - left, w - 1)
    y_first = max(np.int64(np.ceil(min(v0, v1, v2))) - top, 0)
    y_last = min(np.int64(np.floor(max(v0, v1, v2))) - top, h - 1)
    if x_first > x_last or y_first > y_last:
        return
    # float64 for the edges: a product of float32 coordinates is then exact, so neighbours leave no crack.
    ax, ay = np.float64(u1) - u0, np.float64(v1) - v0
    bx, by = np.float64(u2) - u0, np.float64(v2) - v0
    area = ax * by - bx * ay
    if area == 0.0:
        return
    # Barycentric weights of vertices 1 and 2 are linear in the pixel.
    dx1, dy1 = by / area, -bx / area
    dx2, dy2 = -ay / area, ax / area
    dx0, dy0 = -dx1 - dx2, -dy1 - dy2
    dq1, dq2 = np.float64(q1) - q0, np.float64(q2) - q0
    dqx, dqy = dx1 * dq1 + dx2 * dq2, dy1 * dq1 + dy2 * dq2
    inverse0 = 1.0 / dx0 if dx0 != 0.0 else 0.0
    inverse1 = 1.0 / dx1 if dx1 != 0.0 else 0.0
    inverse2 = 1.0 / dx2 if dx2 != 0.0 else 0.0
    for y in range(y_first, y_last + 1):
        oy = np.float64(y + top) - v0
        # Where all three weights are positive along this row, counted from vertex 0.
        lo, hi = _span(1.0 + dy0 * oy, inverse0, np.float64(x_first + left) - u0, np.float64(x_last + left) - u0)
        lo, hi = _span(dy1 * oy, inverse1, lo, hi)
        lo, hi = _span(dy2 * oy, inverse2, lo, hi)
        # An edge that passes within a millionth of a pixel's centre takes the pixel, for both its triangles.
        begin, end = np.int64(np.ceil(lo + u0 - 1e-6)) - left, np.int64(np.floor(hi + u0 + 1e-6)) - left
        q = q0 + dqy * oy + dqx * (np.float64(begin + left) - u0)
        for x in range(max(begin, x_first), min(end, x_last) + 1):
            nearness = np.float32(q + dqx * (x - begin))
            if nearness > buffer[y, x]:
                buffer[y, x] = nearness
                ids[y, x] = face_id


@numba.njit(cache=True, error_model="numpy")
def _rasterise(points, pixels, faces, face_ids, lo, hi, fx, fy, cx, cy, near, left, top, buffer, ids):
    polygon = np.empty((4, 3), np.float32)
    for f in range(lo, hi):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        qa, qb, qc = pixels[a, 2], pixels[b, 2], pixels[c, 2]
        if qa > 0 and qb > 0 and qc > 0:
            _triangle(
                pixels[a, 0],
                pixels[a, 1],
                qa,
                pixels[b, 0],
                pixels[b, 1],
                qb,
                pixels[c, 0],
                pixels[c, 1],
                qc,
                left,
                top,
                face_ids[f],
                buffer,
                ids,
            )
        elif qa > 0 or qb > 0 or qc > 0:
            n = _clip(points, faces[f], fx, fy, cx, cy, near, polygon)
            for k in range(1, n - 1):
                _triangle(
                    polygon[0, 0],
                    polygon[0, 1],
                    polygon[0, 2],
                    polygon[k, 0],
                    polygon[k, 1],
                    polygon[k, 2],
                    polygon[k + 1, 0],
                    polygon[k + 1, 1],
                    polygon[k + 1, 2],
                    left,
                    top,
                    face_ids[f],
                    buffer,
                    ids,
                )


@numba.njit(cache=True, error_model="numpy")
def _clip(points, face, fx, fy, cx, cy, near, polygon):
    """Cut a triangle at z = near (Sutherland-Hodgman); fills (u, v, 1 / z) of 3 or 4 corners, returns how many."""
    n = 0
    for k in range(3):
        a, b = points[face[k]], points[face[(k + 1) % 3]]
        if a[2] >= near:
            q = np.float32(1.0) / a[2]
            polygon[n, 0], polygon[n, 1], polygon[n, 2] = fx * a[0] * q + cx, fy * a[1] * q + cy, q
            n += 1
        if (a[2] >= near) != (b[2] >= near):
            t = (near - a[2]) / (b[2] - a[2])
            q = np.float32(1.0) / near
            polygon[n, 0] = fx * (a[0] + t * (b[0] - a[0])) * q + cx
            polygon[n, 1] = fy * (a[1] + t * (b[1] - a[1])) * q + cy
            polygon[n, 2] = q
            n += 1
    return n


@numba.njit(cache=True, error_model="numpy")
def _bounds(points, pixels, faces, lo, hi, near):
    """(u_min, v_min, u_max, v_max) of faces [lo, hi); infinite where one crosses the near plane."""
    box = np.array([np.inf, np.inf, -np.inf, -np.inf])
    for f in range(lo, hi):
        ahead = 0
        for k in range(3):
            if points[faces[f, k], 2] >= near:
                ahead += 1
        if ahead == 0:
            continue
        if ahead < 3:
            return np.array([-np.inf, -np.inf, np.inf, np.inf])
        for k in range(3):
            u, v = np.float64(pixels[faces[f, k], 0]), np.float64(pixels[faces[f, k], 1])
            box[0], box[1] = min(box[0], u), min(box[1], v)
            box[2], box[3] = max(box[2], u), max(box[3], v)
    return box
