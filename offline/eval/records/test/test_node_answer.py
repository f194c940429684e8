"""Answers of the node as evaluation reads them."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("roboref_msgs", reason="ros2_ws is not built: make setup")

from roboref_core.referring.answer import Status
from roboref_msgs.msg import ReferAnswer, ReferredTarget

from offline.eval.records.node_answer import NodeAnswer
from offline.eval.replay.playing.messages import to_plain


def target(x: float) -> ReferredTarget:
    found = ReferredTarget(depth_source=ReferredTarget.DEPTH_SENSOR, covariance_type=ReferredTarget.COVARIANCE_FULL)
    found.pixel.u, found.pixel.v = 10.0, 20.0
    found.position.x = found.position.y = found.position.z = x
    found.position_covariance = [1e-4, 0, 0, 0, 1e-4, 0, 0, 0, 1e-4]
    return found


@pytest.mark.parametrize("status", [ReferAnswer.STATUS_FOUND, ReferAnswer.STATUS_FOUND_WITHOUT_POSITION])
def test_an_unknown_place_is_no_place(status):
    read = NodeAnswer.from_message(to_plain(ReferAnswer(status=status, targets=[target(math.nan)])))
    assert read.pixel == (10.0, 20.0) and read.in_world is None and read.in_camera is None


def test_a_known_place_is_read():
    read = NodeAnswer.from_message(to_plain(ReferAnswer(status=ReferAnswer.STATUS_FOUND, targets=[target(1.5)])))
    assert read.status is Status.FOUND and list(read.in_world.position) == [1.5] * 3
    assert read.in_world.holds((1.51, 1.5, 1.5), 7.8) and not read.in_world.holds((1.6, 1.5, 1.5), 7.8)
