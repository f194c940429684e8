"""Poses between the samples of a trajectory, and which of two lists of stamps belong together."""

from __future__ import annotations

import numpy as np
from roboref_core.geometry.pose import from_quaternion, interpolate

_MAX_GAP = 0.2
"""Largest gap between samples over which a pose is interpolated [s]."""


def pose_of(row: np.ndarray) -> np.ndarray:
    """4x4 from x y z qx qy qz qw; all ones, which fails the test for rigid motions, if they are not a pose."""
    try:
        return from_quaternion(row[3:7], row[:3])
    except ValueError:
        return np.ones((4, 4))


def pose_at(samples: np.ndarray, time: float) -> np.ndarray:
    """Pose at ``time`` [s] between the rows (stamp, x y z qx qy qz qw) around it; -inf where they are too far apart."""
    after = int(np.searchsorted(samples[:, 0], time))
    if after < len(samples) and samples[after, 0] == time:
        return pose_of(samples[after, 1:])
    if after in (0, len(samples)) or samples[after, 0] - samples[after - 1, 0] > _MAX_GAP:
        return np.full((4, 4), -np.inf)
    t0, t1 = samples[after - 1, 0], samples[after, 0]
    return interpolate(pose_of(samples[after - 1, 1:]), pose_of(samples[after, 1:]), (time - t0) / (t1 - t0))


def nearest(times: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """For each wanted time the index of the nearest of ``times`` (ascending)."""
    right = np.clip(np.searchsorted(times, wanted), 1, max(len(times) - 1, 1))
    left = right - 1
    right = np.minimum(right, len(times) - 1)
    return np.where(wanted - times[left] <= times[right] - wanted, left, right)
