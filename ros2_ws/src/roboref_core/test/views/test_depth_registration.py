"""Depth of its own camera, against ray casting from the colour camera."""

from __future__ import annotations

import numpy as np
import pytest
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import look_at, pose
from roboref_core.views.depth_registration import register_depth, registered_camera

COLOR = Camera(320, 240, 280.0, 282.0, 158.0, 121.0, "plumb_bob", (-0.05, 0.02, 0.001, -0.001, 0.0))
BESIDE = pose(np.eye(3), (-0.05, 0.005, 0.002))
HERE = look_at((-2.0, 0.0, 1.2), (0.0, 0.0, 0.5))


@pytest.mark.parametrize(
    "depth_camera",
    [Camera(160, 120, 130.0, 130.0, 80.0, 60.0), Camera(424, 240, 330.0, 330.0, 212.0, 119.0)],
    ids=["coarse", "fine"],
)
def test_registered_depth_is_what_the_colour_camera_would_measure(room, depth_camera):
    source = room.depth(depth_camera, HERE @ BESIDE).astype(np.float32)
    camera = registered_camera(COLOR, depth_camera)
    found = register_depth(source, depth_camera, camera, BESIDE)
    truth = room.depth(camera, HERE)
    measured = found > 0
    assert found.shape == (camera.height, camera.width) and measured.mean() > 0.7
    error = np.abs(found - truth)[measured]
    assert np.median(error) < 0.01
    # The rest lies within a pixel of an outline.
    assert (error < 0.05).mean() > 0.97
    inner = measured[camera.height // 4 : -camera.height // 4, camera.width // 4 : -camera.width // 4]
    assert inner.mean() > 0.95, "a surface stays closed but where one camera alone sees it"


def test_the_nearer_surface_wins():
    camera = Camera(40, 30, 40.0, 40.0, 19.5, 14.5)
    depth = np.full((30, 40), 4.0, np.float32)
    depth[:, 20:] = 1.0
    found = register_depth(depth, camera, camera, pose(np.eye(3), (-0.2, 0.0, 0.0)))
    # The near half moves by 8 pixels over the far one, which moves by 2.
    np.testing.assert_allclose(found[:, 12:32], 1.0)
    np.testing.assert_allclose(found[:, :12], 4.0)
    assert (found[:, 32:] == 0).all()


def test_one_camera_registers_to_itself():
    camera = Camera(40, 30, 40.0, 40.0, 19.5, 14.5)
    depth = np.random.default_rng(0).uniform(0.5, 4.0, (30, 40)).astype(np.float32)
    depth[3:6, 3:9] = np.nan
    found = register_depth(depth, camera, camera, np.eye(4))
    np.testing.assert_allclose(found, np.nan_to_num(depth), rtol=1e-6)


def test_nothing_and_nonsense():
    camera = Camera(40, 30, 40.0, 40.0, 19.5, 14.5)
    assert not register_depth(np.zeros((30, 40), np.float32), camera, camera, np.eye(4)).any()
    tiny = np.full((30, 40), 1e-6, np.float32)
    assert register_depth(tiny, camera, camera, pose(np.eye(3), (0.1, 0, -1e-7))).max() < 1e-5
    with pytest.raises(ValueError, match="40x30"):
        register_depth(np.zeros((3, 4), np.float32), camera, camera, np.eye(4))
