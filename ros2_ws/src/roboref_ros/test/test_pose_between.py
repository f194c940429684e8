"""How far a pose between stamped ones may be off, against motions that are known exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from roboref_core.geometry.pose import inverse, look_at, pose, transform
from roboref_ros.poses.between import pose_between
from roboref_ros.poses.history import PoseHistory

MS = 1_000_000


def history(stamps_ms) -> PoseHistory:
    """Entries are their own stamps [s]."""
    poses = PoseHistory(20 * MS, 250 * MS, 3000 * MS, lambda: 0)
    for stamp in stamps_ms:
        poses.add(stamp * MS, stamp / 1000)
    return poses


def along_x(acceleration: float):
    """A camera that moves with 0.5 m/s and gets faster."""
    return lambda t: pose(np.eye(3), (0.5 * t + 0.5 * acceleration * t**2, 0.0, 0.0))


@given(st.integers(-5, 5), st.integers(110, 190), st.booleans())
def test_an_acceleration_is_read_off_the_neighbour(acceleration, ms, before):
    motion = along_x(acceleration)
    T, off = pose_between(history([0, 100, 200] if before else [100, 200, 300]).at(ms * MS, final=False), motion)
    assert off == pytest.approx(abs(T[0, 3] - motion(ms / 1000)[0, 3]), abs=1e-9)


@pytest.mark.parametrize("missing", [1, 2, 4])
def test_what_is_said_of_a_round_covers_the_error(missing):
    """A camera goes around at 4 m/s and looks at one place; some poses are lost."""

    def motion(t):
        angle = 8.0 * t
        return look_at((0.5 * np.cos(angle), 0.5 * np.sin(angle), 1.2), (0.2, 3.0, 1.2))

    stamps = [0, 33, 66, *range(66 + 33 * (missing + 1), 500, 33)]
    at = 66 + 33 * (missing + 1) // 2
    T, off = pose_between(history(stamps).at(at * MS, final=False), motion)
    seen = np.array([0.0, 0.0, 2.0])
    error = np.linalg.norm(transform(inverse(motion(at / 1000)) @ T, seen) - seen)
    assert 0.5 * error < off < 3.0 * error


def test_a_single_pose_is_off_by_the_way_to_it():
    T, off = pose_between(history([0, 100]).at(110 * MS, final=True), along_x(0.0))
    assert T[0, 3] == pytest.approx(0.05) and off == pytest.approx(0.005)


def test_a_stated_pose_is_not_doubted():
    assert pose_between(history([0, 100, 200]).at(100 * MS, final=False), along_x(5.0))[1] == 0.0
