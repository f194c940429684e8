from __future__ import annotations

import numpy as np
import pytest
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import inverse, look_at, transform
from roboref_core.views.visibility import Visibility

from offline.eval.replay.truth.truth import TruthConfig, judge

CAMERA = Camera(160, 120, 140.0, 140.0, 79.5, 59.5)
T = look_at((0.0, -3.0, 1.0), (0.0, 0.0, 1.0))


def wall_with_door(wall=2.0, behind=4.0):
    """A wall 2 m away, with an opening in its right half."""
    depth = np.full((120, 160), wall, np.float32)
    depth[:, 80:] = behind
    return depth


def judged(in_camera, exact=None, sensor=None):
    exact = wall_with_door() if exact is None else exact
    point = transform(T, np.asarray(in_camera, dtype=float))
    return judge(point, CAMERA, T, exact, exact if sensor is None else sensor, CAMERA, TruthConfig())


@pytest.mark.parametrize(
    ("in_camera", "visibility", "decidable"),
    [
        ((-0.5, 0.0, 2.0), Visibility.VISIBLE, True),
        ((1.0, 0.0, 4.0), Visibility.VISIBLE, True),
        ((-0.5, 0.0, 3.0), Visibility.OCCLUDED, True),
        ((-0.5, 0.0, 2.05), Visibility.VISIBLE, True),  # hidden by less than the margin: the surface itself
        ((-0.5, 0.0, 2.09), Visibility.VISIBLE, False),  # perhaps the far side of something thin
        ((0.02, 0.0, 2.0), Visibility.VISIBLE, False),  # on the outline of the opening
        ((-0.04, 0.0, 3.0), Visibility.OCCLUDED, False),
        ((9.0, 0.0, 2.0), Visibility.OUT_OF_FRUSTUM, True),
        ((0.0, 0.0, -1.0), Visibility.OUT_OF_FRUSTUM, True),
        ((-1.145, 0.0, 2.0), Visibility.OUT_OF_FRUSTUM, False),  # a pixel outside
        ((-1.13, 0.0, 2.0), Visibility.VISIBLE, False),  # a pixel inside
    ],
)
def test_every_case(in_camera, visibility, decidable):
    truth = judged(in_camera)
    assert (truth.visibility, truth.decidable) == (visibility, decidable)
    np.testing.assert_allclose(transform(inverse(T), np.array(truth.point)), in_camera, atol=1e-9)


def test_a_sensor_hole_on_a_visible_point_is_unknown():
    sensor = wall_with_door()
    sensor[50:70, 20:70] = 0.0
    truth = judged((-0.5, 0.0, 2.0), sensor=sensor)
    assert (truth.visibility, truth.decidable) == (Visibility.UNKNOWN, True)


def test_the_pixel_is_where_it_projects():
    assert judged((0.0, 0.0, 2.0)).pixel == pytest.approx((79.5, 59.5))
    assert judged((0.0, 0.0, -2.0)).pixel is None
