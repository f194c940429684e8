"""Where a robot should stand to face a target: reachable, clear of obstacles, with the target in its camera's view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import inverse, pose, transform

# How much further than asked a place still counts as before the target, and how far one may be at all.
_NEAR, _FAR = 1.25, 1.5
# Directions in the open, where there is no map.
_BEARINGS = 72
# Occupied cells this near to the target are the thing itself, and do not hide it [m].
_OWN_REACH = 0.35
# Of a thing on something wide, the wide thing's edge counts where nobody can stand nearer, up to so much of it [m].
_WIDEST = 0.8
# Least distance of a standing place from those from which the target was not seen [m].
_ANOTHER = 0.4
# A target this near to the picture's border may fall out of it where the robot stops [share of the picture's height].
_BORDER = 0.04
# Directions from the target that differ by less show the same of it [rad].
_SAME_SIDE = np.radians(12.0)
# What a place costs, as metres of way to it: per metre that it is too far, per metre of what the target rests on that
# lies between, and for each of its faults.
_PER_METRE_FAR, _PER_METRE_OVER = 3.0, 2.0
_TOO_FAR, _HIDDEN, _OUT_OF_PICTURE = 10.0, 30.0, 100.0


class Failure(Enum):
    """Why there is no place to stand."""

    TARGET_UNCERTAIN = "the target's place is not known well enough to stand before it"
    TARGET_OUTSIDE = "the target lies outside the map"
    START_BLOCKED = "the robot itself stands in no free cell of the map"
    NO_ROOM = "no place at that distance is free for a robot of this radius"
    UNREACHABLE = "the free places before the target are not connected to where the robot stands"
    HIDDEN = "it was not seen from any of the reachable places before it"


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
class Eye:
    """The robot's camera, by which a standing place is chosen.

    Attributes:
        camera: its intrinsics.
        T_base_camera: 4x4, where it sits on the robot.
    """

    camera: Camera
    T_base_camera: np.ndarray

    def sees(self, distances: np.ndarray, height: float) -> np.ndarray:
        """(N,) bool: whether a target is in the picture of a robot that faces it.

        Args:
            distances: (N,) from the robot's centre to the target over the floor [m].
            height: of the target above the robot's base [m].
        """
        in_base = np.column_stack([distances, np.zeros_like(distances), np.full_like(distances, height)])
        pixels = self.camera.project(transform(inverse(self.T_base_camera), in_base))
        border = _BORDER * self.camera.height
        low, high = border - 0.5, np.array((self.camera.width, self.camera.height)) - 0.5 - border
        with np.errstate(invalid="ignore"):  # no pixel behind the camera
            return np.asarray(((pixels >= low) & (pixels <= high)).all(axis=1))


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
    eye: Eye | None = None,
    seen_from: Sequence[np.ndarray] = (),
) -> Approach:
    """A standing pose that faces ``target``.

    Of all free and reachable places the one with the least faults is taken, by the first of these that differs:
    the target is in the camera's picture; nothing stands between; it is at most a quarter further than ``distance``.
    Among equals it is the nearest to ``start``, with a price on what is too far and on how much of what the target
    rests on (a table) lies between. A map of the floor does not know heights, so a place with something between is
    better than none: the camera may look over it. Where nobody can stand that near, as before the middle of a bed, the
    distance is counted from the edge of what the target rests on.

    A camera above the target that sees it from one place sees it from any nearer place in the same direction as well,
    because its line of sight is steeper there.

    Args:
        target, covariance: (3,) [m] and (3, 3) [m^2] in the map's frame.
        start: (2,) where the robot stands now [m].
        distance: from the robot's centre to the target over the floor [m]; up to half as much again is accepted.
        radius: of the robot [m].
        grid: None: everything is free.
        tried: (2,) standing places from which it was not seen, which are not taken again [m].
        eye: the camera; None: any place has it in the picture.
        seen_from: (2,) places of the camera from which it was seen [m].
    Returns:
        The best place, or the reason why there is none.
    """
    target, start = np.asarray(target, dtype=np.float64), np.asarray(start, dtype=np.float64)[:2]
    if not np.isfinite(target[:2]).all():
        return Approach(None, Failure.TARGET_UNCERTAIN)
    if not np.isfinite(start).all():
        return Approach(None, Failure.START_BLOCKED)
    if too_uncertain(covariance, distance):
        return Approach(None, Failure.TARGET_UNCERTAIN)
    if grid is None:
        return _in_the_open(target, start, distance, tried, eye)
    middle = target[:2]
    if not grid.inside(grid.cell(middle)):
        return Approach(None, Failure.TARGET_OUTSIDE)
    fitting = reachable(grid, start, radius)
    if fitting is None:
        return Approach(None, Failure.START_BLOCKED)
    wide, connected = fitting
    around = _around(grid, middle, distance, _FAR * distance)
    places = _those(around, grid, connected)
    if not len(places):
        places = _before_the_edge(grid, middle, distance, connected)
    if not len(places):
        return Approach(None, Failure.UNREACHABLE if len(_those(around, grid, wide)) else Failure.NO_ROOM)
    places = places[[_is_another(place, tried) for place in places]]
    if not len(places):
        return Approach(None, Failure.HIDDEN)
    distances = np.linalg.norm(places - middle, axis=1)
    between = np.where(_known_to_see(places, middle, seen_from), 0.0, _between(grid, places, middle))
    hidden = ~np.isfinite(between)
    cost = np.linalg.norm(places - start, axis=1)
    cost += _PER_METRE_FAR * (distances - distance) + _TOO_FAR * (distances > _NEAR * distance)
    cost += np.where(hidden, _HIDDEN, _PER_METRE_OVER * np.where(hidden | (between <= _OWN_REACH), 0.0, between))
    if eye is not None:
        cost += _OUT_OF_PICTURE * ~_in_picture(eye, distances, target)
    return Approach(facing(places[int(cost.argmin())], middle))


def _around(grid: OccupancyMap, target: np.ndarray, near: float, far: float) -> np.ndarray:
    """(N, 2) middles of the map's cells that are so far from the target [m]."""
    reach = int(np.ceil(far / grid.resolution)) + 1
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    cells = grid.cell(target) + np.column_stack([rows, columns])
    cells = cells[grid.inside(cells)]
    places = (cells[:, ::-1] + 0.5) * grid.resolution + np.asarray(grid.origin)
    distances = np.linalg.norm(places - target, axis=1)
    return places[(distances >= near) & (distances <= far)]


def _those(places: np.ndarray, grid: OccupancyMap, cells: np.ndarray) -> np.ndarray:
    """Those of (N, 2) places inside the map whose cell is among (rows, columns) bool ``cells``."""
    rows, columns = grid.cell(places).T
    return places[cells[rows, columns]]


def _before_the_edge(grid: OccupancyMap, target: np.ndarray, distance: float, connected: np.ndarray) -> np.ndarray:
    """(N, 2) places that are near enough to what the target is within, as far as that reaches around it [m]."""
    import cv2

    places = _those(_around(grid, target, distance, _FAR * distance + _WIDEST), grid, connected)
    rows, columns = np.ogrid[: grid.free.shape[0], : grid.free.shape[1]]
    x, y = ((k + 0.5) * grid.resolution + o for k, o in ((columns, grid.origin[0]), (rows, grid.origin[1])))
    away = np.hypot(x - target[0], y - target[1])
    occupied = ~grid.free & (away <= _WIDEST)
    nearest = np.unravel_index(int(np.where(occupied, away, np.inf).argmin()), occupied.shape)
    if not len(places) or not occupied.any() or away[nearest] > _OWN_REACH:
        return places[:0]
    labels = cv2.connectedComponents(occupied.astype(np.uint8), connectivity=8)[1]
    outside = (labels != labels[nearest]).astype(np.uint8)
    gaps = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) * grid.resolution
    rows, columns = grid.cell(places).T
    return places[gaps[rows, columns] <= _FAR * distance]


def _in_picture(eye: Eye, distances: np.ndarray, target: np.ndarray) -> np.ndarray:
    height = float(target[2]) if len(target) > 2 and np.isfinite(target[2]) else 0.0
    return eye.sees(distances, height)


def _known_to_see(places: np.ndarray, target: np.ndarray, seen_from: Sequence[np.ndarray]) -> np.ndarray:
    """(N,) bool: whether a place is nearer to the target than one from which it was seen, and on the same side."""
    known = np.zeros(len(places), dtype=bool)
    ways = places - target
    lengths = np.linalg.norm(ways, axis=1)
    for other in seen_from:
        way = np.asarray(other, dtype=np.float64)[:2] - target
        length = float(np.linalg.norm(way))
        known |= (lengths <= length) & (ways @ way >= np.cos(_SAME_SIDE) * lengths * length)
    return known


def too_uncertain(covariance: np.ndarray | None, distance: float) -> bool:
    """Whether a place of (3, 3) ``covariance`` [m^2] is not known well enough to stand ``distance`` before it [m]."""
    return not 2 * largest_sigma(covariance) <= distance


def largest_sigma(covariance: np.ndarray | None) -> float:
    """Standard deviation over the floor in its worst direction [m]; 0 without a covariance, infinite for none known."""
    if covariance is None:
        return 0.0
    over_floor = np.asarray(covariance)[:2, :2]
    if not np.isfinite(over_floor).all():
        return np.inf
    return float(np.sqrt(max(np.linalg.eigvalsh(over_floor)[-1], 0.0)))


def _in_the_open(
    target: np.ndarray, start: np.ndarray, distance: float, tried: Sequence[np.ndarray], eye: Eye | None
) -> Approach:
    """From where the robot stands, straight on; from another side where it was there in vain."""
    away = start - target[:2]
    bearing = np.arctan2(away[1], away[0]) if np.linalg.norm(away) > 1e-6 else np.pi
    distances = np.linspace(distance, _FAR * distance, 21)
    if eye is not None and (seen := _in_picture(eye, distances, target)).any():
        distance = float(distances[int(seen.argmax())])
    for step in range(_BEARINGS):
        # To the one side and the other in turn, ever further round.
        angle = bearing + 2 * np.pi / _BEARINGS * (-1) ** step * ((step + 1) // 2)
        place = target[:2] + distance * np.array([np.cos(angle), np.sin(angle)])
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


def reachable(grid: OccupancyMap, start: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray] | None:
    """Where a robot of ``radius`` fits, and which of that is connected to ``start``; None if that is not free.

    OpenCV is imported where it is used alone; roboref_ros depends on it anyway.
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


def _between(grid: OccupancyMap, places: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(N,) length of the occupied stretch that ends at the target, which is the thing itself and what it stands on [m].

    Infinite if there is anything free behind something occupied: then that is something else, which hides it.
    """
    ways = target - places
    lengths = np.linalg.norm(ways, axis=1)
    steps = np.arange(0.0, lengths.max(initial=0.0), grid.resolution / 2)
    on_way = steps[None] < lengths[:, None]
    along = np.minimum(steps[None], lengths[:, None]) / np.maximum(lengths[:, None], 1e-9)
    rows, columns = np.moveaxis(grid.cell(places[:, None] + along[..., None] * ways[:, None]), -1, 0)
    free = grid.free[rows, columns]
    occupied = on_way & ~free
    behind_one = np.cumsum(occupied, axis=1) > 0
    between = np.where(occupied.any(axis=1), lengths - steps[occupied.argmax(axis=1)], 0.0)
    # The target itself may lie a cell outside of what it is part of.
    rest = free & behind_one & (steps[None] < (lengths - 2 * grid.resolution)[:, None])
    return np.where((between > _OWN_REACH) & rest.any(axis=1), np.inf, between)
