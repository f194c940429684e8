"""Which of the node's views are shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import look_at

from page.robot import ViewSummary
from page.strip import distinct

CAMERA = Camera(64, 48, 50.0, 50.0, 31.5, 23.5)


def view(number: int, seconds: float, x: float = 0.0, degrees: float = 0.0, pinned: bool = False) -> ViewSummary:
    ahead = np.radians(degrees)
    T = look_at((x, 0.0, 1.0), (x + np.cos(ahead), np.sin(ahead), 1.0))
    return ViewSummary(f"v{number}", seconds, CAMERA, T, "map", pinned)


def ids(views) -> list[str]:
    return [v.view_id for v in views]


def test_a_robot_that_stands_still_has_one_view_for_half_a_minute():
    views = [view(k, k * 1.0) for k in range(65)]
    assert ids(distinct(views)) == ["v0", "v30", "v60"]


@pytest.mark.parametrize("other", [{"x": 0.2}, {"degrees": 10.0}])
def test_views_from_elsewhere_or_in_another_direction_are_kept(other):
    assert len(distinct([view(0, 0.0), view(1, 0.1, **other)])) == 2
    assert len(distinct([view(0, 0.0), view(1, 0.1, **{name: value / 2 for name, value in other.items()})])) == 1
    in_odom = replace(view(1, 0.1), frame="odom")
    assert len(distinct([view(0, 0.0), in_odom])) == 2


def test_pinned_views_stay_and_shown_ones_are_not_replaced():
    views = [view(0, 0.0), view(1, 1.0), view(2, 2.0, pinned=True), view(3, 3.0, pinned=True)]
    assert ids(distinct(views)) == ["v2", "v3"]
    views = [view(0, 0.0), view(1, 1.0), view(2, 2.0)]
    assert ids(distinct(views, {"v1"})) == ["v1"]


def test_views_without_a_pose_are_told_apart_by_their_time():
    views = [replace(view(k, k * 0.5), T_world_camera=None) for k in range(9)]
    assert ids(distinct(views)) == ["v0", "v4", "v8"]
    assert len(distinct([views[0], view(9, 0.0)])) == 2
