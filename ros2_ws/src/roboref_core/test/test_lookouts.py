"""What has been in sight of a map, and where to look for the rest."""

from __future__ import annotations

import numpy as np
import pytest
from roboref_core.approach import Eye, OccupancyMap, facing, reachable
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import look_at
from roboref_core.lookouts import SeenFloor

pytest.importorskip("cv2")

HEIGHT, TILT, RADIUS = 1.2, 0.5, 0.2
EYE = Eye(
    Camera(320, 240, 290.0, 290.0, 159.5, 119.5), look_at((0, 0, HEIGHT), (np.cos(TILT), 0, HEIGHT - np.sin(TILT)))
)


def two_rooms() -> OccupancyMap:
    """5 x 5 m with a wall in the middle that a door of 2 m leads through."""
    grid = np.zeros((100, 100), np.int8)
    grid[[0, -1]], grid[:, [0, -1]] = 100, 100
    grid[:60, 50:54] = 100
    return OccupancyMap(grid, 0.05, (-1.0, 2.0))


def start() -> np.ndarray:
    return facing(np.array([0.0, 3.0]), np.array([1.0, 3.0]))


def looks(grid: OccupancyMap, most: int) -> list[np.ndarray]:
    floor, poses = SeenFloor(), [start()]
    floor.look(grid, poses[0], EYE)
    while len(poses) <= most and (pose := floor.next_look(grid, poses[-1], EYE, RADIUS)) is not None:
        floor.look(grid, pose, EYE)
        poses.append(pose)
    return poses


def test_looks_lead_through_the_door_to_all_of_the_floor_and_end():
    grid = two_rooms()
    poses = looks(grid, 40)
    assert len(poses) < 25, "it ends by itself"
    connected = reachable(grid, start()[:2, 3], RADIUS)[1]
    for pose in poses:
        assert connected[tuple(grid.cell(pose[:2, 3]))]
    behind = [pose for pose in poses if pose[0, 3] > 1.7 or pose[1, 3] > 5.0]
    assert behind, "the other room is looked at"


def test_what_is_near_is_looked_at_first():
    """The robot turns where it stands before it drives away."""
    first, second = looks(two_rooms(), 1)
    assert np.allclose(first[:2, 3], second[:2, 3]) and first[0, 0] > second[0, 0]


def test_nobody_looks_from_behind_a_wall_without_a_door():
    occupancy = two_rooms().occupancy.copy()
    occupancy[:, 50:54] = 100
    poses = looks(OccupancyMap(occupancy, 0.05, (-1.0, 2.0)), 40)
    assert 1 < len(poses) < 25 and all(pose[0, 3] < 1.5 for pose in poses)


def test_a_map_of_other_cells_begins_at_nothing():
    floor, grid = SeenFloor(), two_rooms()
    for _ in range(30):
        pose = floor.next_look(grid, start(), EYE, RADIUS)
        if pose is None:
            break
        floor.look(grid, pose, EYE)
    moved = OccupancyMap(grid.occupancy, grid.resolution, (-1.1, 2.0))
    assert pose is None and floor.next_look(moved, start(), EYE, RADIUS) is not None


def test_a_robot_in_no_free_cell_has_nowhere_to_look_from():
    inside = facing(np.array([1.6, 3.0]), np.array([2.0, 3.0]))
    assert SeenFloor().next_look(two_rooms(), inside, EYE, RADIUS) is None
