"""The colour of a pixel from the triangle it sees: pattern, lamp with shadow, soft light from above."""

from __future__ import annotations

import math

import numba
import numpy as np

from sim.rooms.materials import blend


@numba.njit(cache=True, nogil=True, error_model="numpy")
def resolve(inverse_depth, face_index, face_object, depth, ids):
    """Z-buffer -> depth (H, W) float32 [m], 0 where nothing is seen, and ids (H, W) int32 (0 = none)."""
    height, width = inverse_depth.shape
    for v in range(height):
        for u in range(width):
            f = face_index[v, u]
            if f < 0:
                depth[v, u], ids[v, u] = 0.0, 0
            else:
                depth[v, u], ids[v, u] = 1.0 / inverse_depth[v, u], face_object[f]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _lit(shadow, T_map_world, lens, x, y, z):
    """Share of the lamp's light that reaches a point: bilinear over four comparisons in its depth map."""
    a = T_map_world[0, 0] * x + T_map_world[0, 1] * y + T_map_world[0, 2] * z + T_map_world[0, 3]
    b = T_map_world[1, 0] * x + T_map_world[1, 1] * y + T_map_world[1, 2] * z + T_map_world[1, 3]
    c = T_map_world[2, 0] * x + T_map_world[2, 1] * y + T_map_world[2, 2] * z + T_map_world[2, 3]
    if c < 0.05:
        return 1.0
    u, v = lens[0] * a / c + lens[2], lens[1] * b / c + lens[3]
    size = len(shadow)
    if not (u >= 0.0 and v >= 0.0 and u < size - 1 and v < size - 1):
        return 1.0
    i, j = int(u), int(v)
    s, t = u - i, v - j
    limit = 1.0 / (c - 0.01)
    p00 = 1.0 if shadow[j, i] <= limit else 0.0
    p01 = 1.0 if shadow[j, i + 1] <= limit else 0.0
    p10 = 1.0 if shadow[j + 1, i] <= limit else 0.0
    p11 = 1.0 if shadow[j + 1, i + 1] <= limit else 0.0
    return (p00 * (1 - s) + p01 * s) * (1 - t) + (p10 * (1 - s) + p11 * s) * t


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _weights(vertices, i0, i1, i2, px, py, pz):
    """Barycentric coordinates of a point on a triangle."""
    ax, ay, az = vertices[i0, 0], vertices[i0, 1], vertices[i0, 2]
    e1x, e1y, e1z = vertices[i1, 0] - ax, vertices[i1, 1] - ay, vertices[i1, 2] - az
    e2x, e2y, e2z = vertices[i2, 0] - ax, vertices[i2, 1] - ay, vertices[i2, 2] - az
    qx, qy, qz = px - ax, py - ay, pz - az
    d11, d12 = e1x * e1x + e1y * e1y + e1z * e1z, e1x * e2x + e1y * e2y + e1z * e2z
    d22 = e2x * e2x + e2y * e2y + e2z * e2z
    s1, s2 = qx * e1x + qy * e1y + qz * e1z, qx * e2x + qy * e2y + qz * e2z
    area = d11 * d22 - d12 * d12
    if area <= 0.0:
        return 1.0, 0.0, 0.0
    scale = 1.0 / area
    w1, w2 = (d22 * s1 - d12 * s2) * scale, (d11 * s2 - d12 * s1) * scale
    return 1.0 - w1 - w2, w1, w2


@numba.njit(cache=True, nogil=True, error_model="numpy")
def shade_pixels(
    inverse_depth,
    face_index,
    ray_x,
    ray_y,
    eye,
    R,
    vertices,
    normals,
    local,
    faces,
    vertex_material,
    materials,
    light,
    power,
    shadow,
    T_map_world,
    map_lens,
    color,
):
    """Fill ``color`` (H, W, 3) uint8.

    Args:
        inverse_depth, face_index: z-buffer of ``rasterise``.
        ray_x, ray_y: (H, W) viewing directions.
        eye, R: (3,) camera centre and (3, 3) rotation of T_world_camera.
        vertices, normals, local, faces, vertex_material, materials: of a Geometry.
        light: (3,) position of the lamp, world [m].
        power: how bright it is, 1 = as rooms are made.
        shadow, T_map_world, map_lens: inverse depth seen from the lamp, its pose and intrinsics.
    """
    height, width = inverse_depth.shape
    for v in range(height):
        for u in range(width):
            f = face_index[v, u]
            if f < 0:
                color[v, u, 0], color[v, u, 1], color[v, u, 2] = 20, 20, 24
                continue
            z = 1.0 / inverse_depth[v, u]
            rx, ry = ray_x[v, u] * z, ray_y[v, u] * z
            px = eye[0] + R[0, 0] * rx + R[0, 1] * ry + R[0, 2] * z
            py = eye[1] + R[1, 0] * rx + R[1, 1] * ry + R[1, 2] * z
            pz = eye[2] + R[2, 0] * rx + R[2, 1] * ry + R[2, 2] * z
            i0, i1, i2 = faces[f, 0], faces[f, 1], faces[f, 2]
            m = vertex_material[i0]
            nx, ny, nz = normals[i0, 0], normals[i0, 1], normals[i0, 2]
            flat = nx == normals[i1, 0] and ny == normals[i1, 1] and nz == normals[i1, 2]
            flat = flat and nx == normals[i2, 0] and ny == normals[i2, 1] and nz == normals[i2, 2]
            share = 0.0
            if materials[m, 0] > 0.0 or not flat:
                w0, w1, w2 = _weights(vertices, i0, i1, i2, px, py, pz)
                if not flat:
                    nx = w0 * nx + w1 * normals[i1, 0] + w2 * normals[i2, 0]
                    ny = w0 * ny + w1 * normals[i1, 1] + w2 * normals[i2, 1]
                    nz = w0 * nz + w1 * normals[i1, 2] + w2 * normals[i2, 2]
                    scale = 1.0 / (math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-12)
                    nx, ny, nz = nx * scale, ny * scale, nz * scale
                if materials[m, 0] > 0.0:
                    lx = w0 * local[i0, 0] + w1 * local[i1, 0] + w2 * local[i2, 0]
                    ly = w0 * local[i0, 1] + w1 * local[i1, 1] + w2 * local[i2, 1]
                    lz = w0 * local[i0, 2] + w1 * local[i1, 2] + w2 * local[i2, 2]
                    share = blend(int(materials[m, 0]), materials[m, 1], lx, ly, lz)
            tx, ty, tz = light[0] - px, light[1] - py, light[2] - pz
            far2 = tx * tx + ty * ty + tz * tz + 1e-9
            facing = nx * tx + ny * ty + nz * tz
            # Light that has bounced around the room comes mostly from above.
            bright = 0.50 + 0.14 * nz
            if facing > 0.0:
                far = math.sqrt(far2)
                lamp = power * 0.992 * facing / (far * (0.6 + 0.16 * far2))
                # Looked up beside the surface, by more than a texel of the map: else it would shadow itself.
                off = 0.01 + 2.2 * far / map_lens[0]
                bright += min(lamp, 0.55 * max(power, 1.0)) * _lit(
                    shadow, T_map_world, map_lens, px + off * nx, py + off * ny, pz + off * nz
                )
            glow = materials[m, 2]
            bright = 255.0 * (glow + (1.0 - glow) * bright)
            for c in range(3):
                value = (materials[m, 3 + c] * (1 - share) + materials[m, 6 + c] * share) * bright
                color[v, u, c] = np.uint8(min(255.0, value + 0.5))
