"""Where a robot should stand to face a target: reachable, clear of obstacles, at a stated distance; or why nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from roboref_core.geometry.pose import pose

# Candidates around the target, and how much further than asked they may stand.
_BEARINGS, _DISTANCES = 72, (1.0, 1.15, 1.3, 1.5)
# Occupied cells this near to the target are the thing itself, and do not hide it [m].
_OWN_REACH = 0.35
# Least distance of a standing place from those from which the target was not seen [m].
_ANOTHER = 0.4


class Failure(Enum):
    """Why there is no place to stand."""

    TARGET_UNCERTAIN = "the target's place is not known well enough to stand before it"
    TARGET_OUTSIDE = "the target lies outside the map"
    START_BLOCKED = "the robot itself stands in no free cell of the map"
    NO_ROOM = "no place at that distance is free for a robot of this radius"
    UNREACHABLE = "the free places before the target are not connected to where the robot stands"
    HIDDEN = "something stands between every reachable place and the target"


@dataclass(frozen=True, eq=False)
class OccupancyMap:
    """A grid of the floor, as nav_msgs/OccupancyGrid has it.

    Attributes:
        occupancy: (rows, columns) int8, 0 free to 100 occupied, -1 unknown; row 0 at the origin.
        resolution: side of a cell [m].
        origin: (x, y) of the outer corner of cell (0, 0) in the map's frame [m].
        occupied_from: cells of this value and above are obstacles; unknown ones are too.
    """

    occupancy: np.ndarray
    resolution: float
    origin: tuple[float, float]
    occupied_from: int = 50

    def cell(self, xy: np.ndarray) -> np.ndarray:
        """(..., 2) positions [m] -> (..., 2) int row and column, possibly outside."""
        found = np.floor((np.asarray(xy, dtype=np.float64) - self.origin) / self.resolution).astype(np.int64)
        return found[..., ::-1]

    def inside(self, cells: np.ndarray) -> np.ndarray:
        return np.asarray(((cells >= 0) & (cells < self.occupancy.shape)).all(axis=-1))

    @property
    def free(self) -> np.ndarray:
        """(rows, columns) bool."""
        return (self.occupancy >= 0) & (self.occupancy < self.occupied_from)


@dataclass(frozen=True, eq=False)
class Approach:
    """Attributes:
    T_map_base: 4x4 of the robot's base on the floor, x towards the target, z up; None with a failure.
    failure: why there is none.
    """

    T_map_base: np.ndarray | None
    failure: Failure | None = None


def approach(
    target: np.ndarray,
    covariance: np.ndarray | None,
    start: np.ndarray,
    distance: float,
    radius: float,
    grid: OccupancyMap | None = None,
    tried: Sequence[np.ndarray] = (),
) -> Approach:
    """A standing pose that faces ``target``.

    A thing on a table has the table's cells around it. Where every line to it crosses such cells, the place is taken
    from which the least of what it rests on lies between, and nothing else.

    Args:
        target, covariance: (3,) [m] and (3, 3) [m^2] in the map's frame; z is not used.
        start: (2,) where the robot stands now [m].
        distance: from the robot's centre to the target over the floor [m]; up to half as much again is accepted.
        radius: of the robot [m].
        grid: None: everything is free.
        tried: (2,) standing places from which it was not seen, which are not taken again [m].
    Returns:
        The place nearest to ``start``, or the reason why there is none.
    """
    target, start = np.asarray(target, dtype=np.float64)[:2], np.asarray(start, dtype=np.float64)[:2]
    if not np.isfinite(target).all():
        return Approach(None, Failure.TARGET_UNCERTAIN)
    if not np.isfinite(start).all():
        return Approach(None, Failure.START_BLOCKED)
    if too_uncertain(covariance, distance):
        return Approach(None, Failure.TARGET_UNCERTAIN)
    if grid is None:
        return _in_the_open(target, start, distance, tried)
    if not grid.inside(grid.cell(target)):
        return Approach(None, Failure.TARGET_OUTSIDE)
    reachable = _reachable(grid, start, radius)
    if reachable is None:
        return Approach(None, Failure.START_BLOCKED)
    wide, connected = reachable
    failure, over_its_support = Failure.NO_ROOM, []
    for factor in _DISTANCES:
        angles = 2 * np.pi * np.arange(_BEARINGS) / _BEARINGS
        places = target + factor * distance * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        places = places[np.argsort(np.linalg.norm(places - start, axis=1), kind="stable")]
        cells = grid.cell(places)
        inside = grid.inside(cells)
        rows, columns = cells[inside].T
        places = places[inside]
        usable = connected[rows, columns]
        for place in places[usable]:
            if not _is_another(place, tried):
                continue
            between = _between(grid, place, target)
            if between <= _OWN_REACH:
                return Approach(facing(place, target))
            if np.isfinite(between):
                over_its_support.append((between, place))
        if usable.any():
            failure = Failure.HIDDEN
        elif wide[rows, columns].any() and failure is not Failure.HIDDEN:
            failure = Failure.UNREACHABLE
    if over_its_support:
        return Approach(facing(min(over_its_support, key=lambda found: found[0])[1], target))
    return Approach(None, failure)


def too_uncertain(covariance: np.ndarray | None, distance: float) -> bool:
    """Whether a place of (3, 3) ``covariance`` [m^2] is not known well enough to stand ``distance`` before it [m]."""
    if covariance is None:
        return False
    spread = float(np.sqrt(np.linalg.eigvalsh(np.asarray(covariance)[:2, :2])[-1]))
    return not np.isfinite(spread) or 2 * spread > distance


def _in_the_open(target: np.ndarray, start: np.ndarray, distance: float, tried: Sequence[np.ndarray]) -> Approach:
    """From where the robot stands, straight on; from another side where it was there in vain."""
    away = start - target
    bearing = np.arctan2(away[1], away[0]) if np.linalg.norm(away) > 1e-6 else np.pi
    for step in range(_BEARINGS):
        # To the one side and the other in turn, ever further round.
        angle = bearing + 2 * np.pi / _BEARINGS * (-1) ** step * ((step + 1) // 2)
        place = target + distance * np.array([np.cos(angle), np.sin(angle)])
        if _is_another(place, tried):
            return Approach(facing(place, target))
    return Approach(None, Failure.HIDDEN)


def _is_another(place: np.ndarray, tried: Sequence[np.ndarray]) -> bool:
    return all(np.linalg.norm(place - other) >= _ANOTHER for other in tried)


def facing(place: np.ndarray, target: np.ndarray) -> np.ndarray:
    """4x4 pose on the floor at (x, y) ``place`` whose x axis points at ``target``, z up."""
    x, y = np.asarray(target, dtype=np.float64)[:2] - np.asarray(place, dtype=np.float64)[:2]
    angle = np.arctan2(y, x)
    c, s = np.cos(angle), np.sin(angle)
    return pose(np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]), (float(place[0]), float(place[1]), 0.0))


def _reachable(grid: OccupancyMap, start: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray] | None:
    """Where a robot of ``radius`` fits, and which of that is connected to ``start``; None if that is not free.

    The only use of OpenCV here, which roboref_ros depends on anyway.
    """
    import cv2

    free = np.pad(grid.free, 1)  # beyond the map nothing is known
    clearance = cv2.distanceTransform(free.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    # From the centre of a free cell to the border of the nearest obstacle.
    wide = (clearance - 0.5) * grid.resolution >= radius
    cell = grid.cell(start)
    if not grid.inside(cell) or not grid.free[tuple(cell)]:
        return None
    # A robot that stands closer to something than its radius may leave from there.
    own = wide.copy()
    rows, columns = np.ogrid[: own.shape[0], : own.shape[1]]
    near = (rows - cell[0]) ** 2 + (columns - cell[1]) ** 2 <= (radius / grid.resolution) ** 2
    own |= near & grid.free
    labels = cv2.connectedComponents(own.astype(np.uint8), connectivity=4)[1]
    return wide, wide & (labels == labels[tuple(cell)])


def _between(grid: OccupancyMap, place: np.ndarray, target: np.ndarray) -> float:
    """Length of the occupied stretch that ends at the target, which is the thing itself and what it stands on [m].

    Infinite if there is anything free behind something occupied: then that is something else, which hides it.
    """
    away = target - place
    length = float(np.linalg.norm(away))
    steps = np.arange(0.0, length, grid.resolution / 2)
    rows, columns = grid.cell(place + steps[:, None] * away / max(length, 1e-9)).T
    free = grid.free[rows, columns]
    occupied = np.flatnonzero(~free)
    if not len(occupied):
        return 0.0
    between = length - float(steps[occupied[0]])
    # The target itself may lie a cell outside of what it is part of.
    rest = free[occupied[0] :][steps[occupied[0] :] < length - 2 * grid.resolution]
    return float("inf") if between > _OWN_REACH and rest.any() else between
