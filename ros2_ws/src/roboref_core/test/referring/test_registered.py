"""Marks carried from view to view while poses are wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from roboref_core.geometry.pose import exponential, inverse, look_at, transform
from roboref_core.models.reprojection import ReprojectionModel
from roboref_core.referring.answer import Status
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


def ask(room, pose_b, config, pixel=(150.0, 110.0), pose_a=A):
    """Marks ``pixel`` in A, asks in B; the answer, and the true point in B's optical frame [m]."""
    buffer = ViewBuffer(ViewBufferConfig(sharpness_window=1, min_interval=0.0, max_interval=0.5))
    first = room.textured(A, view_id=buffer.next_id(), stamp_ns=0)
    second = room.textured(B, view_id=buffer.next_id(), stamp_ns=SECOND)
    buffer.add(first.with_pose(pose_a))
    buffer.add(second.with_pose(pose_b))
    region = MarkedPoint(pixel, first.view_id)
    said = answer(Query("", view_id=second.view_id, regions=(region,)), buffer, ReprojectionModel(), config)
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
    assert said.check.registration.verdict is Verdict.REGISTERED
    assert np.linalg.norm(said.targets[0].position - truth) < 0.02
