"""What the 3D view of a question is drawn from."""

from __future__ import annotations

import base64
import gzip
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import look_at

from offline.eval.replay.scoring import space
from offline.eval.replay.scoring.score import CHI2_95

CAMERA = Camera(64, 48, 50.0, 50.0, 31.5, 23.5)


def wall(T_world_camera: np.ndarray) -> SimpleNamespace:
    """A scene of one frame that looks at a wall 2 m away, with a hole in its depth."""
    depth = np.full((48, 64), 2.0, dtype=np.float32)
    depth[:10] = 0
    color = np.full((48, 64, 3), (10, 20, 30), dtype=np.uint8)
    return SimpleNamespace(
        poses=T_world_camera[None],
        depth=lambda i: depth,
        color=lambda i: color,
        color_camera=CAMERA,
        depth_camera=CAMERA,
    )


def test_a_cloud_lies_on_what_was_measured(tmp_path):
    pose = look_at((0.0, 0.0, 1.0), (0.0, 2.0, 1.0))
    cloud = space.Cloud.of(wall(pose), 0)
    assert 0 < len(cloud.points) <= 64 * 38
    np.testing.assert_allclose(cloud.points[:, 1], 2.0, atol=1e-5)
    assert (cloud.colors == (10, 20, 30)).all()
    cloud.write(tmp_path / "a.npz")
    again = space.Cloud.read(tmp_path / "a.npz")
    np.testing.assert_array_equal(again.points, cloud.points)
    sent = again.as_json()
    near = np.frombuffer(base64.b64decode(sent["points"]), dtype="<i2").reshape(-1, 3) / 1000
    np.testing.assert_allclose(near + pose[:3, 3], cloud.points, atol=6e-4)


def test_a_frame_without_a_pose_has_none():
    assert space.Cloud.of(wall(np.full((4, 4), np.nan)), 0) is None


def test_a_mark_s_ray_goes_through_it():
    cloud = space.Cloud.of(wall(look_at((0.0, 0.0, 1.0), (0.0, 2.0, 1.0))), 0)
    start, end = np.array(space._ray(cloud, (31.5, 23.5)))
    np.testing.assert_allclose(start, (0, 0, 1), atol=1e-3)
    np.testing.assert_allclose(end, (0, space._RAY, 1), atol=1e-3)


@given(st.lists(st.floats(-1, 1), min_size=9, max_size=9))
def test_the_unit_sphere_becomes_the_ellipsoid(values):
    root = np.array(values).reshape(3, 3)
    covariance = root @ root.T + 1e-3 * np.eye(3)
    axes = np.array(space._axes(covariance)).reshape(3, 3)
    for direction in np.eye(3):
        point = axes @ direction
        assert point @ np.linalg.solve(covariance, point) == pytest.approx(CHI2_95, rel=0.01)


def test_no_ellipsoid_of_an_unknown_covariance():
    assert space._axes(None) is None and space._axes(np.full((3, 3), np.nan)) is None


def test_the_module_is_whole():
    pytest.importorskip("nicegui")
    text = gzip.decompress(base64.b64decode(space.module())).decode()
    assert "OrbitControls" in text and " as THREE" in text and "\nimport " not in text
