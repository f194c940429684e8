"""Marks carried from view to view while poses are wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from roboref_core.geometry.pose import exponential, inverse, look_at, transform
from roboref_core.models.reprojection import ReprojectionModel
from roboref_core.referring.answer import Status
from roboref_core.referring.pose_residual import pose_residual
from roboref_core.referring.query import MarkedPoint, Query
from roboref_core.referring.refer import ReferConfig, answer
from roboref_core.views.locate import LocateConfig
from roboref_core.views.registration import RegistrationMode, Verdict
from roboref_core.views.view_buffer import SECOND, ViewBuffer, ViewBufferConfig

CENTRE = (0.0, 0.0, 0.5)
A = look_at((-2.2, 0.2, 1.3), CENTRE)
B = look_at((-2.0, -0.4, 1.4), CENTRE)
ERROR = exponential(np.array([0.02, -0.02, 0.015, 0.015, -0.02, 0.01]))
CAMERA_FRAME = "camera_color_optical_frame"
DECLARED = ReferConfig(
    target_frame=CAMERA_FRAME,
    locate=LocateConfig(pose_translation_sigma=0.02, pose_rotation_sigma=float(np.radians(1.0))),
)


def ask(room, pose_b, config, pose_a=A, texture=True, **known):
    """Marks a pixel in A, asks in B; the answer, and the true point in B's optical frame [m]."""
    buffer = ViewBuffer(ViewBufferConfig(sharpness_window=1, min_interval=0.0, max_interval=0.5))
    seen = room.textured if texture else room.view
    first = seen(A, view_id=buffer.next_id(), stamp_ns=0)
    second = seen(B, view_id=buffer.next_id(), stamp_ns=SECOND)
    buffer.add(first.with_pose(pose_a))
    buffer.add(second.with_pose(pose_b))
    pixel = (150.0, 110.0)
    region = MarkedPoint(pixel, first.view_id)
    said = answer(Query("", view_id=second.view_id, regions=(region,)), buffer, ReprojectionModel(), config, **known)
    return said, transform(inverse(B), room.point(first, pixel))


def test_noisy_poses_give_the_right_place_in_the_camera_frame(room):
    said, truth = ask(room, B @ ERROR, DECLARED)
    assert said.status == Status.FOUND and said.check.registration.verdict is Verdict.REGISTERED
    error = said.targets[0].position - truth
    assert np.linalg.norm(error) < 0.015
    assert error @ np.linalg.solve(said.targets[0].covariance, error) < 11.3  # 99 % of three Gaussian components


def test_without_registration_they_do_not(room):
    off = replace(DECLARED, registration=RegistrationMode.OFF)
    said, truth = ask(room, B @ ERROR, off)
    assert said.check.registration is None
    assert not said.targets or np.linalg.norm(said.targets[0].position - truth) > 0.02


def test_exact_poses_stay_exact(room):
    said, truth = ask(room, B, replace(DECLARED, locate=LocateConfig()))
    assert said.check.registration is None
    assert np.linalg.norm(said.targets[0].position - truth) < 0.003


@pytest.mark.parametrize(("pose_a", "pose_b"), [(None, None), (A, None)])
def test_without_poses_the_answer_is_in_the_camera_frame(room, pose_a, pose_b):
    said, truth = ask(room, pose_b, replace(DECLARED, target_frame=""), pose_a=pose_a)
    assert said.status == Status.FOUND and said.targets[0].frame_id == CAMERA_FRAME
    assert said.check.without_poses and np.isnan(said.check.registration.correction).all()
    assert said.check.registration.verdict is Verdict.REGISTERED
    assert np.linalg.norm(said.targets[0].position - truth) < 0.02


def test_views_without_poses_that_nothing_links_are_said_to_be_so(room):
    said, _ = ask(room, None, DECLARED, pose_a=None, texture=False)
    assert said.check.without_poses and said.check.registration.verdict is Verdict.UNCONSTRAINED
    off = ask(room, None, replace(DECLARED, registration=RegistrationMode.OFF), pose_a=None, texture=False)[0]
    assert off.check.registration is None


def test_poses_known_to_disagree_are_registered_even_where_surfaces_agree(room):
    undeclared = replace(DECLARED, locate=LocateConfig())
    assert ask(room, B, undeclared)[0].check.registration is None
    said, truth = ask(room, B, undeclared, poses_disagree=True)
    assert said.check.registration.verdict is Verdict.REGISTERED
    assert np.linalg.norm(said.targets[0].position - truth) < 0.01


def test_the_residual_tells_bad_poses_from_good_ones(room):
    views = [room.textured(T) for T in (A, B, A)]
    good = pose_residual(views)
    assert good.pairs == 2 and not good.poses_disagree
    bad = pose_residual([views[0], views[1].with_pose(B @ ERROR @ ERROR), views[2]])
    assert bad.poses_disagree and bad.residual > good.residual


def test_views_that_cannot_be_compared_have_no_residual(room):
    broken = room.view(B, depth=np.zeros((7, 7), np.float32))
    for views in ([], [room.textured(A)], [room.textured(A), room.textured(B).with_pose(None)], [room.view(A), broken]):
        residual = pose_residual(views)
        assert residual.pairs == 0 and np.isnan(residual.residual) and not residual.poses_disagree
