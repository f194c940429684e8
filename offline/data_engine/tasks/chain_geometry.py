"""What the relations of ``chain_words`` mean, decided with a margin or not at all (see ``relations``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from offline.data_engine.tasks import relations
from offline.data_engine.tasks.relations import SeenObject, smallest

CONTAINERS = ("basket", "bin", "box", "shelf", "bookshelf", "crate", "sink", "bathtub", "drawer", "container")
"""Inside anything else would mean inside its bounding box."""
_SAMPLES = 120
_SIZE_SHARE, _SIZE_LEAST = 0.2, 0.06
"""Sizes that are compared differ by this share, and by 6 cm."""
_HEIGHT_GAP = 0.2
_ORDER_GAP = 0.03


def size_up(o: SeenObject) -> float:
    """Height [m]."""
    return float(o.upper[2] - o.lower[2])


def size_across(o: SeenObject) -> float:
    """The longer side of its footprint [m]."""
    return float((o.upper - o.lower)[:2].max())


def size_whole(o: SeenObject) -> float:
    """Side of a cube of its bounding box's volume [m]."""
    return float(np.cbrt(np.prod(np.maximum(o.upper - o.lower, 1e-3))))


def gap_between(a: SeenObject, b: SeenObject) -> float:
    """Between the nearest of some points of each [m]."""
    p, q = (o.points[:: -(-len(o.points) // _SAMPLES)] for o in (a, b))
    return float(np.sqrt(((p[:, None] - q[None]) ** 2).sum(axis=2).min()))


def _more(a: float, b: float, gap: float) -> bool | None:
    return True if a - b >= gap else False if a <= b else None


def _larger(measure: Callable[[SeenObject], float], sign: int, a: SeenObject, b: SeenObject) -> bool | None:
    x, y = measure(a), measure(b)
    return _more(sign * x, sign * y, max(_SIZE_LEAST, _SIZE_SHARE * max(x, y)))


def _above(a: SeenObject, b: SeenObject) -> bool | None:
    """Over it, with air between."""
    share = max(relations._footprint_share(a, b), relations._footprint_share(b, a))
    if share < 0.05 or a.centre[2] < b.centre[2]:
        return False
    return True if share >= 0.4 and a.lower[2] - b.upper[2] >= 0.1 else None


def _higher(a: SeenObject, b: SeenObject) -> bool | None:
    if a.lower[2] >= b.upper[2]:
        return True
    return False if a.centre[2] <= b.centre[2] else None


def _image_above(a: SeenObject, b: SeenObject) -> bool | None:
    return relations._before(a.box[1], a.box[3], b.box[1], b.box[3])


def _inside(a: SeenObject, b: SeenObject) -> bool | None:
    if not any(word in CONTAINERS for word in b.label.split()):
        return None
    low, high = a.lower - b.lower, b.upper - a.upper
    if (low >= -0.03).all() and (high[:2] >= -0.03).all() and a.centre[2] < b.upper[2] - 0.05:
        return True
    middle_out = (a.centre < b.lower).any() or (a.centre > b.upper).any()
    return False if middle_out else None


def _gap(closest: float, farthest: float, a: SeenObject, b: SeenObject) -> bool | None:
    """Is the gap at most ``closest``; surely not beyond ``farthest``?"""
    found = gap_between(a, b)
    return True if found <= closest else False if found >= farthest else None


def _beside(a: SeenObject, b: SeenObject) -> bool | None:
    over = max(relations._footprint_share(a, b), relations._footprint_share(b, a))
    apart = abs(a.lower[2] - b.lower[2])
    near = _gap(0.35, 0.7, a, b)
    if near is False or apart > 0.6:
        return False
    return True if near and over < 0.02 and apart <= 0.1 else None


def _not(verdict: bool | None) -> bool | None:
    return None if verdict is None else not verdict


def holds(name: str, a: SeenObject, anchors: Sequence[SeenObject], metres: float = 0.0) -> bool | None:
    """Does a filter hold for ``a``? None where people would disagree."""
    if name == "between":
        return relations.between(a, *anchors)
    (b,) = anchors
    if name == "distance":
        off = abs(gap_between(a, b) - metres)
        return True if off <= 0.08 else False if off >= 0.4 else None
    return _FILTERS[name](a, b)


_Test = Callable[[SeenObject, SeenObject], bool | None]
_FILTERS: dict[str, _Test] = {
    **relations.ANCHORED,
    "above": _above,
    "below": lambda a, b: _above(b, a),
    "higher": _higher,
    "lower": lambda a, b: _higher(b, a),
    "image_above": _image_above,
    "image_below": lambda a, b: _image_above(b, a),
    "inside": _inside,
    "touching": partial(_gap, 0.04, 0.2),
    "beside": _beside,
    "within": partial(_gap, 0.9, 1.1),
    "away": lambda a, b: _not(_gap(1.8, 2.2, a, b)),
    "taller": partial(_larger, size_up, 1),
    "shorter": partial(_larger, size_up, -1),
    "wider": partial(_larger, size_across, 1),
    "narrower": partial(_larger, size_across, -1),
    "bigger": partial(_larger, size_whole, 1),
    "smaller": partial(_larger, size_whole, -1),
    "nearer": lambda a, b: _more(b.depth[1], a.depth[1], 0.25),
    "farther": lambda a, b: _more(a.depth[1], b.depth[1], 0.25),
}


def picked(
    name: str, members: Sequence[SeenObject], anchors: Sequence[SeenObject], rank: int, width: int
) -> SeenObject | None:
    """Which of several things a pick chooses; None if that is not clear.

    Args:
        rank: of the ordinals, 0 for the first.
        width: of the picture [pixel].
    """
    values = np.array([_value(name, o, anchors, width) for o in members])
    if name.startswith("nth"):
        order = np.argsort(values, kind="stable")
        gaps = np.diff(values[order])
        clear = (gaps >= _gap_of(name, values)).all() and rank < len(members)
        return members[order[rank]] if clear else None
    k = smallest(values.tolist(), _gap_of(name, values))
    return None if k is None else members[k]


def _gap_of(name: str, values: np.ndarray) -> float:
    if name in ("leftmost", "rightmost", "topmost", "bottommost", "nth_left", "nth_right"):
        return _ORDER_GAP
    if name in ("highest", "lowest"):
        return _HEIGHT_GAP
    if name in ("nearest", "farthest", "nth_near", "nth_far", "near", "far", "nth_near_to"):
        return max(0.1, 0.15 * float(np.abs(values).min()))
    return max(_SIZE_LEAST, _SIZE_SHARE * float(np.abs(values).max()))


def _value(name: str, o: SeenObject, anchors: Sequence[SeenObject], width: int) -> float:
    """What the pick makes least. Middles in the picture are shares of its width."""
    u, v = (o.box[0] + o.box[2]) / 2 / width, (o.box[1] + o.box[3]) / 2 / width
    plain = {
        "leftmost": u, "nth_left": u, "rightmost": -u, "nth_right": -u, "topmost": v, "bottommost": -v,
        "nearest": o.depth[1], "nth_near": o.depth[1], "farthest": -o.depth[1], "nth_far": -o.depth[1],
    }  # fmt: skip
    if name in plain:
        return float(plain[name])
    if name in ("near", "far", "nth_near_to"):
        gap = gap_between(o, anchors[0])
        return -gap if name == "far" else gap
    measure, sign = {
        "highest": (lambda one: float(one.centre[2]), -1), "lowest": (lambda one: float(one.centre[2]), 1),
        "tallest": (size_up, -1), "shortest": (size_up, 1), "widest": (size_across, -1), "narrowest": (size_across, 1),
        "biggest": (size_whole, -1), "smallest": (size_whole, 1),
    }[name]  # fmt: skip
    return sign * measure(o)
