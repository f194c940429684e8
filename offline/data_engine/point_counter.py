"""Which objects might a frame see? Every sample point of every object against the sensor depth, in a fraction of a
millisecond: points are tested in clusters against the view frustum, then many at a time.
"""
from __future__ import annotations

import numba
import numpy as np
from roboref_core.camera import Camera
from roboref_core.pose import inverse
from roboref_core.visibility import DepthTolerance

from offline.data_engine.surface import CLUSTER, Surface
from offline.data_engine.zbuffer import NEAR, require_pinhole


class PointCounter:
    """Counts each object's sample points by state, against the sensor depth alone.

    Args:
        surface: of the scene.
        depth_camera: of all frames.
        tolerance: what still counts as the same surface.
    """

    def __init__(self, surface: Surface, depth_camera: Camera, tolerance: DepthTolerance | None = None):
        require_pinhole(depth_camera, "depth camera")
        self.surface = surface
        self.camera = depth_camera
        tolerance = tolerance or DepthTolerance()
        camera = (depth_camera.fx, depth_camera.fy, depth_camera.cx, depth_camera.cy)
        self._xyz = tuple(np.ascontiguousarray(surface.points[:, axis]) for axis in range(3))
        self._constants = tuple(np.float32(x) for x in (*camera, NEAR, tolerance.a, tolerance.b))

    def count(
        self, depth: np.ndarray, T_world_camera: np.ndarray, wanted: np.ndarray | None = None, unit: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Test the points of the objects that are ``wanted`` ((O,) bool, default all).

        Args:
            depth: (h, w) float32 [m], or as stored with ``unit`` metres per step; 0 or non-finite = none.
            T_world_camera: 4x4.

        Returns:
            (O, 5) int32 counts by ``visibility.STATES``, and (ceil(P / 64),) uint64 bits of the VISIBLE points.
        """
        self.camera.check_size(depth.shape, "depth image")
        surface = self.surface
        wanted = np.ones(len(surface.object_ids), dtype=bool) if wanted is None else wanted
        counts = np.zeros((len(surface.object_ids), 5), np.int32)
        bits = np.zeros((len(surface.points) + 63) // 64, np.uint64)
        R = inverse(T_world_camera)[:3, :3].astype(np.float32)
        centre = T_world_camera[:3, 3].astype(np.float32)
        _count_points(
            *self._xyz, surface.cluster_starts, surface.cluster_objects, surface.spheres, wanted, R, centre,
            *self._constants, np.ascontiguousarray(depth), np.float32(unit), counts, bits,
        )
        return counts, bits


@numba.njit(cache=True, error_model="numpy")
def _count_points(
    xs, ys, zs, starts, objects, spheres, wanted, R, centre, fx, fy, cx, cy, near, a, b, depth, unit, counts, bits
):
    h, w = depth.shape
    flat = depth.ravel()
    zero, half, one = np.float32(0.0), np.float32(0.5), np.float32(1.0)
    inf = np.float32(np.inf)
    right, bottom = np.float32(w) - half, np.float32(h) - half
    # Inner normals of the frustum's side planes (not unit length) and their lengths.
    left_x, right_x, top_y, bottom_y = cx + half, right - cx, cy + half, bottom - cy
    left_n, right_n = np.sqrt(fx * fx + left_x * left_x), np.sqrt(fx * fx + right_x * right_x)
    top_n, bottom_n = np.sqrt(fy * fy + top_y * top_y), np.sqrt(fy * fy + bottom_y * bottom_y)
    r00, r01, r02, r10, r11, r12 = R[0, 0], R[0, 1], R[0, 2], R[1, 0], R[1, 1], R[1, 2]
    r20, r21, r22 = R[2, 0], R[2, 1], R[2, 2]
    c0, c1, c2 = centre[0], centre[1], centre[2]
    pixel, seen = np.empty(CLUSTER, np.int32), np.empty(CLUSTER, np.uint8)
    ahead, measured = np.empty(CLUSTER, np.float32), np.empty(CLUSTER, np.float32)
    for c in range(len(objects)):
        k = objects[c]
        if not wanted[k]:
            continue
        lo = starts[c]
        n = starts[c + 1] - lo
        x, y, z = spheres[c, 0] - c0, spheres[c, 1] - c1, spheres[c, 2] - c2
        px, py, pz = r00 * x + r01 * y + r02 * z, r10 * x + r11 * y + r12 * z, r20 * x + r21 * y + r22 * z
        r = spheres[c, 3]
        if (
            pz + r < near
            or fx * px + left_x * pz < -r * left_n
            or -fx * px + right_x * pz < -r * right_n
            or fy * py + top_y * pz < -r * top_n
            or -fy * py + bottom_y * pz < -r * bottom_n
        ):
            counts[k, 1] += n
            continue
        # No branches in these loops, so that the compiler takes eight points or more at a time.
        for i in range(n):
            x, y, z = xs[lo + i] - c0, ys[lo + i] - c1, zs[lo + i] - c2
            pz = r20 * x + r21 * y + r22 * z
            q = one / pz
            u = fx * (r00 * x + r01 * y + r02 * z) * q + cx + half
            v = fy * (r10 * x + r11 * y + r12 * z) * q + cy + half
            inside = (pz >= near) & (u >= zero) & (u < right + half) & (v >= zero) & (v < bottom + half)
            # Truncation rounds to the nearest pixel, since half was added. A point outside reads any pixel: unused.
            column = np.int32(min(max(u, zero), right))
            row = np.int32(min(max(v, zero), bottom))
            pixel[i] = row * np.int32(w) + column if inside else np.int32(0)
            ahead[i] = pz if inside else np.float32(-1.0)
        for i in range(n):
            measured[i] = flat[pixel[i]]
        out = unknown = occluded = conflict = np.int32(0)
        for i in range(n):
            d, z = measured[i] * unit, ahead[i]
            limit = a + b * z
            inside = z > zero
            known = inside & (d > zero) & (d < inf)
            nearer, farther = known & (d < z - limit), known & (d > z + limit)
            out += np.int32(not inside)
            unknown += np.int32(inside & (not known))
            occluded += np.int32(nearer)
            conflict += np.int32(farther)
            seen[i] = known & (not nearer) & (not farther)
        visible = n - out - unknown - occluded - conflict
        if visible:
            _set_bits(seen, n, lo, bits)
        counts[k, 0] += visible
        counts[k, 1] += out
        counts[k, 2] += occluded
        counts[k, 3] += unknown
        counts[k, 4] += conflict


@numba.njit(cache=True)
def _set_bits(seen, n, first, bits):
    """Or the first ``n`` flags into ``bits``, from bit ``first`` on; each word is written once."""
    word, at, value = first >> 6, first & 63, np.uint64(0)
    for i in range(n):
        value |= np.uint64(seen[i]) << np.uint64(at)
        at += 1
        if at == 64:
            bits[word] |= value
            word, at, value = word + 1, 0, np.uint64(0)
    if at:
        bits[word] |= value
