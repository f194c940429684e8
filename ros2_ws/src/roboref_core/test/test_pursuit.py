"""Going there: from answers to goals, corrections, arrival, and giving up with a reason."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from roboref_core.approach import Eye, OccupancyMap
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import look_at, pose
from roboref_core.pursuit import End, GoToConfig, Pursuit, Step
from roboref_core.referring.answer import Answer, GeometricCheck, LastKnown, Status, Target
from roboref_core.views.locate import DepthSource
from roboref_core.views.visibility import Visibility


def target(x: float, y: float, sigma: float = 0.02) -> Target:
    return Target((0.0, 0.0), "map", 0, np.array((x, y, 0.7)), np.eye(3) * sigma**2, DepthSource.SENSOR)


def at(x: float, y: float) -> np.ndarray:
    return pose(np.eye(3), (x, y, 0.0))


def remembered(x: float, y: float) -> Answer:
    return Answer(Status.NOT_VISIBLE, last_known=(LastKnown("a", target(x, y)),))


def found(x: float, y: float, **options) -> Answer:
    return Answer(Status.FOUND, targets=(target(x, y, **options),))


NOTHING = Answer(Status.NOT_VISIBLE)


def drive(pursuit: Pursuit, answers, start=(0.0, 0.0), grid=None, eye=None):
    """Steps of a robot that is at its goal before each next question."""
    T_map_base, steps = at(*start), []
    for answer in answers:
        decision = pursuit.on_answer(answer, T_map_base, grid, eye)
        steps.append(decision.step)
        if decision.T_map_goal is not None:
            T_map_base = decision.T_map_goal
        if decision.step in (Step.ARRIVED, Step.FAILED):
            break
    return steps, T_map_base[:2, 3], decision


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
    pursuit.on_answer(found(4, 0), np.eye(4), None)
    assert pursuit.on_answer(found(4.1, 0), at(1.0, 0.0), None).step is Step.WAIT


def test_it_goes_to_where_the_thing_was_seen_last():
    decision = Pursuit(GoToConfig()).on_answer(remembered(2, 1), np.eye(4), None)
    assert decision.step is Step.GO and "seen before" in decision.text


def test_lost_after_so_many_questions_and_says_so():
    steps, _, decision = drive(Pursuit(GoToConfig(lost_after=3, look_around=0)), [NOTHING] * 9)
    assert steps == [Step.WAIT, Step.WAIT, Step.FAILED]
    assert decision.end is End.LOST and decision.text.startswith("lost after 3 questions")


def test_one_answer_in_between_begins_the_count_again():
    answers = [found(4, 0), NOTHING, NOTHING, found(4, 0), NOTHING, NOTHING]
    pursuit = Pursuit(GoToConfig(lost_after=3, look_around=0))
    assert [pursuit.on_answer(answer, np.eye(4), None).step for answer in answers][-1] is Step.WAIT


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_place_that_is_no_number_is_not_driven_to(broken):
    assert Pursuit(GoToConfig(look_around=0)).on_answer(found(broken, 0), np.eye(4), None).step is Step.WAIT


def test_no_room_before_the_target_is_a_reason():
    grid = np.full((80, 80), 100, np.int8)
    grid[:20, :20] = 0
    occupied = OccupancyMap(grid, 0.05, (0.0, 0.0))
    decision = Pursuit(GoToConfig()).on_answer(found(3, 3), at(0.5, 0.5), occupied)
    assert decision.end is End.NO_PLACE_TO_STAND and "free" in decision.text


def test_a_memory_alone_is_no_arrival():
    steps, _, decision = drive(Pursuit(GoToConfig(lost_after=3, look_around=0)), [remembered(2, 1)] * 9)
    assert steps == [Step.GO, Step.WAIT, Step.WAIT, Step.FAILED]
    assert decision.end is End.GONE and "not seen where it was seen last" in decision.text


def test_near_it_already_a_memory_is_no_arrival_either():
    decision = Pursuit(GoToConfig(distance=0.8)).on_answer(remembered(0.8, 0.0), at(0.0, 0.0), None)
    assert decision.step is Step.GO


def test_it_looks_all_around_before_it_gives_up():
    pursuit, headings = Pursuit(GoToConfig(lost_after=3, look_around=5)), []
    T_map_base = at(1.0, 2.0)
    for _ in range(20):
        decision = pursuit.on_answer(NOTHING, T_map_base, None)
        if decision.T_map_goal is None:
            break
        T_map_base = decision.T_map_goal
        assert np.allclose(T_map_base[:2, 3], (1.0, 2.0))
        headings.append(np.degrees(np.arctan2(T_map_base[1, 0], T_map_base[0, 0])) % 360)
    assert np.allclose(headings, [60, 120, 180, 240, 300]) and decision.end is End.LOST


def test_what_is_gone_from_its_place_is_looked_for_around_it():
    pursuit = Pursuit(GoToConfig(lost_after=2, look_around=3))
    steps, place, decision = drive(pursuit, [remembered(2, 0), remembered(2, 0), remembered(2, 0), found(3, 2)] * 2)
    assert steps[:4] == [Step.GO] * 4 and np.linalg.norm(place - (3, 2)) == pytest.approx(0.8)
    steps, _, decision = drive(Pursuit(GoToConfig(lost_after=2, look_around=3)), [remembered(2, 0)] * 9)
    assert steps == [Step.GO] * 4 + [Step.FAILED] and decision.end is End.GONE


def test_lost_on_the_way_it_stops_and_looks_around():
    pursuit = Pursuit(GoToConfig(lost_after=3, look_around=2))
    decisions = [pursuit.on_answer(answer, at(1.0, 0.0), None) for answer in (found(4, 0), *[NOTHING] * 6)]
    assert [each.step for each in decisions] == [
        Step.GO, Step.WAIT, Step.WAIT, Step.GO, Step.GO, Step.FAILED, Step.FAILED
    ]  # fmt: skip
    assert np.allclose(decisions[3].T_map_goal[:2, 3], (1.0, 0.0))


def test_a_robot_that_does_not_get_there_tries_another_place_and_then_says_so():
    pursuit = Pursuit(GoToConfig(lost_after=3))
    goals = []
    for _ in range(200):
        decision = pursuit.on_answer(found(4, 0), at(1.0, 0.0), None)
        if decision.T_map_goal is not None:
            goals.append(decision.T_map_goal[:2, 3])
        if decision.end is not None:
            break
    assert decision.end is End.NOT_DRIVEN and len(goals) > 3
    gaps = [np.linalg.norm(a - b) for i, a in enumerate(goals) for b in goals[:i]]
    assert min(gaps) >= 0.4


def test_what_is_hidden_from_one_side_is_looked_at_from_another():
    def hidden(x, y):
        return replace(
            remembered(x, y),
            last_known=(LastKnown("a", target(x, y), GeometricCheck(visibility=Visibility.OCCLUDED)),),
        )

    pursuit = Pursuit(GoToConfig(lost_after=3, look_around=0, sides=2))
    steps, _, decision = drive(pursuit, [hidden(2, 1)] * 3 + [found(2, 1)] * 2)
    assert steps == [Step.GO, Step.GO, Step.GO, Step.ARRIVED]
    steps, _, decision = drive(Pursuit(GoToConfig(lost_after=3, look_around=0, sides=2)), [hidden(2, 1)] * 9)
    assert steps[:3] == [Step.GO] * 3 and decision.end is End.GONE


def test_rival_places_are_where_to_look():
    rivals = Answer(Status.AMBIGUOUS, targets=(target(2, 1), target(5, 5)))
    steps, place, decision = drive(Pursuit(GoToConfig(lost_after=2, look_around=0)), [rivals] * 9)
    assert steps == [Step.GO, Step.WAIT, Step.FAILED] and decision.end is End.GONE
    assert np.linalg.norm(place - (2, 1)) == pytest.approx(0.8)


def test_an_uncertain_place_is_where_to_look_and_a_nearer_look_may_know_it():
    vague = found(4, 0, sigma=0.6)
    steps, place, decision = drive(Pursuit(GoToConfig()), [vague, found(4.3, 0), found(4.3, 0)])
    assert steps == [Step.GO, Step.GO, Step.ARRIVED] and decision.end is End.ARRIVED
    assert np.linalg.norm(place - (4.3, 0)) == pytest.approx(0.8)
    steps, _, decision = drive(Pursuit(GoToConfig(lost_after=3)), [vague] * 9)
    assert steps == [Step.GO, Step.WAIT, Step.WAIT, Step.FAILED] and decision.end is End.UNCERTAIN


def test_it_arrives_only_at_rest_and_on_a_look_from_there():
    pursuit = Pursuit(GoToConfig(distance=0.8, arrived=0.25))
    goal = pursuit.on_answer(found(4, 0), at(0.0, 0.0), None).T_map_goal
    beside = goal @ pose(np.eye(3), (-0.2, 0.0, 0.0))
    assert pursuit.on_answer(found(4, 0), beside, None).step is Step.WAIT, "it still drives"
    assert pursuit.on_answer(found(4, 0), beside, None).end is End.ARRIVED, "it has come to rest a little before"


def test_on_its_way_to_somewhere_else_it_is_told_the_place_before_it_arrives():
    """Where it stands may be right for what it sees now, and its navigation still has the goal before."""
    pursuit = Pursuit(GoToConfig(distance=0.8))
    assert pursuit.on_answer(remembered(0, 5), at(0.0, 0.0), None).step is Step.GO
    told = pursuit.on_answer(found(0.8, 0), at(0.0, 0.0), None)
    assert told.step is Step.GO and np.allclose(told.T_map_goal, at(0.0, 0.0), atol=1e-6)
    assert pursuit.on_answer(found(0.8, 0), at(0.0, 0.0), None).end is End.ARRIVED


def test_it_arrives_only_when_it_faces_its_target_unless_it_cannot_turn():
    pursuit, turned = Pursuit(GoToConfig(distance=0.8)), np.diag((-1.0, -1.0, 1.0, 1.0))
    goal = pursuit.on_answer(found(4, 0), at(0.0, 0.0), None).T_map_goal
    steps = [pursuit.on_answer(found(4, 0), goal @ turned, None).step for _ in range(3)]
    assert steps == [Step.WAIT, Step.WAIT, Step.ARRIVED]


def test_seen_twice_from_its_place_one_miss_at_rest_does_not_count():
    pursuit, turned = Pursuit(GoToConfig(distance=0.8)), np.diag((-1.0, -1.0, 1.0, 1.0))
    goal = pursuit.on_answer(found(4, 0), at(0.0, 0.0), None).T_map_goal
    beside = goal @ turned @ pose(np.eye(3), (0.2, 0.0, 0.0))
    steps = [
        pursuit.on_answer(found(4, 0), beside, None).step,
        pursuit.on_answer(found(4, 0), goal @ turned, None).step,
    ]
    assert steps == [Step.WAIT, Step.WAIT]
    assert pursuit.on_answer(remembered(4, 0), goal, None).end is End.ARRIVED


def test_sightings_all_over_a_wide_thing_are_one():
    pursuit = Pursuit(GoToConfig(correction=0.15))
    pursuit.on_answer(found(4, 0, sigma=0.3), np.eye(4), None)
    assert pursuit.on_answer(found(4.25, 0, sigma=0.3), at(1.0, 0.0), None).step is Step.WAIT
    assert pursuit.on_answer(found(4.25, 0, sigma=0.05), at(1.1, 0.0), None).step is Step.GO, "a better look"


def test_a_robot_that_trembles_arrives_as_well():
    pursuit, rng = Pursuit(GoToConfig(distance=0.8, lost_after=4)), np.random.default_rng(0)
    pursuit.on_answer(found(4, 0), at(0.0, 0.0), None)
    steps = []
    for _ in range(6):
        steps.append(pursuit.on_answer(found(4, 0), at(3.0, *rng.uniform(0.02, 0.1, 1)), None).step)
    assert Step.ARRIVED in steps and set(steps) == {Step.WAIT, Step.ARRIVED}


def test_what_the_way_has_shown_is_newer_than_memory():
    """A moved thing that was seen once is gone to, though the next look misses it and memory knows the old place."""
    pursuit = Pursuit(GoToConfig(look_around=0))
    steps, place, _ = drive(pursuit, [remembered(4, 0), found(0, 4), remembered(4, 0), found(0, 4), found(0, 4)])
    assert steps == [Step.GO, Step.GO, Step.WAIT, Step.ARRIVED]
    assert np.linalg.norm(place - (0, 4)) == pytest.approx(0.8)


def test_a_vague_sighting_is_newer_than_memory_as_well():
    vague = found(0, 4, sigma=0.6)
    pursuit = Pursuit(GoToConfig(look_around=0))
    steps, place, _ = drive(pursuit, [remembered(4, 0), vague, remembered(4, 0), found(0, 4), found(0, 4)])
    assert steps[:2] == [Step.GO, Step.GO] and np.linalg.norm(place - (0, 4)) == pytest.approx(0.8)


def test_a_sighting_that_came_to_nothing_is_not_followed_for_ever():
    pursuit, T_map_base = Pursuit(GoToConfig(lost_after=2, look_around=1)), at(0.0, 0.0)
    visits, decision = 0, None
    for _ in range(60):
        # From afar a model sees it where from near by there is nothing.
        near = np.linalg.norm(T_map_base[:2, 3] - (0, 4)) < 1.5
        decision = pursuit.on_answer(remembered(4, 0) if near else found(0, 4), T_map_base, None)
        if decision.T_map_goal is not None:
            visits += decision.text.startswith(("seen at", "corrected at (0"))
            T_map_base = decision.T_map_goal
        if decision.end is not None:
            break
    assert decision.end in (End.GONE, End.LOST) and visits <= 2


def test_a_place_that_is_remembered_vaguely_is_where_to_look():
    vague = Answer(Status.NOT_VISIBLE, last_known=(LastKnown("a", target(4, 0, sigma=0.8)),))
    steps, place, _ = drive(Pursuit(GoToConfig(distance=0.8)), [vague, found(4.3, 0), found(4.3, 0)])
    assert steps == [Step.GO, Step.GO, Step.ARRIVED]
    assert np.linalg.norm(place - (4.3, 0)) == pytest.approx(0.8)


def test_where_nobody_can_stand_before_a_remembered_place_it_is_looked_at_from_further_away():
    occupancy = np.zeros((120, 120), np.int8)
    occupancy[10:90, 10:90] = 100  # only cells at least 2 m from it are free
    grid = OccupancyMap(occupancy, 0.05, (0.0, 0.0))
    pursuit, start = Pursuit(GoToConfig(distance=0.8)), at(5.5, 5.5)
    decision = pursuit.on_answer(remembered(2.5, 2.5), start, grid)
    away = np.linalg.norm(decision.T_map_goal[:2, 3] - (2.5, 2.5))
    assert decision.step is Step.GO and 2.0 < away < 2.8
    seen = pursuit.on_answer(found(2.5, 2.5), decision.T_map_goal, grid)
    assert seen.end is End.NO_PLACE_TO_STAND, "seen from there is not reached"
    moved = pursuit.on_answer(found(5.0, 3.0), decision.T_map_goal, grid)
    assert moved.step is Step.GO


EYE = Eye(Camera(320, 240, 290.0, 290.0, 159.5, 119.5), look_at((0, 0, 1.2), (np.cos(0.5), 0, 1.2 - np.sin(0.5))))
HALL = OccupancyMap(np.zeros((160, 160), np.int8), 0.05, (-4.0, -4.0))


def test_what_is_gone_from_its_place_is_looked_for_where_it_was_not_looked_yet():
    pursuit = Pursuit(GoToConfig(lost_after=3, look_around=0, searches=4))
    steps, _, decision = drive(pursuit, [remembered(2, 1)] * 30, grid=HALL, eye=EYE)
    assert steps == [Step.GO, Step.WAIT, Step.WAIT] + [Step.GO] * 4 + [Step.FAILED]
    assert decision.end is End.GONE and "not seen where it was seen last" in decision.text
    pursuit = Pursuit(GoToConfig(lost_after=3, look_around=0, searches=4))
    answers = [remembered(2, 1)] * 5 + [found(-2, -1)] * 2
    steps, place, decision = drive(pursuit, answers, grid=HALL, eye=EYE)
    assert decision.end is End.ARRIVED and np.linalg.norm(place - (-2, -1)) < 1.2


def test_on_the_way_to_a_look_it_waits_and_one_that_is_not_reached_is_not_tried_again():
    pursuit, goals = Pursuit(GoToConfig(lost_after=2, look_around=0, searches=3)), []
    for _ in range(40):
        decision = pursuit.on_answer(NOTHING, at(0.0, 0.0), HALL, EYE)
        if decision.T_map_goal is not None:
            goals.append(decision.T_map_goal)
        if decision.end is not None:
            break
    assert decision.end is End.LOST and len(goals) == 3
    assert not any(np.allclose(a, b) for i, a in enumerate(goals) for b in goals[:i])
