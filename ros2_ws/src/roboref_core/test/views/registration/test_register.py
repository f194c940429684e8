"""Registration of views of a textured analytic room, whose relative poses are known exactly."""

from __future__ import annotations

import numpy as np
import pytest
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import exponential, inverse, logarithm, look_at, pose
from roboref_core.views.registration import FeatureCache, Verdict, register

SMALL = Camera(320, 240, 280.0, 280.0, 159.5, 119.5)
WIDE = Camera(400, 300, 350.0, 352.0, 201.0, 148.0, "plumb_bob", (0.05, -0.02, 0.001, -0.001, 0.0))
CENTRE = (0.0, 0.0, 0.5)
A = look_at((-2.2, 0.2, 1.3), CENTRE)
B = look_at((-2.0, -0.4, 1.4), CENTRE)
SIGMA = (0.02, float(np.radians(1.0)))
ERROR = exponential(np.array([0.02, -0.02, 0.015, 0.015, -0.02, 0.01]))


def off(registration, T_query_reference):
    """Translation [m] and rotation [rad] by which a registration errs."""
    twist = logarithm(registration.T_query_reference @ inverse(T_query_reference))
    return np.linalg.norm(twist[:3]), np.linalg.norm(twist[3:])


@pytest.mark.parametrize(("camera", "depth_camera"), [(SMALL, None), (WIDE, SMALL)])
def test_noisy_poses_are_registered(room, camera, depth_camera):
    reference = room.textured(A, camera, depth_camera)
    query = room.textured(B, camera, depth_camera).with_pose(B @ ERROR)
    found = register(reference, query, FeatureCache(), *SIGMA)
    assert found.verdict is Verdict.REGISTERED
    distance, angle = off(found, inverse(B) @ A)
    assert distance < 0.006 and angle < 0.003
    assert found.agreement > 0.9 and found.inliers >= 10 and 0 < found.deviation < 5
    assert found.correction[0] > 0.01 and np.linalg.eigvalsh(found.covariance).min() > 0


def test_exact_poses_are_left_as_they_are(room):
    found = register(room.textured(A), room.textured(B), FeatureCache(), 0.0, 0.0)
    np.testing.assert_array_equal(found.T_query_reference, inverse(B) @ A)
    assert not found.covariance.any()


def test_without_a_pose_features_suffice(room):
    found = register(room.textured(A).with_pose(None), room.textured(B).with_pose(None), FeatureCache(), *SIGMA)
    assert found.verdict is Verdict.REGISTERED
    distance, angle = off(found, inverse(B) @ A)
    assert distance < 0.01 and angle < 0.005


def test_views_without_overlap_keep_what_was_stated(room):
    away = look_at((-2.0, -1.5, 1.4), (-3.0, -2.0, 1.0))
    found = register(room.textured(A), room.textured(away), FeatureCache(), *SIGMA)
    assert found.verdict is not Verdict.REGISTERED
    np.testing.assert_allclose(found.T_query_reference, inverse(away) @ A)


def test_a_wall_without_texture_is_no_pose(room):
    """A plane leaves sliding and turning on it open; the covariance must say so."""
    wall = look_at((0.0, 1.0, 1.5), (0.0, 2.5, 1.5))
    beside = wall @ pose(np.eye(3), (0.05, 0.0, 0.0))
    found = register(room.view(wall, SMALL), room.view(beside, SMALL).with_pose(beside @ ERROR), FeatureCache(), *SIGMA)
    assert np.sqrt(found.covariance[0, 0]) > 0.01


def test_a_view_of_another_place_is_rejected_or_left(room):
    """Poses off by far more than they state: nothing is believed that lies many sigmas away."""
    reference, query = room.textured(A), room.textured(B)
    wrong = query.with_pose(B @ exponential(np.array([0.0, 0.0, 0.0, 0.0, 0.3, 0.0])))
    found = register(reference, wrong, FeatureCache(), 0.002, float(np.radians(0.1)))
    assert found.verdict is not Verdict.REGISTERED


def test_the_cache_belongs_to_images_and_is_bounded(room):
    views = [room.textured(A, view_id=str(i)) for i in range(3)]
    cache = FeatureCache()
    one = cache.of(views[0])
    assert cache.of(views[0].with_pose(B)) is one
    cache.max_bytes = int(1.5 * cache.nbytes)
    for view in views:
        cache.of(view)
    assert 0 < cache.nbytes <= cache.max_bytes
    held = cache.nbytes
    del views, view
    assert cache.nbytes < held


def test_covariance_is_of_a_twist_in_the_query_frame(room):
    """Propagated to points it must be of the size of the error that is really made."""
    reference, query = room.textured(A), room.textured(B).with_pose(B @ ERROR)
    found = register(reference, query, FeatureCache(), *SIGMA)
    twist = logarithm(found.T_query_reference @ inverse(inverse(B) @ A))
    assert twist @ np.linalg.solve(found.covariance, twist) < 40
