"""An object painted out of a view: first with what other views saw behind it, the rest by classical inpainting.

The background's shape is the mesh drawn without the object. Each of its pixels is looked up in other views
by depth and pose; a view may answer only if its own sensor measured that surface there and the object does
not stand in the way. What no view saw is filled by an ``Inpainter``, which may be a learned one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import cv2
import numba
import numpy as np
from roboref_core.geometry.camera import Camera, map_pixels
from roboref_core.geometry.pose import inverse, transform
from roboref_core.views.visibility import DepthTolerance

from offline.data_engine.five_frames import mask_box
from offline.data_engine.seeing.surface import Surface
from offline.data_engine.seeing.visibility import FrameVisibility
from offline.data_engine.seeing.zbuffer import NEAR, Projection

_FEATHER = 5.0
"""The fill fades into the picture over this many pixels, inside the dilated mask."""
_CLEAR = 0.01
"""Other things are spared this far from the object: nearer, a picture may show its rim (share of the diagonal)."""
_RIM = 0.012
"""Around the object no other view is believed: silhouettes are off by pose errors (share of the diagonal)."""
_IN_FRONT = 0.01
"""Background this much nearer than the object in a source view is seen before it, not behind it [m]."""
_CLASSICAL_SIDE = 256
"""Classical inpainting works on a copy whose hole is at most this large [pixel]: its cost grows with the hole."""


class Inpainter(Protocol):
    """Fills what no other view saw. ``name`` is recorded with the data."""

    name: str

    def fill(self, image: np.ndarray, hole: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 RGB and (H, W) bool -> (H, W, 3) uint8, equal to ``image`` outside the hole."""


class ClassicalInpainter:
    """Telea's fast marching method (2004), as OpenCV has it."""

    name = "telea"

    def fill(self, image: np.ndarray, hole: np.ndarray) -> np.ndarray:
        if not hole.any():
            return image.copy()
        pad = 32
        u0, v0, u1, v1 = mask_box(hole)
        window = slice(max(0, v0 - pad), v1 + pad + 1), slice(max(0, u0 - pad), u1 + pad + 1)
        part, part_hole = np.ascontiguousarray(image[window]), hole[window].astype(np.uint8)
        h, w = part_hole.shape
        scale = min(1.0, _CLASSICAL_SIDE / max(h, w))
        size = (max(1, round(w * scale)), max(1, round(h * scale)))
        # A hole pixel must not leak into the small copy: any touched pixel counts as hole.
        small_hole = cv2.resize(part_hole * 255, size, interpolation=cv2.INTER_AREA) > 0
        small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        filled = cv2.inpaint(small, small_hole.astype(np.uint8), 5, cv2.INPAINT_TELEA)
        filled = cv2.resize(filled, (w, h), interpolation=cv2.INTER_LINEAR)
        out = image.copy()
        out[window] = np.where(part_hole[..., None] > 0, filled, part)
        return out


@dataclass(frozen=True)
class SourceView:
    """A view that may have seen the background.

    Attributes:
        color: (H, W, 3) uint8 RGB of ``camera``.
        depth: (h, w) float32 [m] of ``depth_camera``.
        T_world_camera: 4x4.
    """

    color: np.ndarray
    camera: Camera
    depth: np.ndarray
    depth_camera: Camera
    T_world_camera: np.ndarray
    _projections: dict[int, Projection] = field(default_factory=dict, init=False, repr=False, compare=False)

    def projection(self, surface: Surface) -> Projection:
        """The surface as this view's depth camera sees it: computed once for all objects that are looked up in it."""
        if id(surface) not in self._projections:
            self._projections[id(surface)] = Projection(surface, self.depth_camera, self.T_world_camera)
        return self._projections[id(surface)]


@dataclass(frozen=True)
class Inpainted:
    """A view without the object.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        warped, classical: share of the hole filled from other views and by the inpainter; they add up to 1.
    """

    image: np.ndarray
    warped: float
    classical: float


def dilate(mask: np.ndarray, fraction: float) -> np.ndarray:
    """(H, W) bool grown by a radius of ``fraction`` of the picture's diagonal."""
    radius = fraction * float(np.hypot(*mask.shape))
    grown = mask.copy()
    if mask.any():
        u0, v0, u1, v1 = mask_box(mask)
        reach = int(np.ceil(radius))
        part = (slice(max(0, v0 - reach), v1 + reach + 1), slice(max(0, u0 - reach), u1 + reach + 1))
        outside = (~mask[part]).astype(np.uint8)
        grown[part] = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= radius
    return grown


def paint_hole(frame: FrameVisibility, mask: np.ndarray, fraction: float, others: Sequence[int]) -> np.ndarray:
    """What to paint over: the mask grown by ``fraction`` of the diagonal, less the ``others`` clear of its rim.

    Things that stand before the object or beside it are not part of it; repainting them only spoils them.
    """
    hole = dilate(mask, fraction)
    near = dilate(mask, min(fraction, _CLEAR))
    u0, v0, u1, v1 = mask_box(hole)
    part = slice(v0, v1 + 1), slice(u0, u1 + 1)
    hole[part] &= near[part] | ~np.isin(frame.zbuffer.ids[part], np.asarray(others, dtype=np.int32))
    return hole


def rank_sources(
    frame: FrameVisibility, object_id: int, hole: np.ndarray, seen: dict[int, np.ndarray], poses: np.ndarray, most: int
) -> list[int]:
    """Frames that together saw most of what lies behind an object: each next one adds the most that is still missing.

    Once nothing more can be added, the rest of the frames are ranked in the same way, since samples are sparse.

    Args:
        frame: the view to be painted.
        hole: (H, W) bool.
        seen: frame position -> bits of the surface's sample points that its sensor saw (``PointCounter.count``).
        poses: (N, 4, 4) T_world_camera.
        most: length of the result.
    """
    surface = frame.surface
    k = surface.index(object_id)
    index, u, v = frame.sample_pixels
    behind = hole[v, u] & ((index < surface.point_starts[k]) | (index >= surface.point_starts[k + 1]))
    index = index[behind]
    if len(index) == 0 or not seen:
        return []
    frames = sorted(seen)
    words, bits = index >> 6, (index & 63).astype(np.uint64)
    sees = np.stack([(seen[i][words] >> bits) & np.uint64(1) for i in frames]).astype(bool)
    # Of two that saw as much, the nearer one needs less stretching.
    distance = np.linalg.norm(np.asarray(poses)[frames, :3, 3] - frame.T_world_camera[:3, 3], axis=1)
    missing = np.ones(len(index), dtype=bool)
    chosen: list[int] = []
    while len(chosen) < most:
        gain = (sees & missing).sum(axis=1) / (1 + distance)
        best = int(np.argmax(gain))
        if gain[best] == 0:
            if missing.all():
                break
            missing[:] = True
            continue
        chosen.append(frames[best])
        missing &= ~sees[best]
        sees[best] = False
    return chosen


def inpaint(
    frame: FrameVisibility,
    color: np.ndarray,
    object_id: int,
    hole: np.ndarray,
    sources: Sequence[SourceView],
    inpainter: Inpainter | None = None,
    tolerance: DepthTolerance | None = None,
    region: np.ndarray | None = None,
) -> Inpainted:
    """Paint an object out.

    Args:
        frame: visibility of the view, on the grid of ``color``.
        color: (H, W, 3) uint8 RGB.
        hole: (H, W) bool, the object with a margin.
        sources: views that may have seen the background, in order of preference.
        inpainter: for what they did not see.
        region: (H, W) bool, the object itself, of which nothing may shimmer through; None: it is taken to end where the
            fill's fading into the picture begins.
    """
    inpainter = inpainter or ClassicalInpainter()
    tolerance = tolerance or DepthTolerance()
    h, w = hole.shape
    if not hole.any():
        return Inpainted(color.copy(), 0.0, 0.0)
    # A ring around the hole shows how each source's exposure differs from this view's.
    ring = dilate(hole, 0.01) & ~hole
    u0, v0, u1, v1 = mask_box(hole)
    pad = round(0.01 * np.hypot(h, w)) + 1
    v0, v1, u0, u1 = max(0, v0 - pad), min(h, v1 + 1 + pad), max(0, u0 - pad), min(w, u1 + 1 + pad)
    faces = frame.surface.object_faces(object_id)
    background = frame.projection.render_without(faces, (u0, v0, u1, v1)).depth
    near = hole | ring
    depth = np.zeros((h, w), np.float32)
    depth[v0:v1, u0:u1] = np.where(near[v0:v1, u0:u1], background, 0)
    v, u = np.nonzero(depth)
    points = transform(frame.T_world_camera, frame.camera.unproject(np.stack([u, v], axis=1), depth[v, u]))

    image = color.copy()
    open_ = hole[v, u].copy()
    on_ring = ring[v, u]
    for source in sources:
        if not open_.any():
            break
        values, valid = _look_up(source, points, frame, object_id, tolerance)
        use = open_ & valid
        if not use.any():
            continue
        gain = _gain(color[v[on_ring & valid], u[on_ring & valid]], values[on_ring & valid])
        image[v[use], u[use]] = np.clip(np.rint(values[use] * gain), 0, 255)
        open_ &= ~valid
    rest = hole.copy()
    rest[v, u] &= open_
    warped = 1.0 - np.count_nonzero(rest) / np.count_nonzero(hole)
    if rest.any():
        image = inpainter.fill(image, rest)
    return Inpainted(_feather(color, image, hole, region), warped, 1.0 - warped)


def depth_without(frame: FrameVisibility, object_id: int, hole: np.ndarray) -> np.ndarray:
    """The frame's sensor depth with the background's in place of the object: (h, w) float32 [m] of its depth camera.

    Args:
        hole: (H, W) bool on the frame's own grid.
    """
    camera = frame.depth_camera
    out = frame.depth.copy()
    here = _window_of(hole, frame.camera, camera)
    if here is None:
        return out
    u0, v0, u1, v1 = here
    v, u = np.mgrid[v0:v1, u0:u1]
    at = np.rint(map_pixels(np.stack([u.ravel(), v.ravel()], axis=1), camera, frame.camera)).astype(np.int64)
    inside = frame.camera.contains(at)
    in_hole = np.zeros(len(at), dtype=bool)
    in_hole[inside] = hole[at[inside, 1], at[inside, 0]]
    projection = Projection(frame.surface, camera, frame.T_world_camera)
    background = projection.render_without(frame.surface.object_faces(object_id), here).depth
    part = slice(v0, v1), slice(u0, u1)
    out[part] = np.where(in_hole.reshape(v.shape), background, out[part])
    return out


def _window_of(mask: np.ndarray, camera: Camera, other: Camera) -> tuple[int, int, int, int] | None:
    """(u0, v0, u1, v1), end exclusive, of ``other``'s pixels that may lie in a mask of ``camera``; None if none do."""
    if not mask.any():
        return None
    u0, v0, u1, v1 = mask_box(mask)
    corners = map_pixels(np.array([(u, v) for u in (u0 - 1, u1 + 1) for v in (v0 - 1, v1 + 1)]), camera, other)
    low = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int)
    high = np.minimum(np.ceil(corners.max(axis=0)) + 1, (other.width, other.height)).astype(int)
    return (*low.tolist(), *high.tolist()) if (low < high).all() else None


def _look_up(source: SourceView, points: np.ndarray, frame: FrameVisibility, object_id: int, tolerance: DepthTolerance):
    """(n, 3) float colours of world points in a source view, and (n,) bool where it really saw them."""
    h, w = source.depth.shape
    # A thin object lies within the tolerance of what is behind it: where it stands in the source, do not look.
    nearest = np.full((h, w), np.inf, np.float32)
    projection = source.projection(frame.surface)
    faces = frame.surface.object_faces(object_id)
    window = projection.window(faces, (0, 0, w, h))
    if window is not None:
        alone = projection.render(faces, window).depth
        nearest[window[1] : window[3], window[0] : window[2]] = np.where(alone > 0, alone, np.float32(np.inf))
        size = 2 * round(_RIM * np.hypot(h, w)) + 1
        nearest = np.asarray(cv2.erode(nearest, np.ones((size, size), np.uint8)), np.float32)
    color, depth = source.camera, source.depth_camera
    # cv2.remap takes pictures of less than 2^15 rows: the points go in as rows of 4096.
    u, v = np.zeros((2, -(-len(points) // 4096) * 4096), np.float32)
    valid = np.zeros(len(points), dtype=bool)
    _see(
        points,
        inverse(source.T_world_camera),
        (color.fx, color.fy, color.cx, color.cy, color.width, color.height),
        (depth.fx, depth.fy, depth.cx, depth.cy),
        source.depth,
        nearest,
        tolerance.a,
        tolerance.b,
        u,
        v,
        valid,
    )
    values = cv2.remap(
        source.color, u.reshape(-1, 4096), v.reshape(-1, 4096), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return values.reshape(-1, 3)[: len(points)].astype(np.float32), valid


@numba.njit(cache=True, error_model="numpy")
def _see(points, T, color, depth_k, depth, nearest, a, b, u, v, valid):
    """Pixels of world points in a view's colour image, and whether its sensor measured them, before the object."""
    h, w = depth.shape
    for i in range(len(points)):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        pz = T[2, 0] * x + T[2, 1] * y + T[2, 2] * z + T[2, 3]
        if pz < NEAR:
            continue
        px = (T[0, 0] * x + T[0, 1] * y + T[0, 2] * z + T[0, 3]) / pz
        py = (T[1, 0] * x + T[1, 1] * y + T[1, 2] * z + T[1, 3]) / pz
        u[i], v[i] = color[0] * px + color[2], color[1] * py + color[3]
        column, row = np.int64(np.rint(depth_k[0] * px + depth_k[2])), np.int64(np.rint(depth_k[1] * py + depth_k[3]))
        if not (-0.5 <= u[i] < color[4] - 0.5 and -0.5 <= v[i] < color[5] - 0.5):
            continue
        if not (0 <= column < w and 0 <= row < h):
            continue
        # NaN compares false: a hole in the depth does not prove that the background was seen.
        measured = depth[row, column]
        valid[i] = measured > 0 and abs(measured - pz) <= a + b * pz and nearest[row, column] > pz + _IN_FRONT


def _gain(wanted: np.ndarray, given: np.ndarray) -> np.ndarray:
    """(3,) factors that bring a source's exposure to this view's; 1 if too little is seen in both to tell."""
    if len(wanted) < 50:
        return np.ones(3, np.float32)
    ratio = (wanted.astype(np.float32) + 8) / (given + 8)
    return np.clip(np.median(ratio, axis=0), 0.6, 1.6)


def _feather(color: np.ndarray, image: np.ndarray, hole: np.ndarray, region: np.ndarray | None) -> np.ndarray:
    u0, v0, u1, v1 = mask_box(hole)
    part = (slice(max(0, v0 - 1), v1 + 2), slice(max(0, u0 - 1), u1 + 2))
    inside = cv2.distanceTransform(hole[part].astype(np.uint8), cv2.DIST_L2, 3)
    weight = np.clip(inside / _FEATHER, 0, 1)
    if region is not None:
        # Pixels beside the object hold some of its colour.
        weight[cv2.dilate(region[part].astype(np.uint8), np.ones((5, 5), np.uint8)) > 0] = 1
        weight[~hole[part]] = 0
    weight = weight[..., None]
    out = color.copy()
    out[part] = np.rint(color[part] + weight * (image[part].astype(np.float32) - color[part])).astype(np.uint8)
    return out
