"""Going there: from answers to goals, corrections, arrival, and giving up with a reason."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("roboref_msgs", reason="ros2_ws is not built: make setup")

from roboref_core.approach import OccupancyMap
from roboref_msgs.msg import LastKnownTarget, ReferAnswer, ReferredTarget
from roboref_ros.pursuit import GoToConfig, Pursuit, Step


def target(x: float, y: float, sigma: float = 0.02) -> ReferredTarget:
    found = ReferredTarget(depth_source=ReferredTarget.DEPTH_SENSOR, covariance_type=ReferredTarget.COVARIANCE_FULL)
    found.position.x, found.position.y, found.position.z = x, y, 0.7
    found.position_covariance = (np.eye(3) * sigma**2).ravel()
    return found


def found(x: float, y: float, **options) -> ReferAnswer:
    return ReferAnswer(status=ReferAnswer.STATUS_FOUND, targets=[target(x, y, **options)])


NOTHING = ReferAnswer(status=ReferAnswer.STATUS_NOT_VISIBLE)


def drive(pursuit: Pursuit, answers, start=(0.0, 0.0), grid=None):
    """Steps of a robot that is at its goal before each next question."""
    place, steps = np.array(start), []
    for answer in answers:
        decision = pursuit.on_answer(answer, place, grid)
        steps.append(decision.step)
        if decision.T_map_goal is not None:
            place = decision.T_map_goal[:2, 3]
        if decision.step in (Step.ARRIVED, Step.FAILED):
            break
    return steps, place, decision


def test_it_goes_and_arrives_at_the_stated_distance():
    steps, place, _ = drive(Pursuit(GoToConfig(distance=0.8)), [found(4, 0)] * 3)
    assert steps == [Step.GO, Step.ARRIVED]
    assert np.linalg.norm(place - (4, 0)) == pytest.approx(0.8)


def test_a_better_look_on_the_way_corrects_the_goal():
    pursuit = Pursuit(GoToConfig(distance=0.8, correction=0.15))
    steps, place, _ = drive(pursuit, [found(4, 0), found(4.5, 0.5), found(4.52, 0.5)])
    assert steps == [Step.GO, Step.GO, Step.ARRIVED] and pursuit.corrections == 1
    assert np.linalg.norm(place - (4.5, 0.5)) == pytest.approx(0.8)


def test_noise_below_the_correction_is_no_new_goal():
    pursuit = Pursuit(GoToConfig(correction=0.15))
    pursuit.on_answer(found(4, 0), np.zeros(2), None)
    assert pursuit.on_answer(found(4.1, 0), np.array([1.0, 0.0]), None).step is Step.WAIT


def test_it_goes_to_where_the_thing_was_seen_last():
    remembered = ReferAnswer(
        status=ReferAnswer.STATUS_NOT_VISIBLE, last_known=[LastKnownTarget(view_id="a", target=target(2, 1))]
    )
    decision = Pursuit(GoToConfig()).on_answer(remembered, np.zeros(2), None)
    assert decision.step is Step.GO and "seen before" in decision.text


def test_lost_after_so_many_questions_and_says_so():
    steps, _, decision = drive(Pursuit(GoToConfig(lost_after=3)), [NOTHING] * 9)
    assert steps == [Step.WAIT, Step.WAIT, Step.FAILED]
    assert decision.text.startswith("lost after 3 questions")


def test_one_answer_in_between_begins_the_count_again():
    answers = [found(4, 0), NOTHING, NOTHING, found(4, 0), NOTHING, NOTHING]
    pursuit = Pursuit(GoToConfig(lost_after=3))
    assert [pursuit.on_answer(answer, np.zeros(2), None).step for answer in answers][-1] is Step.WAIT


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_place_that_is_no_number_is_not_driven_to(broken):
    assert Pursuit(GoToConfig()).on_answer(found(broken, 0), np.zeros(2), None).step is Step.WAIT


def test_no_room_before_the_target_is_a_reason():
    grid = np.full((80, 80), 100, np.int8)
    grid[:20, :20] = 0
    occupied = OccupancyMap(grid, 0.05, (0.0, 0.0))
    decision = Pursuit(GoToConfig()).on_answer(found(3, 3), np.array([0.5, 0.5]), occupied)
    assert decision.step is Step.FAILED and "free" in decision.text


def test_a_memory_alone_is_no_arrival():
    remembered = ReferAnswer(
        status=ReferAnswer.STATUS_NOT_VISIBLE, last_known=[LastKnownTarget(view_id="a", target=target(2, 1))]
    )
    steps, _, decision = drive(Pursuit(GoToConfig(lost_after=3)), [remembered] * 9)
    assert steps == [Step.GO, Step.WAIT, Step.WAIT, Step.FAILED]
    assert decision.text == "lost: it is not seen where it was seen last"
