"""Which objects might a frame see? Every sample point of every object against the sensor depth, in a fraction of a
millisecond: clusters of points are tested against the view frustum as a whole, the rest eight points at a time.
"""

from __future__ import annotations

import numba
import numpy as np
from roboref_core.geometry.camera import Camera
from roboref_core.views.visibility import DepthTolerance

from offline.data_engine.seeing.surface import CLUSTER, Surface
from offline.data_engine.seeing.zbuffer import NEAR, require_pinhole

_SLACK = np.float32(1e-3)
"""Boxes grow by this [m] before they meet the frustum, far more than the rounding of a point's own test, so that
culling never changes a count."""


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
        self._blocks = _blocks(surface)
        # One array, not seven numbers: handing arguments over takes a tenth of a call.
        self._constants = np.array([*camera, NEAR, tolerance.a, tolerance.b], np.float32)
        self._everything = np.ones(len(surface.object_ids), dtype=bool)

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
        counts = np.zeros((len(surface.object_ids), 5), np.int32)
        bits = np.zeros((len(surface.points) + 63) // 64, np.uint64)
        _count_points(
            self._blocks,
            surface.boxes,
            surface.cluster_starts,
            surface.cluster_objects,
            self._everything if wanted is None else wanted,
            np.ascontiguousarray(T_world_camera, np.float64),
            self._constants,
            np.ascontiguousarray(depth),
            float(unit),
            counts,
            bits,
        )
        return counts, bits


def _blocks(surface: Surface) -> np.ndarray:
    """(C, 3, CLUSTER) float32 coordinates of each cluster's points, filled up with NaN.

    Loops over a block have a constant length, which leaves the compiler no rest to treat apart; NaN is outside of every
    picture.
    """
    sizes = np.diff(surface.cluster_starts)
    row = np.repeat(np.arange(len(sizes)), sizes)
    column = np.arange(len(surface.points)) - surface.cluster_starts[row]
    blocks = np.full((len(sizes), 3, CLUSTER), np.nan, np.float32)
    blocks[row, :, column] = surface.points
    return blocks


@numba.njit(cache=True, error_model="numpy")
def _count_points(blocks, boxes, starts, objects, wanted, T, constants, depth, unit, counts, bits):
    fx, fy, cx, cy = constants[0], constants[1], constants[2], constants[3]
    near, a, b = constants[4], constants[5], constants[6]
    h, w = depth.shape
    flat = depth.ravel()
    unit = np.float32(unit)
    R, centre = T[:3, :3].T.astype(np.float32), T[:3, 3].astype(np.float32)
    zero, half, one = np.float32(0.0), np.float32(0.5), np.float32(1.0)
    inf, nan = np.float32(np.inf), np.float32(np.nan)
    right, bottom = np.float32(w) - half, np.float32(h) - half
    planes = _side_planes(R, fx, fy, cx + half, right - cx, cy + half, bottom - cy)
    r00, r01, r02, r10, r11, r12 = R[0, 0], R[0, 1], R[0, 2], R[1, 0], R[1, 1], R[1, 2]
    r20, r21, r22 = R[2, 0], R[2, 1], R[2, 2]
    c0, c1, c2 = centre[0], centre[1], centre[2]
    # Unsigned, or every read from the image would first be tested for an index that counts from the end.
    pixel, seen = np.empty(CLUSTER, np.uint32), np.empty(CLUSTER, np.uint8)
    ahead, measured = np.empty(CLUSTER, np.float32), np.empty(CLUSTER, depth.dtype)
    for c in range(len(objects)):
        k = objects[c]
        if not wanted[k]:
            continue
        n = starts[c + 1] - starts[c]
        if _misses(boxes[c], R, centre, planes, near):
            counts[k, 1] += n
            continue
        # Three loops without branches: arithmetic takes eight points at a time, and only the reads from the image,
        # which no instruction does faster than one by one, are apart.
        for i in range(CLUSTER):
            x, y, z = blocks[c, 0, i] - c0, blocks[c, 1, i] - c1, blocks[c, 2, i] - c2
            pz = r20 * x + r21 * y + r22 * z
            q = one / pz
            u = fx * (r00 * x + r01 * y + r02 * z) * q + cx + half
            v = fy * (r10 * x + r11 * y + r12 * z) * q + cy + half
            inside = (pz >= near) & (u >= zero) & (u < right + half) & (v >= zero) & (v < bottom + half)
            # Truncation rounds to the nearest pixel, since half was added. A point outside reads any pixel: unused.
            pixel[i] = np.uint32(np.int32(v) * w + np.int32(u)) if inside else np.uint32(0)
            ahead[i] = pz if inside else nan
        for i in range(CLUSTER):
            measured[i] = flat[pixel[i]]
        # Each of these includes the next. Sums are cast, since int32 + int32 is 64 bits wide: half as many at a time.
        inside = known = reached = visible = np.int32(0)
        for i in range(CLUSTER):
            d, z = np.float32(measured[i]) * unit, ahead[i]
            limit = a + b * z
            is_inside = z > zero
            is_known = is_inside & (d > zero) & (d < inf)
            is_reached = is_known & (d >= z - limit)
            is_visible = is_reached & (d <= z + limit)
            inside = np.int32(inside + np.int32(is_inside))
            known = np.int32(known + np.int32(is_known))
            reached = np.int32(reached + np.int32(is_reached))
            visible = np.int32(visible + np.int32(is_visible))
            seen[i] = is_visible
        if visible:
            _set_bits(seen, starts[c], bits)
        counts[k, 0] += visible
        counts[k, 1] += n - inside
        counts[k, 2] += known - reached
        counts[k, 3] += inside - known
        counts[k, 4] += reached - visible


@numba.njit(cache=True)
def _side_planes(R, fx, fy, left, right, top, bottom):
    """(4, 3) inner normals of the frustum's side planes in the world (not unit length), from the pixels that the
    picture reaches to each side of the optical axis.
    """
    planes = np.empty((4, 3), np.float32)
    for axis in range(3):
        planes[0, axis] = fx * R[0, axis] + left * R[2, axis]
        planes[1, axis] = -fx * R[0, axis] + right * R[2, axis]
        planes[2, axis] = fy * R[1, axis] + top * R[2, axis]
        planes[3, axis] = -fy * R[1, axis] + bottom * R[2, axis]
    return planes


@numba.njit(cache=True)
def _misses(box, R, centre, planes, near):
    """Is a box wholly outside one of the frustum's planes? Its farthest corner along the normal decides."""
    x, y, z = box[0] - centre[0], box[1] - centre[1], box[2] - centre[2]
    ex, ey, ez = box[3] + _SLACK, box[4] + _SLACK, box[5] + _SLACK
    nx, ny, nz = R[2, 0], R[2, 1], R[2, 2]
    outside = nx * x + ny * y + nz * z + abs(nx) * ex + abs(ny) * ey + abs(nz) * ez < near
    for k in range(4):
        nx, ny, nz = planes[k, 0], planes[k, 1], planes[k, 2]
        outside |= nx * x + ny * y + nz * z + abs(nx) * ex + abs(ny) * ey + abs(nz) * ez < np.float32(0.0)
    return outside


@numba.njit(cache=True)
def _set_bits(seen, first, bits):
    """Or a cluster's flags into ``bits``, from bit ``first`` on, a word at a time."""
    for part in range(0, CLUSTER, 64):
        value = np.uint64(0)
        for i in range(64):
            value |= np.uint64(seen[part + i]) << np.uint64(i)
        word, at = (first + part) >> 6, np.uint64((first + part) & 63)
        low, high = value << at, (value >> np.uint64(1)) >> (np.uint64(63) - at)
        if low:
            bits[word] |= low
        if high:
            bits[word + 1] |= high
