"""What of the floor has been seen on a way, and from where to look to see most of the rest."""

from __future__ import annotations

import numpy as np

from roboref_core.approach import Eye, OccupancyMap, reachable
from roboref_core.geometry.pose import pose

# How far a thing is recognised, and how much of what stands in the way shows its own surface [m].
_SIGHT, _SURFACE = 3.0, 0.3
# Height at which the picture has to show the floor's things [m].
_LOW = 0.1
_BEARINGS = 72
# Places to look from are tried so far apart [m].
_APART = 0.4
# What a look takes besides its way [s], speed and turn by which ways are weighed [m/s], [rad/s].
_LOOK, _SPEED, _TURN = 2.0, 0.4, 1.0
# A look that shows less than this of new floor is not worth its way [m^2].
_LEAST = 0.4


class SeenFloor:
    """Which cells of a map the robot's camera has had in sight.

    What stands in a cell hides what is behind it: a map of the floor does not know heights.
    """

    def __init__(self) -> None:
        self._seen: np.ndarray | None = None
        self._map: tuple[tuple[int, ...], float, tuple[float, float]] | None = None

    def look(self, grid: OccupancyMap, T_map_base: np.ndarray, eye: Eye) -> None:
        """Count what is in sight from a pose as seen. A map of other cells begins at nothing."""
        seen = self._on(grid)
        yaw = np.arctan2(T_map_base[1, 0], T_map_base[0, 0])
        half = _half_view(eye)
        bearings = yaw + np.linspace(-half, half, 2 + int(2 * half * _SIGHT / (0.7 * grid.resolution)))
        rows, columns, visible = _in_sight(grid, T_map_base[None, :2, 3], bearings, _ranges(grid, eye))
        seen[rows[visible], columns[visible]] = True

    def next_look(self, grid: OccupancyMap, T_map_base: np.ndarray, eye: Eye, radius: float) -> np.ndarray | None:
        """4x4 pose of the base from which most that has not been seen comes into sight for its time; None: nothing
        that is worth it."""
        found, here = reachable(grid, T_map_base[:2, 3], radius), T_map_base[:2, 3]
        if found is None:
            return None
        step = max(1, round(_APART / grid.resolution))
        rows, columns = np.nonzero(found[1])
        some = (rows % step == 0) & (columns % step == 0)
        cells = np.column_stack([columns[some], rows[some]])
        places = np.concatenate([here[None], (cells + 0.5) * grid.resolution + np.asarray(grid.origin)])
        bearings, ranges = np.arange(_BEARINGS) * 2 * np.pi / _BEARINGS, _ranges(grid, eye)
        if not len(ranges):
            return None
        rows, columns, visible = _in_sight(grid, places, bearings, ranges)
        # A sample stands for the sector's piece around it.
        area = ranges * (2 * np.pi / _BEARINGS) * (ranges[1] - ranges[0] if len(ranges) > 1 else grid.resolution)
        new = visible & ~self._on(grid)[rows, columns]
        gain = (new * area).sum(axis=2)  # (places, bearings)
        reach = max(1, int(_half_view(eye) / (2 * np.pi / _BEARINGS)))
        gain = sum(np.roll(gain, k, axis=1) for k in range(-reach, reach + 1))
        yaw = np.arctan2(T_map_base[1, 0], T_map_base[0, 0])
        turns = np.abs((bearings - yaw + np.pi) % (2 * np.pi) - np.pi)
        ways = np.linalg.norm(places - here, axis=1)
        # A robot that drives away turns to its way first, and at the end from there.
        seconds = _LOOK + ways[:, None] / _SPEED + np.where(ways[:, None] > 0, np.pi / 2, turns) / _TURN
        worth = np.where(gain >= _LEAST, gain / seconds, 0.0)
        best = np.unravel_index(int(worth.argmax()), worth.shape)
        if worth[best] <= 0:
            return None
        c, s = np.cos(bearings[best[1]]), np.sin(bearings[best[1]])
        x, y = places[best[0]]
        return pose(np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]), (float(x), float(y), 0.0))

    def _on(self, grid: OccupancyMap) -> np.ndarray:
        cells = grid.occupancy.shape, grid.resolution, grid.origin
        if self._seen is None or self._map != cells:
            self._seen, self._map = np.zeros(grid.occupancy.shape, dtype=bool), cells
        return self._seen


def _half_view(eye: Eye) -> float:
    """Half of the picture's angle of view [rad]."""
    return float(np.arctan2(eye.camera.width / 2, eye.camera.fx))


def _ranges(grid: OccupancyMap, eye: Eye) -> np.ndarray:
    """(S,) distances over the floor at which its things are in the picture [m]."""
    ranges = np.arange(grid.resolution, _SIGHT, grid.resolution)
    return ranges[eye.sees(ranges, _LOW)]


def _in_sight(
    grid: OccupancyMap, places: np.ndarray, bearings: np.ndarray, ranges: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(P, B, S) row, column and bool of cells in sight from (P, 2) places along bearings at ranges."""
    rays = np.stack([np.cos(bearings), np.sin(bearings)], axis=-1)
    first = ranges[0] if len(ranges) else 0.0
    # What stands before the first range hides as well.
    steps = np.concatenate([np.arange(grid.resolution, first, grid.resolution), ranges])
    cells = grid.cell(places[:, None, None] + steps[:, None] * rays[:, None])
    inside = grid.inside(cells)
    rows = np.clip(cells[..., 0], 0, grid.occupancy.shape[0] - 1)
    columns = np.clip(cells[..., 1], 0, grid.occupancy.shape[1] - 1)
    occupied = inside & ~grid.free[rows, columns]
    thickness = np.cumsum(occupied, axis=2) * grid.resolution
    # Behind the first obstacle nothing free is in sight, and of the obstacle itself its near side.
    behind = (np.cumsum(occupied, axis=2) > 0) & ~occupied
    visible = inside & (np.cumsum(behind, axis=2) == 0) & (thickness <= _SURFACE)
    rest = len(steps) - len(ranges)
    return rows[..., rest:], columns[..., rest:], visible[..., rest:]
