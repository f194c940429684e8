"""Which objects does a frame see? Decided from the mesh's z-buffer and the sensor's own depth together.

Neither alone is enough. A depth test alone misses what falls into sensor holes (one vertex in eight on
Kinect frames) and cannot tell a moved object from an occluded one; the mesh alone does not know what was
never reconstructed or has moved. Each object is also drawn alone, so that the pixels it would have
unoccluded (the amodal silhouette) are known, even beyond the picture's border. ``point_counter`` finds the
frames that are worth it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numba
import numpy as np
from roboref_core.geometry.camera import Camera
from roboref_core.views.visibility import DepthTolerance, Visibility

from offline.data_engine.seeing.hidden import Scenery, certainly_hidden, silhouette_inside, touches_picture
from offline.data_engine.seeing.surface import Surface
from offline.data_engine.seeing.zbuffer import Projection, ZBuffer, require_pinhole

STATES = (Visibility.VISIBLE, Visibility.OUT_OF_FRUSTUM, Visibility.OCCLUDED, Visibility.UNKNOWN, Visibility.CONFLICT)
"""Column order of all counts in this module."""
_VISIBLE, _OUT, _OCCLUDED, _UNKNOWN, _CONFLICT = range(5)
_BEYOND = 255
"""Pixel state outside the object's silhouette."""


@dataclass(frozen=True)
class VisibilityConfig:
    """When is an object seen?

    Attributes:
        tolerance: |sensor - mesh| that still counts as the same surface.
        min_pixels: fewer visible pixels leave an object UNKNOWN, not VISIBLE.
        margin_px: NOT_VISIBLE is certain only if it also holds for a picture displaced by this many pixels of a 640
            pixel wide image: errors of orientation and registration move silhouettes.
        margin_m: this is added to that, as what a shift of the camera by so much makes of it at the object's distance.
        speckle_px: contradictions by the sensor narrower than this, at 640 pixels, are noise, not an occluder.
    """

    tolerance: DepthTolerance = field(default_factory=DepthTolerance)
    min_pixels: int = 30
    margin_px: float = 3.0
    margin_m: float = 0.015
    speckle_px: float = 3.0


@dataclass(frozen=True)
class ObjectView:
    """How one frame sees one object.

    Attributes:
        object_id: id in the scene's instances.
        state: the verdict.
        counts: (5,) silhouette pixels by ``STATES``; OUT_OF_FRUSTUM counts those that the picture's border cuts off
            (within half a picture's size around it).
        fraction: visible share of the whole silhouette, [0, 1].
        area: visible pixels of the picture.
        box: (u0, v0, u1, v1) of the visible pixels, ends inclusive; None if there are none.
        border_distance: from that box to the picture's border [pixel], 0 = it touches.
        distance: from the camera to the middle of the object [m].
        direction: (3,) unit vector from the object's middle to the camera (world frame).
        elevation: angle of ``direction`` above the horizontal plane [rad].
        certainly_hidden: no part of it can be visible, even with pose and registration errors.
        hole_share: share of the pixels that the mesh shows where the sensor measured nothing.
        residual: mean |sensor - mesh| over the pixels where both agree on the object [m]; NaN if none.
    """

    object_id: int
    state: Visibility
    counts: np.ndarray
    fraction: float
    area: int
    box: tuple[int, int, int, int] | None
    border_distance: int
    distance: float
    direction: np.ndarray
    elevation: float
    certainly_hidden: bool
    hole_share: float
    residual: float


class FrameVisibility:
    """Exact visibility of a scene's objects in one frame, on the pixel grid of ``camera``.

    Args:
        surface: of the scene.
        camera: grid to decide on (the depth camera, or the colour camera for masks of the colour image).
        T_world_camera: 4x4.
        depth: (h, w) float32 [m], 0 or non-finite = no measurement.
        depth_camera: of ``depth``, registered to ``camera``.
        config: thresholds.
    """

    def __init__(
        self,
        surface: Surface,
        camera: Camera,
        T_world_camera: np.ndarray,
        depth: np.ndarray,
        depth_camera: Camera,
        config: VisibilityConfig | None = None,
    ):
        require_pinhole(depth_camera, "depth camera")
        depth_camera.check_size(depth.shape, "depth image")
        self.config = config or VisibilityConfig()
        self.surface = surface
        self.camera = camera
        self.T_world_camera = np.asarray(T_world_camera, dtype=np.float64)
        self.projection = Projection(surface, camera, self.T_world_camera)
        self.zbuffer: ZBuffer = self.projection.render()
        self.depth = np.ascontiguousarray(depth, dtype=np.float32)
        self.depth_camera = depth_camera
        self._scale = camera.width / 640
        # Colour and depth share centre and axes: pixels map by scale and offset, (su, ou, sv, ov).
        su, sv = depth_camera.fx / camera.fx, depth_camera.fy / camera.fy
        self._depth_map = (su, depth_camera.cx - camera.cx * su, sv, depth_camera.cy - camera.cy * sv)

    def sensor_depth(self, part: tuple[slice, slice] | None = None) -> np.ndarray:
        """(h, w) float32 [m] measured at the pixels of the grid, or of a window of it; 0 = none."""
        part = part or (slice(None), slice(None))
        grid = (self.camera.height, self.camera.width)
        rows, columns = (np.arange(*s.indices(n)) for s, n in zip(part, grid, strict=True))
        su, ou, sv, ov = self._depth_map
        u, v = np.rint(su * columns + ou).astype(np.int64), np.rint(sv * rows + ov).astype(np.int64)
        h, w = self.depth.shape
        values = self.depth[v.clip(0, h - 1)[:, None], u.clip(0, w - 1)[None]]
        inside = ((v >= 0) & (v < h))[:, None] & ((u >= 0) & (u < w))[None]
        return np.where(inside & np.isfinite(values), values, np.float32(0))

    def view(self, object_id: int) -> ObjectView:
        """Judge one object."""
        return self._judge(object_id)[0]

    def observe(self, object_id: int) -> tuple[ObjectView, np.ndarray, np.ndarray]:
        """Judge one object and give its pixels.

        Returns:
            The view; (H, W) bool mask: where the mesh shows the object and the sensor does not contradict over
            more than speckle (sensor holes stay in: dark and shiny objects have many); (H, W) bool: where mesh
            and sensor both show it.
        """
        view, states, (u0, v0) = self._judge(object_id)
        mask = np.zeros((self.camera.height, self.camera.width), dtype=bool)
        confirmed = np.zeros_like(mask)
        if states is not None:
            window = (slice(v0, v0 + states.shape[0]), slice(u0, u0 + states.shape[1]))
            shown = self.zbuffer.ids[window] == object_id
            contradicted = shown & ((states == _OCCLUDED) | (states == _CONFLICT))
            size = max(1, round(self.config.speckle_px * self._scale))
            contradicted = cv2.morphologyEx(
                contradicted.astype(np.uint8), cv2.MORPH_OPEN, np.ones((size, size), np.uint8)
            )
            mask[window] = shown & (contradicted == 0)
            confirmed[window] = states == _VISIBLE
        return view, mask, confirmed

    @cached_property
    def sample_pixels(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Indices of the surface's sample points that project into the picture, and their columns and rows."""
        points = (self.surface.points - self.T_world_camera[:3, 3]) @ self.T_world_camera[:3, :3]
        pixels = self.camera.project(points)
        index = np.flatnonzero(self.camera.contains(pixels))
        column, row = np.rint(pixels[index]).astype(np.int64).T
        return index, column, row

    def _judge(self, object_id: int) -> tuple[ObjectView, np.ndarray | None, tuple[int, int]]:
        w, h = self.camera.width, self.camera.height
        faces = self.surface.object_faces(object_id)
        window = self.projection.window(faces, (-w // 2, -h // 2, w + w // 2, h + h // 2))
        counts = np.zeros(5, np.int64)
        states, origin, residual, hidden = None, (0, 0), np.nan, True
        if window is not None:
            alone = self.projection.render(faces, window)
            states, origin, residual = self._compare(alone, object_id, counts)
            hidden = self._certainly_hidden(alone, counts)
        inside = int(counts[[_VISIBLE, _OCCLUDED, _UNKNOWN, _CONFLICT]].sum())
        box, border = None, 0
        if counts[_VISIBLE]:
            assert states is not None
            rows = np.flatnonzero((states == _VISIBLE).any(axis=1)) + origin[1]
            columns = np.flatnonzero((states == _VISIBLE).any(axis=0)) + origin[0]
            box = (int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1]))
            border = min(box[0], box[1], w - 1 - box[2], h - 1 - box[3])
        if inside == 0 and hidden:
            # Surface too small to cover a pixel centre may still be in the picture.
            points = self.surface.object_points(object_id)
            hidden = not touches_picture(points, self.camera, self.T_world_camera)
        shown = int(counts[_VISIBLE] + counts[_UNKNOWN])
        offset = self.T_world_camera[:3, 3] - self.surface.centre(object_id)
        distance = float(np.linalg.norm(offset))
        direction = offset / max(distance, 1e-9)
        return (
            ObjectView(
                object_id=object_id,
                state=self._verdict(counts, inside, hidden),
                counts=counts,
                fraction=float(counts[_VISIBLE] / max(1, counts.sum())),
                area=int(counts[_VISIBLE]),
                box=box,
                border_distance=border,
                distance=distance,
                direction=direction,
                elevation=float(np.arcsin(np.clip(direction[2], -1, 1))),
                certainly_hidden=bool(hidden),
                hole_share=float(counts[_UNKNOWN] / shown) if shown else 0.0,
                residual=residual,
            ),
            states,
            origin,
        )

    def _compare(self, alone: ZBuffer, object_id: int, counts: np.ndarray):
        """Judge every silhouette pixel; fills ``counts``. Returns the states, their origin and the residual."""
        w, h = self.camera.width, self.camera.height
        u0, v0 = alone.origin
        silhouette = np.ascontiguousarray(silhouette_inside(alone, w, h))
        counts[_OUT] = _summary(alone.depth)[0] - _summary(silhouette)[0]
        origin = (max(0, u0), max(0, v0))
        if silhouette.size == 0:
            return None, origin, np.nan
        states = np.full(silhouette.shape, _BEYOND, np.uint8)
        residual = _compare_pixels(
            silhouette,
            *origin,
            self.zbuffer.depth,
            self.zbuffer.ids,
            object_id,
            self.depth,
            *self._depth_map,
            np.float32(self.config.tolerance.a),
            np.float32(self.config.tolerance.b),
            states,
            counts,
        )
        return states, origin, residual

    def _certainly_hidden(self, alone: ZBuffer, counts: np.ndarray) -> bool:
        if counts[[_VISIBLE, _UNKNOWN, _CONFLICT]].any():
            return False
        drawn, nearest = _summary(alone.depth)
        if drawn == 0:
            return True
        shift = self.config.margin_px * self._scale + self.camera.fx * self.config.margin_m / float(nearest)
        return certainly_hidden(alone, self._scenery, int(np.ceil(min(shift, self.camera.width))))

    @cached_property
    def _scenery(self) -> Scenery:
        mesh = np.where(self.zbuffer.depth > 0, self.zbuffer.depth, np.float32(np.inf))
        sensor = np.where(np.isfinite(self.depth), self.depth, np.float32(0))
        return Scenery(self.camera, mesh, sensor, self._depth_map, self.config.tolerance)

    def _verdict(self, counts: np.ndarray, inside: int, hidden: bool) -> Visibility:
        if inside == 0:
            return Visibility.OUT_OF_FRUSTUM if hidden or counts[_OUT] else Visibility.UNKNOWN
        if counts[_VISIBLE] >= self.config.min_pixels:
            # More contradiction than agreement: what agrees is chance, or the rim of what moved away.
            return Visibility.VISIBLE if counts[_VISIBLE] >= counts[_CONFLICT] else Visibility.CONFLICT
        if counts[_CONFLICT] > max(counts[_UNKNOWN], self.config.min_pixels):
            return Visibility.CONFLICT
        undecided = counts[_VISIBLE] + counts[_UNKNOWN] + counts[_CONFLICT]
        return Visibility.UNKNOWN if undecided else Visibility.OCCLUDED


@numba.njit(cache=True)
def _summary(depth):
    """Number of pixels with a surface, and the nearest one's depth."""
    n, nearest = 0, np.float32(np.inf)
    for y in range(depth.shape[0]):
        for x in range(depth.shape[1]):
            if depth[y, x] > 0:
                n += 1
                nearest = min(nearest, depth[y, x])
    return n, nearest


@numba.njit(cache=True, error_model="numpy")
def _compare_pixels(silhouette, u0, v0, mesh, ids, object_id, depth, su, ou, sv, ov, a, b, states, counts):
    """State of each pixel of an object's silhouette (its depth when drawn alone, 0 = none).

    Returns the mean difference between sensor and mesh where they agree [m], NaN if nowhere.
    """
    h, w = depth.shape
    n, total = 0, 0.0
    for y in range(silhouette.shape[0]):
        dv = sv * (y + v0) + ov
        for x in range(silhouette.shape[1]):
            z = silhouette[y, x]
            if z == 0:
                continue
            limit = a + b * z
            du = su * (x + u0) + ou
            # Of the four sensor pixels around, the one nearest in depth decides, as in roboref_core.views.visibility.
            c, r = np.int64(np.floor(du)), np.int64(np.floor(dv))
            difference = np.float32(np.inf)
            for k in range(4):
                cc, rr = c + (k & 1), r + (k >> 1)
                if 0 <= cc < w and 0 <= rr < h:
                    d = depth[rr, cc]
                    if d > 0 and d < np.inf and abs(d - z) < abs(difference):
                        difference = d - z
            known = difference < np.inf
            m = mesh[y + v0, x + u0]
            if ids[y + v0, x + u0] == object_id:
                if not known:
                    state = 3
                elif difference < -limit:
                    state = 2
                elif difference > limit:
                    state = 4
                else:
                    state = 0
                    total += abs(difference)  # type: ignore[assignment]  # numba: one type
                    n += 1
            else:
                if known and difference > limit:
                    state = 4
                elif m > 0 and m < z - limit:
                    # The mesh puts something clearly in front; the sensor may see through to the object.
                    state = 4 if known and difference >= -limit else 2
                else:
                    state = 2 if known and difference < -limit else 3
            states[y, x] = state
            counts[state] += 1
    return total / n if n else np.nan
