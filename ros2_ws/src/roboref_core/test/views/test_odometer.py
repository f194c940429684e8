"""How far the camera went, by its keyframes."""

from __future__ import annotations

import numpy as np
import pytest
from roboref_core.geometry.pose import pose
from roboref_core.views.odometer import LEVER, Odometer, way_between


def at(room, x, stamp_ns, world="world"):
    view = room.view(pose(np.eye(3), (x, 0.0, 0.0)), stamp_ns=stamp_ns)
    return view.with_pose(view.T_world_camera, world)


def test_the_way_there_and_back_counts_twice(room):
    odometer = Odometer()
    for stamp, x in enumerate((0.0, 1.0, 0.5)):
        odometer.pass_by(at(room, x, stamp))
    assert odometer.way(at(room, 0.5, 2)) == pytest.approx(1.5)
    assert odometer.way(at(room, 0.75, 9)) == pytest.approx(1.75)  # beyond the last keyframe
    assert odometer.way(at(room, 0.2, 0)) == pytest.approx(0.2)


def test_turning_counts(room):
    turned = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert way_between(np.eye(4), pose(turned, (0, 0, 0))) == pytest.approx(LEVER * np.pi / 2)


def test_another_world_begins_at_0_and_a_jump_of_the_clock_does_not(room):
    odometer = Odometer()
    odometer.pass_by(at(room, 0.0, 10))
    odometer.pass_by(at(room, 1.0, 11))
    odometer.forget()
    odometer.pass_by(at(room, 1.0, 5))
    assert odometer.way(at(room, 1.5, 6)) == pytest.approx(1.5)
    odometer.pass_by(at(room, 7.0, 7, "map"))
    assert odometer.way(at(room, 7.0, 7, "map")) == 0.0
    assert odometer.way(at(room, 7.0, 7)) == 0.0  # nothing is known of the way in the old one since


def test_views_without_a_pose_are_passed_over(room):
    odometer = Odometer()
    odometer.pass_by(at(room, 0.0, 0).with_pose(None))
    assert odometer.way(at(room, 1.0, 1)) == 0.0
    odometer.pass_by(at(room, 0.0, 1))
    assert odometer.way(at(room, 1.0, 2).with_pose(None)) == 0.0
