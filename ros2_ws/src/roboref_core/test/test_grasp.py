"""Poses at targets, and flat patches of surface."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import inverse, transform
from roboref_core.grasp import grasp_along_normal, target_pose, yaw_variance
from roboref_core.views.flatness import flat_around
from roboref_core.views.locate import LocateConfig
from roboref_core.views.view import View

CAMERA = Camera(320, 240, 260.0, 262.0, 158.5, 121.0)
numbers = st.floats(-3, 3, allow_nan=False)
vectors = st.tuples(numbers, numbers, numbers).map(np.array).filter(lambda v: np.linalg.norm(v) > 0.1)


@given(vectors, vectors)
def test_a_target_pose_stands_upright_and_looks_away_from_the_camera(target, camera):
    T = target_pose(target, camera)
    np.testing.assert_allclose(T[:3, 3], target)
    np.testing.assert_allclose(T[:3, 2], (0, 0, 1), atol=1e-12)
    np.testing.assert_allclose(T[:3, :3].T @ T[:3, :3], np.eye(3), atol=1e-12)
    seen = inverse(T) @ np.array([*camera, 1.0])
    assert seen[0] <= 1e-9 and abs(seen[1]) < 1e-6, "the camera lies behind, on the x axis over the floor"


def test_the_heading_is_as_uncertain_as_the_place_makes_it():
    rng = np.random.default_rng(0)
    covariance = np.diag([0.02, 0.05, 0.01]) ** 2
    target, camera = np.array([2.0, 1.0, 0.5]), np.array([0.0, 0.0, 1.2])
    samples = rng.multivariate_normal(target, covariance, 20_000)
    headings = [np.arctan2(y, x) for x, y, _ in samples]
    assert yaw_variance(target, camera, covariance) == pytest.approx(np.var(headings), rel=0.05)
    assert yaw_variance(target, target, covariance) == pytest.approx(np.pi**2 / 3)


@given(vectors, vectors, st.floats(0, 0.5), st.floats(0, 0.2), st.floats(-3, 3))
def test_a_grasp_goes_straight_into_the_surface(point, normal, distance, tool, roll):
    before, at = grasp_along_normal(point, normal, distance, tool, roll)
    outwards = normal / np.linalg.norm(normal)
    for T in (before, at):
        np.testing.assert_allclose(T[:3, :3].T @ T[:3, :3], np.eye(3), atol=1e-9)
        assert np.linalg.det(T[:3, :3]) == pytest.approx(1)
        np.testing.assert_allclose(T[:3, 2], -outwards, atol=1e-9)
    np.testing.assert_allclose(transform(before, np.array([0, 0, distance])), at[:3, 3], atol=1e-9)
    np.testing.assert_allclose(transform(at, np.array([0, 0, tool])), point, atol=1e-9)


@given(vectors)
def test_the_fingers_close_over_the_floor(normal):
    y = grasp_along_normal(np.zeros(3), normal).T_frame_at[:3, 1]
    assert abs(y[2]) < 0.15


@pytest.mark.parametrize("normal", [(0, 0, 0), (np.nan, 0, 1)])
def test_a_normal_that_is_none(normal):
    with pytest.raises(ValueError, match="normal"):
        grasp_along_normal(np.zeros(3), normal)
    with pytest.raises(ValueError, match="distance"):
        grasp_along_normal(np.zeros(3), (0, 0, 1), -0.1)


def plane_view(normal, distance=1.2, noise=0.0, seed=0, camera=CAMERA) -> View:
    """Of the plane normal . p = -distance * normal_z, that is, at ``distance`` on the optical axis."""
    v, u = np.mgrid[: camera.height, : camera.width]
    rays = camera.rays(np.stack([u.ravel(), v.ravel()], axis=1).astype(float))
    with np.errstate(divide="ignore"):
        z = (normal[2] * distance / (rays @ normal)).reshape(v.shape)
    z = np.where((z > 0) & (z < 20), z, 0.0)
    z = z + np.random.default_rng(seed).normal(0, noise, z.shape) * (z > 0)
    color = np.zeros((camera.height, camera.width, 3), np.uint8)
    return View(view_id="v", stamp_ns=0, color=color, camera=camera, depth=z.astype(np.float32))


@pytest.mark.parametrize("tilt", [0.0, 0.3, 0.8, 1.1])
@pytest.mark.parametrize("turn", [0.0, 2.0, 4.0])
def test_a_plane_has_its_normal(tilt, turn):
    normal = np.array([np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn), -np.cos(tilt)])
    exact = flat_around(plane_view(normal), CAMERA_CENTRE)
    assert exact is not None
    np.testing.assert_allclose(exact.normal, normal, atol=1e-3)
    sigma = LocateConfig().sensor_sigma(1.2)
    noisy = flat_around(plane_view(normal, noise=sigma), CAMERA_CENTRE)
    assert noisy is not None and np.degrees(np.arccos(noisy.normal @ normal)) < 6


CAMERA_CENTRE = (158.5, 121.0)


def test_a_lens_is_not_ignored():
    lens = Camera(320, 240, 260.0, 262.0, 158.5, 121.0, "plumb_bob", (-0.25, 0.08, 0.002, -0.001, 0.01))
    normal = np.array([0.3, 0.2, -1.0]) / np.linalg.norm([0.3, 0.2, -1.0])
    found = flat_around(plane_view(normal, camera=lens), (60.0, 50.0))
    np.testing.assert_allclose(found.normal, normal, atol=2e-3)


def test_what_is_not_flat_has_none():
    normal = np.array([0.0, 0.0, -1.0])
    depth = plane_view(normal).depth.copy()
    step, holes, round_ = depth.copy(), depth.copy(), depth.copy()
    step[:, 160:] -= 0.3
    holes[::2, ::2] = holes[1::2, ::2] = 0
    v, u = np.mgrid[:240, :320]
    round_ -= (0.0008 * ((u - 158) ** 2 + (v - 121) ** 2)).astype(np.float32)
    for bad in (step, holes, round_, np.zeros_like(depth)):
        view = View(view_id="v", stamp_ns=0, color=np.zeros((240, 320, 3), np.uint8), camera=CAMERA, depth=bad)
        assert flat_around(view, (159.0, 121.0)) is None
    assert flat_around(plane_view(normal), (3.0, 3.0)) is None, "half of the patch lies outside the picture"
