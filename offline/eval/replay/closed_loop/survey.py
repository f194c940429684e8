"""A recording for closed loops: every free place of a procedural room on a grid, looking into every direction."""

from __future__ import annotations

import numpy as np
from roboref_core.geometry.pose import look_at, transform

from sim.rooms.path import CameraPath, free_floor
from sim.rooms.scene import SimScene

_CELL = 0.05
_CLEARANCE = 0.25
_HEIGHT = 1.5
_DOWN = np.radians(20)
_PERIOD_NS = 10**8


def survey(scene: SimScene, spacing: float = 0.3, headings: int = 8) -> CameraPath:
    """Poses 1.5 m above the free floor, 20 degrees downwards, row by row.

    Args:
        spacing: spacing of the grid [m].
        headings: how many at each place, evenly spread.

    Raises ValueError if the grid has no free place.
    """
    every = max(1, round(spacing / _CELL))
    free = free_floor(scene, _CLEARANCE)
    cells = np.argwhere(free)
    cells = cells[(cells % every == every // 2).all(axis=1)]
    if not len(cells):
        raise ValueError(f"{scene.scene_id}: no free place on a grid of {spacing:g} m")
    places = transform(scene.T_world_room, np.column_stack([(cells + 0.5) * _CELL, np.full(len(cells), _HEIGHT)]))
    angles = 2 * np.pi * np.arange(headings) / headings
    ahead = np.column_stack(
        [np.cos(angles) * np.cos(_DOWN), np.sin(angles) * np.cos(_DOWN), np.full(headings, -np.sin(_DOWN))]
    )
    poses = np.array([look_at(place, place + direction) for place in places for direction in ahead])
    return CameraPath(poses, (np.arange(len(poses), dtype=np.int64) + 1) * _PERIOD_NS)
