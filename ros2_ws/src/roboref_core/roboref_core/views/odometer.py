"""How far the camera went, by the poses of its keyframes: errors of odometry grow with it."""

from __future__ import annotations

from bisect import bisect_right, insort
from typing import NamedTuple

import numpy as np

from roboref_core.geometry.pose import inverse, rotation_angle
from roboref_core.views.view import View

LEVER = 0.75
"""Turning by 1 rad counts as going so far [m], as it does where keyframes are chosen."""
_MOST_STOPS = 10_000
"""Remembered for so long that every view that is held lies after the first of them."""


class _Stop(NamedTuple):
    stamp_ns: int
    way: float
    T_world_camera: np.ndarray
    world_frame: str


class Odometer:
    """The way along keyframes, each some way after the one before, so that the noise of poses hardly counts."""

    def __init__(self) -> None:
        self._stops: list[_Stop] = []
        self._start = 0.0

    def pass_by(self, view: View) -> None:
        """Count the way to the next keyframe. Another world frame begins at 0; a view without a pose is passed over."""
        if view.T_world_camera is None:
            return
        way, last = self._start, self._stops[-1] if self._stops else None
        if last is not None and last.world_frame != view.world_frame:
            way = self._start = 0.0
        elif last is not None:
            way = last.way + way_between(last.T_world_camera, view.T_world_camera)
        insort(self._stops, _Stop(view.stamp_ns, way, view.T_world_camera, view.world_frame), key=lambda stop: stop[0])
        del self._stops[:-_MOST_STOPS]

    def forget(self) -> None:
        """Forget where the camera was, as stamps jumped, and not how far it went."""
        self._start, self._stops = self._stops[-1].way if self._stops else self._start, []

    def way(self, view: View) -> float:
        """From the first view of the same world to ``view`` [m]; 0 without a pose or a keyframe of that world."""
        if view.T_world_camera is None:
            return 0.0
        at = bisect_right(self._stops, view.stamp_ns, key=lambda stop: stop[0])
        before = self._stops[at - 1] if at else None
        if before is None or before.world_frame != view.world_frame:
            return 0.0
        return before.way + way_between(before.T_world_camera, view.T_world_camera)


def way_between(T_world_first: np.ndarray, T_world_second: np.ndarray) -> float:
    """Way from one camera pose to the next, turning included [m]."""
    motion = inverse(T_world_first) @ T_world_second
    return float(np.linalg.norm(motion[:3, 3])) + LEVER * rotation_angle(motion)
