from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from roboref_core.geometry.pose import look_at
from roboref_core.referring.answer import Status
from roboref_core.scene import Instances, Mesh
from roboref_core.views.locate import DepthSource
from scipy.spatial.transform import Rotation

from offline.data_engine.test.synthetic import BOX_FACES
from offline.eval.records.node_answer import NodeAnswer
from offline.eval.replay.closed_loop.closed_loop import (
    LoopConfig,
    drive,
    over_floor,
    pooled,
    pose_distances,
    summary,
)
from offline.eval.replay.truth.surface import ObjectSurface

HEIGHT = 1.5
TARGET = np.array([0.0, 0.0, 0.7])
CUBE = 0.2


def found(place, status=Status.FOUND, source=DepthSource.SENSOR) -> NodeAnswer:
    target = {
        "depth_source": int(source),
        "position": dict(zip("xyz", map(float, place), strict=True)),
        "pixel": {"u": 0.0, "v": 0.0},
    }
    return NodeAnswer.from_message({"status": int(status), "targets": [target]})


HIDDEN = NodeAnswer.from_message({"status": int(Status.NOT_VISIBLE)})


def grid(spacing=0.4, half=4.0, headings=12) -> np.ndarray:
    """Poses at the corners of a grid over the floor that look about."""
    ticks = np.arange(-half, half + 1e-9, spacing)
    angles = np.arange(headings) * 2 * np.pi / headings
    return np.array(
        [
            look_at((x, y, HEIGHT), (x + np.cos(a), y + np.sin(a), HEIGHT - 0.4))
            for x in ticks
            for y in ticks
            for a in angles
        ]
    )


POSES = grid()


@pytest.fixture(scope="module")
def surface() -> ObjectSurface:
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * CUBE / 2 + TARGET
    mesh = Mesh(corners.astype(np.float32), BOX_FACES.astype(np.int32))
    return ObjectSurface(mesh, Instances(np.full(8, 5, np.int32), {5: "cube"}), 5)


@given(arrays(np.float64, 3, elements=st.floats(-2, 2)))
def test_distance_from_a_cube(surface, offset):
    outside = np.maximum(np.abs(offset) - CUBE / 2, 0)
    expected = np.linalg.norm(outside) if outside.any() else (CUBE / 2 - np.abs(offset)).min()
    assert surface.distance(TARGET + offset) == pytest.approx(expected, abs=0.01)
    assert surface.distance_over_floor(TARGET + offset) == pytest.approx(np.linalg.norm(outside[:2]), abs=0.01)


def test_an_object_without_triangles_is_named():
    mesh = Mesh(np.zeros((3, 3), np.float32), np.array([[0, 1, 2]], np.int32))
    with pytest.raises(ValueError, match=r"object 9 \(mug\)"):
        ObjectSurface(mesh, Instances(np.array([1, 1, 9], np.int32), {9: "mug"}), 9)


@given(arrays(np.float64, 6, elements=st.floats(-1, 1)), arrays(np.float64, 6, elements=st.floats(-1, 1)))
def test_pose_distance_against_scipy(a, b):
    poses = np.array([np.eye(4), np.eye(4)])
    for T, values in zip(poses, (a, b), strict=True):
        T[:3, :3], T[:3, 3] = Rotation.from_rotvec(values[:3]).as_matrix(), values[3:]
    angle = (Rotation.from_rotvec(a[:3]).inv() * Rotation.from_rotvec(b[:3])).magnitude()
    expected = np.linalg.norm(a[3:] - b[3:]) + 0.5 * angle
    assert pose_distances(poses, poses[1], 0.5) == pytest.approx([expected, 0.0], abs=1e-6)


def test_right_answers_lead_to_the_object(surface):
    config = LoopConfig()
    start = int(np.argmax(np.linalg.norm(POSES[:, :2, 3], axis=1)))
    way = drive(lambda position: found(TARGET), POSES, start, config)
    assert way.end == "arrived"
    distances = [over_floor(stop.T_world_robot[:3, 3], TARGET) for stop in way.stops]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] <= config.reach
    found_out = summary(way, surface, config)
    assert found_out["success"]
    assert found_out["covered"] == found_out["wanted"] == found_out["steps"]
    assert np.diff(distances) == pytest.approx(-config.step)
    assert all(stop.miss <= config.tolerance for stop in way.stops)
    assert found_out["views"] > found_out["steps"] / 2


def test_a_wrong_answer_arrives_without_success(surface):
    config = LoopConfig(max_steps=40)
    way = drive(lambda position: found((3.0, 3.0, 0.7)), POSES, 0, config)
    result = summary(way, surface, config)
    assert way.end == "arrived"
    assert not result["success"]
    assert result["final_distance"] > 2
    assert result["answer_error"][0] > 3


def test_each_view_depends_on_the_answer_before_it():
    """What makes the loop closed: answers that differ lead to other views."""
    config = LoopConfig(max_steps=4)
    ways = [drive(lambda position, p=place: found(p), POSES, 0, config) for place in ((3, 3, 1), (3, -3, 1))]
    assert ways[0].stops[0].position == ways[1].stops[0].position
    assert [s.position for s in ways[0].stops[1:]] != [s.position for s in ways[1].stops[1:]]


def test_without_an_answer_it_turns_on_the_spot_until_it_has_one():
    start = 0
    way = drive(lambda position: HIDDEN, POSES, start, LoopConfig(max_steps=5, turn=30.0))
    assert way.end == "steps used up"
    assert len(way.stops) == 6
    assert len({stop.position for stop in way.stops}) == 6
    assert all(over_floor(stop.T_world_robot[:3, 3], POSES[start][:3, 3]) < 1e-9 for stop in way.stops)


def test_a_lost_target_is_kept():
    asked = []

    def once(position):
        asked.append(position)
        return found(TARGET) if len(asked) == 1 else HIDDEN

    way = drive(once, POSES, 0, LoopConfig())
    assert way.end == "arrived"
    assert [stop.target is None for stop in way.stops] == [False] + [True] * (len(way.stops) - 1)


def test_what_is_not_recorded_is_not_covered(surface):
    config = LoopConfig()
    near_start = POSES[np.linalg.norm(POSES[:, :2, 3] - (-4, -4), axis=1) < 0.9]
    way = drive(lambda position: found(TARGET), near_start, 0, config)
    result = summary(way, surface, config)
    assert way.end == "not covered"
    assert not result["success"]
    assert 0 < result["covered"] < result["wanted"]
    assert result["misses"][-1] > config.tolerance
    alone = drive(lambda position: found(TARGET), POSES[:1], 0, config)
    assert alone.end == "not covered"
    assert summary(alone, surface, config)["wanted"] == len(alone.uncovered) == 5


@pytest.mark.parametrize("half_width", [0.3, 0.5, 0.9])
def test_it_goes_around_what_is_not_recorded(surface, half_width):
    """A wall of missing views between start and object."""
    places = POSES[:, :2, 3]
    poses = POSES[~((np.abs(places[:, 0] + 1.4) < 0.5) & (np.abs(places[:, 1]) < half_width))]
    first = int(np.argmin(pose_distances(poses, look_at((-2.8, 0, HEIGHT), TARGET), 0.1)))
    config = LoopConfig(tolerance=0.35, rotation_weight=0.1)
    way = drive(lambda position: found(TARGET), poses, first, config)
    assert way.end == "arrived"
    assert way.uncovered
    assert summary(way, surface, config)["success"]


def test_views_without_pose_are_never_chosen():
    poses = POSES.copy()
    lost = np.random.default_rng(0).random(len(poses)) < 0.3
    lost[0] = False
    poses[lost] = np.nan
    way = drive(lambda position: found(TARGET), poses, 0, LoopConfig(tolerance=2.0))
    assert way.end == "arrived"
    assert not any(lost[stop.position] for stop in way.stops)


@pytest.mark.parametrize(
    "answer",
    [HIDDEN, found(TARGET, Status.FOUND_WITHOUT_POSITION, DepthSource.NONE), found(TARGET, source=DepthSource.NONE)],
)
def test_no_place_without_metres(answer):
    assert answer.in_world is None


def test_pooled_counts(surface):
    config = LoopConfig()
    errors = iter(np.linspace(0.5, 0.1, 20))
    better = drive(lambda position: found(TARGET + (0, 0, next(errors))), POSES, 0, config)
    lost = drive(lambda position: found(TARGET), POSES[:1], 0, config)
    ways = [summary(better, surface, config), summary(lost, surface, config)]
    result = pooled(ways)
    assert result["ways"] == 2
    assert result["ends"] == {"arrived": 1, "not covered": 1, "steps used up": 0}
    assert result["success"] == 1
    assert result["wanted"] == ways[0]["wanted"] + 5
    assert result["covered"] == ways[0]["wanted"]
    assert result["answers"]["ways"] == 1
    assert result["answers"]["nearer"] == 1


@pytest.mark.parametrize("change", [{"step": 0.0}, {"tolerance": -1.0}, {"rotation_weight": -0.1}, {"max_steps": 0}])
def test_configuration_is_checked(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        LoopConfig(**change)
