from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from roboref_core.geometry.camera import Camera
from roboref_core.views.depth_picture import metric_to_picture, relative_to_picture, view_to_picture
from roboref_core.views.view import View
from scipy.spatial import cKDTree

CAMERA = Camera(64, 48, 60.0, 60.0, 31.5, 23.5)


def make_view(depth, camera=CAMERA, depth_camera=None):
    color = np.zeros((camera.height, camera.width, 3), np.uint8)
    return View(view_id="v", stamp_ns=0, color=color, camera=camera, depth=depth, depth_camera=depth_camera)


@given(arrays(np.float32, (5, 7), elements=st.floats(0, 100, width=32)))
def test_relative_depth_spans_the_scale(relative):
    picture = relative_to_picture(relative)
    assert picture.shape == (5, 7, 3) and (picture == picture[..., :1]).all()
    if relative.min() < relative.max():
        assert picture.min() == 0 and picture.max() == 255
        order = np.argsort(relative.ravel(), kind="stable")
        assert (np.diff(picture[..., 0].ravel()[order].astype(int)) >= 0).all()
    else:
        assert (picture == 0).all()


def test_conversion_truncates():
    grey = relative_to_picture(np.array([[0.0, 0.5, 1.0]]))[0, :, 0]
    assert grey.tolist() == [0, 127, 255]


def test_metric_depth_is_the_relative_picture_of_its_inverse_whatever_the_estimator_s_scale_and_shift():
    depth = np.random.default_rng(0).uniform(0.5, 5.0, (30, 40))
    estimated = 7.0 / depth - 0.8
    difference = metric_to_picture(depth).astype(int) - relative_to_picture(estimated)
    assert np.abs(difference).max() <= 1


def test_holes_take_the_value_of_the_nearest_measurement():
    rng = np.random.default_rng(1)
    depth = rng.uniform(0.5, 5.0, (40, 50)).astype(np.float32)
    holes = rng.random(depth.shape) < 0.7
    holes[5:20, 10:30] = True
    depth[holes] = rng.choice([0.0, np.nan, np.inf, -1.0], holes.sum())
    grey = metric_to_picture(depth)[..., 0]
    measured = np.argwhere(~holes)
    tree = cKDTree(measured)
    for v, u in np.argwhere(holes)[::7]:
        distance, _ = tree.query((v, u))
        # cv2's 5x5 distance is within 2 % of the Euclidean one, so near-ties may fall either way.
        near = measured[tree.query_ball_point((v, u), distance * 1.03 + 1e-6)]
        assert grey[v, u] in grey[near[:, 0], near[:, 1]]


def test_near_is_bright():
    grey = metric_to_picture(np.array([[1.0, 2.0, 4.0]]))[0, :, 0]
    assert grey[0] == 255 and grey[0] > grey[1] > grey[2] == 0


@pytest.mark.parametrize("depth", [np.zeros((4, 5)), np.full((4, 5), np.nan)])
def test_depth_without_a_measurement_is_refused(depth):
    with pytest.raises(ValueError, match="measurements"):
        metric_to_picture(depth)
    assert view_to_picture(make_view(np.resize(depth, (48, 64)))) is None


def test_views_without_depth_have_no_picture():
    assert view_to_picture(make_view(None)) is None


def test_the_picture_has_the_size_and_the_geometry_of_the_colour_image():
    depth_camera = Camera(32, 24, 26.0, 27.0, 14.0, 12.5)
    # A step that runs along one viewing ray: x / z = 0.1 in the camera frame.
    u = np.arange(depth_camera.width)
    row = np.where((u - depth_camera.cx) / depth_camera.fx < 0.1, 1.0, 3.0)
    depth = np.tile(row, (24, 1)).astype(np.float32)
    picture = view_to_picture(make_view(depth, depth_camera=depth_camera))
    assert picture.shape == (48, 64, 3)
    edge = 0.1 * CAMERA.fx + CAMERA.cx
    bright = picture[24, :, 0] > 127
    assert abs(np.flatnonzero(bright).max() - edge) <= CAMERA.fx / depth_camera.fx
    assert bright[: int(edge) - 2].all() and not bright[int(edge) + 4 :].any()


def test_registered_images_of_one_camera_are_not_resampled():
    depth = np.random.default_rng(2).uniform(0.5, 5.0, (48, 64)).astype(np.float32)
    assert (view_to_picture(make_view(depth)) == metric_to_picture(depth)).all()
