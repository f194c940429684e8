"""What is true of a marked point in a later frame, from exact geometry that the node never sees."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import inverse, transform
from roboref_core.scene import Scene
from roboref_core.views.view import valid_depth
from roboref_core.views.visibility import DepthTolerance, Visibility

from offline.eval.records.replays import Truth


@runtime_checkable
class GroundTruthScene(Scene, Protocol):
    """A Scene that also knows the exact picture behind its (perhaps noisy) frames.

    Attributes:
        change_at: first position that sees a changed scene, None if nothing changes.
    """

    change_at: int | None

    def true_color_depth(self, i: int) -> np.ndarray:
        """(H, W) float32 [m] of each colour pixel, without noise or holes; 0 where nothing is seen."""

    def ids(self, i: int) -> np.ndarray:
        """(H, W) int32: which object each colour pixel shows, 0 = none."""

    def out_of_sight(self, object_id: int, i: int) -> bool:
        """Whether a frame certainly shows nothing of an object."""

    def motion(self, object_id: int, earlier: int, later: int) -> np.ndarray | None:
        """4x4 that carries an object's points in the world from one frame to a later one; None if it was taken away."""


@dataclass(frozen=True)
class TruthConfig:
    """When a case counts as decidable.

    Attributes:
        margin_px: an outline or the border closer than this makes it undecidable [pixel].
        margin: surfaces around the point that differ from its depth by more than this are outlines, and a
            point must be hidden by more than this to count as hidden [m].
        tolerance: a point that is hidden by more than this and less than the margin may lie on the far side of a
            thin thing, which makes it undecidable.
    """

    margin_px: int = 3
    margin: float = 0.1
    tolerance: DepthTolerance = field(default_factory=DepthTolerance)


def judge(
    point: np.ndarray,
    camera: Camera,
    T_world_camera: np.ndarray,
    exact_depth: np.ndarray,
    sensor_depth: np.ndarray,
    depth_camera: Camera,
    config: TruthConfig,
) -> Truth:
    """Truth of a world point (3,) in one frame, whose exact depth (0 = unknown) is given through the colour camera."""
    in_camera = transform(inverse(T_world_camera), point)
    pixel = camera.project(in_camera)[0]
    projected = (float(pixel[0]), float(pixel[1])) if np.isfinite(pixel).all() else None

    def truth(visibility: Visibility, decidable: bool) -> Truth:
        return Truth(visibility, decidable, triple(point), projected, triple(in_camera))

    if projected is None:
        return truth(Visibility.OUT_OF_FRUSTUM, True)
    m = config.margin_px
    outside = max(-0.5 - pixel[0], pixel[0] - camera.width + 0.5, -0.5 - pixel[1], pixel[1] - camera.height + 0.5)
    if outside > 0:
        return truth(Visibility.OUT_OF_FRUSTUM, bool(outside > m))
    u, v = int(np.floor(pixel[0] + 0.5)), int(np.floor(pixel[1] + 0.5))
    window = exact_depth[max(v - m, 0) : v + m + 1, max(u - m, 0) : u + m + 1]
    hidden_by = in_camera[2] - np.where(valid_depth(window), window, np.inf)
    away_from_border = bool(-outside >= m)
    if not valid_depth(exact_depth[v, u]):
        return truth(Visibility.CONFLICT, False)
    if in_camera[2] - exact_depth[v, u] > config.margin:
        return truth(Visibility.OCCLUDED, bool((hidden_by > config.margin).all()) and away_from_border)
    on_surface = in_camera[2] - exact_depth[v, u] <= config.tolerance.at(in_camera[2])
    decidable = bool((np.abs(hidden_by) <= config.margin).all() and on_surface) and away_from_border
    on_sensor = np.floor(depth_camera.project(in_camera)[0] + 0.5)
    measured = False
    if depth_camera.contains(on_sensor)[0]:
        measured = bool(valid_depth(sensor_depth[int(on_sensor[1]), int(on_sensor[0])]))
    return truth(Visibility.VISIBLE if measured else Visibility.UNKNOWN, decidable)


def triple(point: np.ndarray) -> tuple[float, float, float]:
    """A point (3,) as plain numbers."""
    return float(point[0]), float(point[1]), float(point[2])
