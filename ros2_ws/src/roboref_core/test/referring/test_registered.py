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
from roboref_core.views.visibility import Visibility

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


SIGMAS = np.array([0.02] * 3 + [np.radians(1.0)] * 3)
BESIDE = [look_at((-2.2, y, 1.3), CENTRE) for y in np.linspace(-0.5, 0.5, 6)]


class Robot:
    """Transforms of a robot whose base is the camera's frame, turned: they know the stated pose only."""

    T_base_camera = exponential(np.array([0.1, 0.0, 0.4, 0.0, 0.3, 0.0]))

    def __init__(self, T_world_camera):
        self._T_base_world = self.T_base_camera @ inverse(T_world_camera)

    def lookup(self, target, source, stamp_ns):
        assert target == "base_link"
        return {CAMERA_FRAME: self.T_base_camera, "world": self._T_base_world}[source]


@pytest.fixture(scope="module")
def remembered(room):
    """A buffer of noisy keyframes, the marked view and the searched one."""
    rng = np.random.default_rng(11)
    buffer = ViewBuffer(ViewBufferConfig(sharpness_window=1, min_interval=0.0, max_interval=0.5))
    views = []
    for i, T in enumerate([A, *BESIDE, B]):
        view = room.textured(T, view_id=buffer.next_id(), stamp_ns=i * SECOND)
        views.append(view.with_pose(T @ exponential(SIGMAS * rng.normal(size=6))))
        buffer.add(views[-1])
    return buffer, views[0], views[-1]


def remembered_answer(remembered, frame, frames=None):
    buffer, first, second = remembered
    query = Query("", view_id=second.view_id, regions=(MarkedPoint((150.0, 110.0), first.view_id),), target_frame=frame)
    return answer(query, buffer, ReprojectionModel(), replace(DECLARED, target_frame=""), frames)


def test_keyframes_average_the_pose_errors_of_a_position_in_the_world(room, remembered):
    said = remembered_answer(remembered, "world")
    truth = room.point(room.textured(A), (150.0, 110.0))
    (target,) = said.targets
    stated = remembered[2].T_world_camera
    seen = transform(inverse(said.view.T_world_camera), target.position)
    assert np.linalg.norm(target.position - truth) < 0.7 * np.linalg.norm(transform(stated, seen) - truth)
    error = target.position - truth
    assert error @ np.linalg.solve(target.covariance, error) < 11.3
    # The camera's frame has no part in that.
    assert np.linalg.norm(seen - transform(inverse(B), truth)) < 0.015


def test_a_frame_on_the_robot_does_not_owe_the_correction_of_the_world(room, remembered):
    """Transforms hold the stated pose, so the way over the corrected world would be off by the correction."""
    robot = Robot(remembered[2].T_world_camera)
    (target,) = remembered_answer(remembered, "base_link", robot).targets
    truth = room.point(room.textured(A), (150.0, 110.0))
    assert np.linalg.norm(target.position - transform(robot.T_base_camera @ inverse(B), truth)) < 0.015


def test_without_poses_a_chain_of_keyframes_leads_to_a_view_that_shares_nothing_with_the_mark(room):
    """A camera in the hand turns away and back up to where only the edge of the marked thing shows."""
    eye = np.array([-2.2, 0.2, 1.3])
    turned = [look_at(eye, eye + np.array([np.cos(a), np.sin(a), -0.25])) for a in np.arange(6) * 0.28]
    buffer = ViewBuffer(ViewBufferConfig(sharpness_window=1, min_interval=0.0, max_interval=0.5))
    views = [room.textured(T, view_id=buffer.next_id(), stamp_ns=i * SECOND) for i, T in enumerate(turned)]
    for view in views:
        buffer.add(view.with_pose(None))
    region = MarkedPoint((150.0, 110.0), views[0].view_id)
    said = answer(Query("", view_id=views[5].view_id, regions=(region,)), buffer, ReprojectionModel(), ReferConfig())
    # It lies behind the picture's border by then: the chain says so, which no pair alone could.
    assert said.status == Status.NOT_VISIBLE, said.error_msg
    assert said.check.registration.verdict is Verdict.REGISTERED
    assert said.check.visibility is Visibility.OUT_OF_FRUSTUM
