"""Spatial relations between the objects that one camera sees, decided with a margin or not at all.

Each test answers True, False or None. None is the zone in which people disagree: a relation with a None
anywhere among its candidates is ambiguous and no expression is made of it.
Left, right, in front of and behind are the camera's; on, under, between and near are those of the world.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

_TOUCH = 0.05
"""A gap or an overlap up to this still is contact [m]: meshes are smoothed and objects sink into each other."""

_AROUND = 0.15
"""How far around a foot the supporting surface is looked for [m]."""
_THINNED = 4
"""Distances between objects are computed from every fourth point of each."""


@dataclass(frozen=True)
class SeenObject:
    """An object as one frame sees it.

    Attributes:
        uid, label: which, and what it is called.
        box: (u0, v0, u1, v1) of its visible pixels.
        depth: (nearest, middle, farthest) of the visible surface along the optical axis [m] (5th, 50th and 95th
            percentile).
        points: (n, 3) of its whole surface in a world frame with z up [m].
    """

    uid: int
    label: str
    box: tuple[int, int, int, int]
    depth: tuple[float, float, float]
    points: np.ndarray

    @cached_property
    def lower(self) -> np.ndarray:
        return self.points.min(axis=0)

    @cached_property
    def upper(self) -> np.ndarray:
        return self.points.max(axis=0)

    @cached_property
    def centre(self) -> np.ndarray:
        return (self.lower + self.upper) / 2


def left_of(a: SeenObject, b: SeenObject) -> bool | None:
    """Is ``a`` to the left of ``b`` in the picture? Clear if its right end is left of the middle of ``b`` and more."""
    return _before(a.box[0], a.box[2], b.box[0], b.box[2])


def right_of(a: SeenObject, b: SeenObject) -> bool | None:
    """Is ``a`` to the right of ``b`` in the picture?"""
    return _before(-a.box[2], -a.box[0], -b.box[2], -b.box[0])


def _before(a0: float, a1: float, b0: float, b1: float) -> bool | None:
    """Along one axis: a ends where b has hardly begun (yes), or a's middle is not even before b's middle (no)."""
    overlap = 0.15 * min(a1 - a0, b1 - b0)
    if a1 <= b0 + overlap:
        return True
    return False if (a0 + a1) / 2 >= (b0 + b1) / 2 else None


def in_front_of(a: SeenObject, b: SeenObject) -> bool | None:
    """Is ``a`` nearer to the camera than all of ``b``, and before it in the picture?"""
    return _in_depth(a, b, a.depth, b.depth)


def behind(a: SeenObject, b: SeenObject) -> bool | None:
    """Is ``a`` farther from the camera than all of ``b``, and behind it in the picture?"""
    return _in_depth(a, b, tuple(-d for d in a.depth[::-1]), tuple(-d for d in b.depth[::-1]))


def _in_depth(a: SeenObject, b: SeenObject, da: tuple, db: tuple) -> bool | None:
    if da[1] >= db[1] - _TOUCH:
        return False
    # Over or under one another, or far apart in height: few would call that in front.
    apart = max(a.lower[2] - b.upper[2], b.lower[2] - a.upper[2])
    if da[2] > db[0] + _TOUCH or _footprint_share(a, b) > 0.1 or _footprint_share(b, a) > 0.1 or apart > 0.5:
        return None
    across = min(a.box[2], b.box[2]) - max(a.box[0], b.box[0])
    # Nearer, but off to the side: some say in front, some do not.
    return True if across >= 0.5 * min(a.box[2] - a.box[0], b.box[2] - b.box[0]) else None


def on(a: SeenObject, b: SeenObject) -> bool | None:
    """Does ``a`` stand or lie on ``b``: does a surface of ``b`` (a table's, a shelf's, a seat's) support its middle?

    Scanners see no surface below what stands on it; there, the surface around the foot tells.
    """
    share = _footprint_share(a, b)
    if share < 0.1:
        return False
    column = b.points[_around_middle(a, b.points), 2]
    below = column[column <= a.centre[2]]
    if len(column) == 0:
        return True if share >= 0.6 and _stands_among(a, b.points) else None
    if len(below) == 0:
        return False
    gap = a.lower[2] - below.max()
    if share >= 0.6 and abs(gap) <= _TOUCH:
        return True
    return False if gap > 3 * _TOUCH else None


def _stands_among(a: SeenObject, points: np.ndarray) -> bool:
    """Are there points level with the foot of ``a`` on at least three of its four sides?"""
    near = (np.abs(points[:, :2] - a.centre[:2]) <= (a.upper - a.lower)[:2] / 2 + _AROUND).all(axis=1)
    level = points[near & (np.abs(points[:, 2] - a.lower[2]) <= _TOUCH), :2] > a.centre[:2]
    return len(np.unique(level, axis=0)) >= 3


def under(a: SeenObject, b: SeenObject) -> bool | None:
    """Is ``a`` on the ground that ``b`` stands on, below a surface of ``b``?"""
    share = _footprint_share(a, b)
    if share < 0.1:
        return False
    column = b.points[_around_middle(a, b.points), 2]
    above = column[column > a.centre[2]]
    if len(above) == 0:
        return False if len(column) else None
    clear = a.upper[2] <= above.min() + _TOUCH
    low = a.lower[2] <= b.lower[2] + 0.3 * (b.upper[2] - b.lower[2])
    return True if share >= 0.7 and clear and low and len(above) == len(column) else None


def _around_middle(a: SeenObject, points: np.ndarray) -> np.ndarray:
    """(n,) bool: which points lie over or under the middle part of the footprint of ``a``.

    The middle, since a table's leg beside a cup does not carry it; at least 5 cm, since samples are that far apart.
    """
    reach = np.maximum((a.upper - a.lower)[:2] / 4, 0.05)
    return (np.abs(points[:, :2] - a.centre[:2]) <= reach).all(axis=1)


def _footprint_share(a: SeenObject, b: SeenObject) -> float:
    """Share of the footprint of ``a`` (its bounding rectangle from above) that lies over that of ``b``."""
    side = np.minimum(a.upper[:2], b.upper[:2]) - np.maximum(a.lower[:2], b.lower[:2])
    area = np.prod(np.maximum(a.upper[:2] - a.lower[:2], 1e-6))
    return float(np.prod(np.maximum(side, 0)) / area)


def between(a: SeenObject, b: SeenObject, c: SeenObject) -> bool | None:
    """Is ``a`` between ``b`` and ``c`` on the ground plan, in height, and in the picture from left to right as well?

    What stands on, over or under one of the two, or carries it, is not between them.
    """
    axis = (c.centre - b.centre)[:2]
    length = float(np.linalg.norm(axis))
    if length < 0.3:
        return None
    along = float((a.centre - b.centre)[:2] @ axis) / length**2
    offset = (a.centre - b.centre)[:2] - along * axis
    aside = float(np.linalg.norm(offset)) / length
    if not 0.0 < along < 1.0 or aside > 0.7:
        return False
    middles = [(o.box[0] + o.box[2]) / 2 for o in (b, a, c)]
    ordered = middles[0] < middles[1] < middles[2] or middles[0] > middles[1] > middles[2]
    line = b.centre[2] + along * (c.centre[2] - b.centre[2])
    level = abs(a.centre[2] - line) <= 0.3
    over = max(_footprint_share(x, y) for o in (b, c) for x, y in ((a, o), (o, a))) > 0.1
    return True if 0.25 <= along <= 0.75 and aside <= 0.25 and ordered and level and not over else None


def distance(a: SeenObject, b: SeenObject) -> float:
    """Between the surfaces' nearest sampled points [m]."""
    d = a.points[::_THINNED, None] - b.points[None, ::_THINNED]
    return float(np.sqrt((d * d).sum(axis=2).min()))


def smallest(values: list[float], gap: float) -> int | None:
    """Index of the smallest value if it is smaller than all others by ``gap``; else None."""
    order = np.argsort(values, kind="stable")
    if len(order) < 2 or values[order[1]] - values[order[0]] < gap:
        return None
    return int(order[0])


ANCHORED: dict[str, Callable[[SeenObject, SeenObject], bool | None]] = {
    "left": left_of,
    "right": right_of,
    "front": in_front_of,
    "behind": behind,
    "on": on,
    "under": under,
}
"""Relations of a thing to another, and when they hold."""
