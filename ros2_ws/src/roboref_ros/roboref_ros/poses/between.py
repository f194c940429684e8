"""Poses between stamped ones, and how far such a pose may be off: nobody measured it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from roboref_core.geometry.pose import interpolate, inverse, logarithm

from roboref_ros.poses.history import Bracket

_DEPTH = 2.0
"""Distance at which an error of the orientation counts [m]."""


def pose_between(found: Bracket, pose: Callable[[Any], np.ndarray]) -> tuple[np.ndarray, float]:
    """4x4 pose at the stamp of a bracket, and by how much it may put what the camera sees beside its place [m].

    The motion is taken to go on evenly between two entries. How far it does not is read off the neighbouring entry: a
    change of velocity between both stretches is an acceleration, which bends the way in between. A single entry that
    stands for a stamp is off by the velocity there. Without a neighbour nothing is known of the motion: 0.

    Args:
        pose: of an entry, 4x4.
    """
    before = pose(found.before)
    T = before if found.fraction == 0 else interpolate(before, pose(found.after), found.fraction)
    if found.neighbour is None or found.gap == 0 or found.step == 0:
        return T, 0.0
    # The neighbour lies before the first entry (a negative step) or behind the second.
    near = before if found.step < 0 else pose(found.after)
    there = logarithm(inverse(near) @ pose(found.neighbour)) / found.step
    if found.before is found.after:
        return T, _moved(there * found.gap)
    here = logarithm(inverse(before) @ pose(found.after)) / found.gap
    acceleration = (here - there) / (0.5 * (found.gap + abs(found.step)))
    return T, _moved(0.5 * acceleration * found.gap**2 * found.fraction * (1.0 - found.fraction))


def _moved(twist: np.ndarray) -> float:
    """How far a twist moves what is ``_DEPTH`` away [m]."""
    return float(np.linalg.norm(twist[:3]) + _DEPTH * np.linalg.norm(twist[3:]))
