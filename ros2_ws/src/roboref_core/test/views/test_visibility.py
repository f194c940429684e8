from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import inverse, look_at, transform
from roboref_core.views.visibility import Visibility, point_visibility


def one(point, view):
    return point_visibility(np.array(point), view)[0][0]


def test_every_name(room):
    eye, centre = np.array([-2.0, 0.0, 1.0]), np.array([0.0, 0.0, 0.5])
    view = room.view(look_at(eye, centre))
    towards = (centre - eye) / np.linalg.norm(centre - eye)
    surface = eye + towards * (np.linalg.norm(centre - eye) - 0.5)  # the sphere's radius
    assert one(surface, view) == Visibility.VISIBLE
    assert one(surface + 0.5 * towards, view) == Visibility.OCCLUDED
    assert one(surface - 0.5 * towards, view) == Visibility.CONFLICT
    assert one((-2.9, 0.0, 1.0), view) == Visibility.OUT_OF_FRUSTUM  # behind the camera
    assert one((-1.9, 2.0, 1.0), view) == Visibility.OUT_OF_FRUSTUM  # beside it
    for nothing in (0.0, np.nan):
        blind = room.view(view.T_world_camera, depth=np.full((120, 160), nothing, np.float32))
        assert one(surface, blind) == Visibility.UNKNOWN


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 7), st.integers(0, 7), st.floats(5, 150), st.floats(5, 110))
def test_agrees_with_exact_ray_casting(room, poses, a, b, u, v):
    """A point seen in one view is VISIBLE, OCCLUDED or OUT_OF_FRUSTUM in another just as rays say."""
    point = room.point(room.view(poses[a]), (u, v))
    target = room.view(poses[b])
    names, pixels = point_visibility(point, target)
    if not target.camera.contains(pixels)[0]:
        assert names[0] == Visibility.OUT_OF_FRUSTUM
        return
    # Rays through the four pixels around decide; where they disagree (an outline) either answer is right.
    corners = [np.floor(pixels[0]) + d for d in ((0, 0), (1, 0), (0, 1), (1, 1))]
    z = [transform(inverse(poses[b]), room.point(target, c))[2] for c in corners]
    difference = np.array(z) - transform(inverse(poses[b]), point)[2]
    if (np.abs(difference) < 0.05).all():
        assert names[0] == Visibility.VISIBLE
    elif (difference < -0.3).all():
        assert names[0] == Visibility.OCCLUDED


def test_colour_and_depth_of_different_sizes(room, poses):
    color = Camera(324, 242, 292.4, 291.8, 161.6, 122.5)
    depth = Camera(160, 120, 144.4, 144.7, 79.7, 60.7)
    view = room.view(poses[0], camera=color, depth_camera=depth)
    for pixel in [(30, 40), (160, 100), (300, 200)]:
        names, pixels = point_visibility(room.point(view, pixel), view)
        assert names == [Visibility.VISIBLE]
        np.testing.assert_allclose(pixels, [pixel], atol=1e-6)


def test_without_a_pose_it_is_refused(room, poses):
    with pytest.raises(ValueError, match="no camera pose"):
        point_visibility([0, 0, 0], room.view(poses[0]).with_pose(None))
