"""Standing poses: they face the target, are free, connected to the start, and see it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from roboref_core.approach import Eye, Failure, OccupancyMap, approach
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import inverse, look_at, transform

pytest.importorskip("cv2")

RESOLUTION, SIDE = 0.05, 120
# Walls around (3, 3), too near to it to stand inside.
CAGE = [(2.55, 2.55, 3.45, 2.65), (2.55, 3.35, 3.45, 3.45), (2.55, 2.55, 2.65, 3.45), (3.35, 2.55, 3.45, 3.45)]


def room(*boxes) -> OccupancyMap:
    """6 x 6 m with walls; boxes (x0, y0, x1, y1) [m] are obstacles."""
    grid = np.zeros((SIDE, SIDE), np.int8)
    grid[[0, -1]], grid[:, [0, -1]] = 100, 100
    for x0, y0, x1, y1 in boxes:
        (c0, r0), (c1, r1) = ((round(x / RESOLUTION), round(y / RESOLUTION)) for x, y in ((x0, y0), (x1, y1)))
        grid[r0:r1, c0:c1] = 100
    return OccupancyMap(grid, RESOLUTION, (0.0, 0.0))


def heading_error(found, target) -> float:
    x, y = target[:2] - found.T_map_base[:2, 3]
    forward = found.T_map_base[:2, 0]
    return abs(np.arctan2(forward[0] * y - forward[1] * x, forward[0] * x + forward[1] * y))


@given(st.floats(0.5, 5.5), st.floats(0.5, 5.5), st.floats(0.3, 1.2), st.floats(0.1, 0.3), st.integers(0, 1000))
def test_whatever_is_given_back_can_be_driven_to(x, y, distance, radius, seed):
    rng = np.random.default_rng(seed)
    boxes = [(*(a := rng.uniform(0.5, 5.0, 2)), *(a + rng.uniform(0.1, 0.8, 2))) for _ in range(6)]
    grid, target, start = room(*boxes), np.array([x, y, 0.7]), np.array([0.4, 0.4])
    found = approach(target, None, start, distance, radius, grid)
    if found.failure is not None:
        return
    place = found.T_map_base[:2, 3]
    assert heading_error(found, target) < 1e-9
    assert distance - 1e-9 <= np.linalg.norm(target[:2] - place) <= 1.5 * distance + 0.8 + 1e-9
    rows, columns = np.nonzero(~grid.free)
    centres = (np.stack([columns, rows], axis=1) + 0.5) * RESOLUTION
    # The place lies in its cell, so up to half a cell's diagonal from where clearance was measured.
    assert np.abs(centres - place).max(axis=1).min() >= radius - 1.5 * RESOLUTION


def test_without_a_map_it_stops_short_of_the_target():
    found = approach(np.array([3.0, 0.0, 1.0]), None, np.zeros(2), 0.8, 0.2)
    assert found.T_map_base[:2, 3] == pytest.approx((2.2, 0.0)) and heading_error(found, np.array([3.0, 0.0])) < 1e-9


@pytest.mark.parametrize(
    ("target", "covariance", "start", "boxes", "failure"),
    [
        ((3, 3), np.eye(3), (1, 1), [], Failure.TARGET_UNCERTAIN),
        ((9, 3), None, (1, 1), [], Failure.TARGET_OUTSIDE),
        ((3, 3), None, (0.02, 0.02), [], Failure.START_BLOCKED),
        ((3, 3), None, (0.5, 0.5), [(0.9, 0.9, 5.1, 5.1)], Failure.NO_ROOM),
        ((4.8, 3), None, (1, 1), [(2.5, 0, 2.8, 6)], Failure.UNREACHABLE),
    ],
)
def test_why_there_is_no_place(target, covariance, start, boxes, failure):
    found = approach(np.array([*target, 1.0]), covariance, np.array(start), 0.9, 0.2, room(*boxes))
    assert found.failure is failure and found.T_map_base is None


def test_what_is_no_number_is_no_place():
    assert approach(np.full(3, np.nan), None, np.zeros(2), 0.8, 0.2).failure is Failure.TARGET_UNCERTAIN
    assert approach(np.zeros(3), None, np.full(2, np.nan), 0.8, 0.2).failure is Failure.START_BLOCKED


def test_a_thing_on_a_table_at_the_wall_is_approached_over_the_table():
    table = (2.0, 5.0, 4.0, 6.0)
    target = np.array((3.0, 5.7, 0.9))  # half a metre into the table, seen from the room
    found = approach(target, None, np.array((1.0, 1.0)), 0.9, 0.2, room(table))
    assert found.failure is None
    place = found.T_map_base[:2, 3]
    assert place[1] < 5.0 and abs(place[0] - 3.0) < 0.4, "from the room, where least of the table lies between"


def test_another_side_is_another_place():
    target, start = np.array((3.0, 3.0, 0.5)), np.array((1.0, 3.0))
    for grid in (None, room()):
        tried: list[np.ndarray] = []
        for _ in range(4):
            found = approach(target, None, start, 0.9, 0.2, grid, tried)
            place = found.T_map_base[:2, 3]
            assert all(np.linalg.norm(place - other) >= 0.4 for other in tried)
            tried.append(place)


CAMERA = Camera(320, 240, 289.0, 289.0, 159.5, 119.5)


def eye(height: float, tilt: float) -> Eye:
    return Eye(CAMERA, look_at((0.1, 0, height), (0.1 + np.cos(tilt), 0, height - np.sin(tilt))))


def pixel_from(found, target: np.ndarray, camera: Eye) -> np.ndarray:
    return CAMERA.project(transform(inverse(found.T_map_base @ camera.T_base_camera), target[None]))[0]


@given(st.floats(0.6, 1.4), st.floats(0.0, 0.8), st.floats(0.0, 1.8), st.booleans())
def test_the_target_is_in_the_picture_where_any_place_has_it_there(height, tilt, z, mapped):
    camera, target, start = eye(height, tilt), np.array((3.0, 3.0, z)), np.array((0.6, 0.9))
    found = approach(target, None, start, 0.8, 0.2, room() if mapped else None, eye=camera)
    away = float(np.linalg.norm(found.T_map_base[:2, 3] - target[:2]))
    assert 0.8 - 1e-9 <= away <= 1.2 + 1e-9 and heading_error(found, target) < 1e-9
    anywhere = camera.sees(np.linspace(0.83, 1.17, 50), z).any()
    assert CAMERA.contains(pixel_from(found, target, camera)[None])[0] or not anywhere


def test_what_lies_on_the_floor_is_stood_before_further_away_than_what_stands_on_a_table():
    camera, start = eye(1.1, 0.45), np.array((1.0, 3.0))
    low, high = (approach(np.array((3.0, 3.0, z)), None, start, 0.8, 0.2, room(), eye=camera) for z in (0.02, 0.8))
    gaps = [np.linalg.norm(found.T_map_base[:2, 3] - (3.0, 3.0)) for found in (low, high)]
    assert gaps[0] > 0.95 and gaps[1] < 0.9


def test_a_wall_between_is_avoided_and_looked_over_where_nothing_else_is_left():
    target, start = np.array((3.0, 3.0, 0.5)), np.array((1.0, 3.0))
    beside = approach(target, None, start, 0.9, 0.2, room((2.3, 2.3, 2.4, 3.7))).T_map_base[:2, 3]
    line = beside + np.linspace(0, 1, 200)[:, None] * (target[:2] - beside)
    crosses = (line[:, 0] > 2.3) & (line[:, 0] < 2.4) & (line[:, 1] > 2.3) & (line[:, 1] < 3.7)
    assert not crosses.any()
    assert approach(target, None, start, 0.9, 0.2, room(*CAGE)).failure is None
    tried = [np.array((x, y)) for x in np.arange(1.5, 4.6, 0.3) for y in np.arange(1.5, 4.6, 0.3)]
    assert approach(target, None, start, 0.9, 0.2, room(*CAGE), tried).failure is Failure.HIDDEN


def test_where_it_was_seen_from_a_nearer_place_sees_it_too():
    target, start = np.array((3.0, 3.0, 0.5)), np.array((1.0, 3.0))
    seen_from = [np.array((3.0, 1.0))]
    found = approach(target, None, start, 0.9, 0.2, room(*CAGE), seen_from=seen_from)
    place = found.T_map_base[:2, 3]
    assert place[1] < 2.2 and abs(place[0] - 3.0) < 0.3


def test_before_the_middle_of_a_bed_the_distance_counts_from_its_edge():
    target, bed = np.array([3.0, 3.0, 0.5]), (2.1, 2.2, 3.9, 3.8)
    found = approach(target, None, np.array([1.0, 1.0]), 0.65, 0.25, room(bed))
    away = float(np.linalg.norm(found.T_map_base[:2, 3] - target[:2]))
    assert 0.65 * 1.5 < away < 0.8 + 0.25 + 3 * RESOLUTION, "as near as its shorter side lets it"
    assert heading_error(found, target) < 1e-9
