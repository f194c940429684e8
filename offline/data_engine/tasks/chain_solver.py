"""Who may be meant by an expression, and who is meant for sure: a second opinion on what ``chains`` makes.

The solver shares no test with the maker of expressions. It reads an expression from the outside in, as a listener
does: everything that could be called by a label is a candidate, and each relation is read twice, at its most generous
(who may be meant) and at its strictest (who is meant for sure). Words that belong to one noun may be heard with
another ("the cup left of the box behind the lamp"): every such reading is solved. Whoever may be meant in any reading
counts, so that an expression has one solution only if no listener could take another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from offline.data_engine.tasks.chain_words import Spot, Thing, Told
from offline.data_engine.tasks.expressions import FrameObjects, could_be_meant
from offline.data_engine.tasks.relations import SeenObject

UNKNOWN = -1
"""Stands among the possible for a thing that the picture may show, but that cannot be judged."""


@dataclass(frozen=True)
class Solution:
    """Ids of who may be meant (``UNKNOWN`` among them), and of who is meant for sure."""

    possible: frozenset[int]
    certain: frozenset[int]

    @property
    def only(self) -> int | None:
        """The one that is meant; None where there is none, or doubt."""
        return next(iter(self.certain)) if len(self.certain) == 1 and self.possible == self.certain else None


def solve(thing: Thing, frame: FrameObjects) -> Solution:
    """The solution over all readings."""
    objects = {o.uid: o for o in frame.seen}
    first, *others = [_solve(reading, frame, objects) for reading in readings(thing)]
    possible = first.possible.union(*(other.possible for other in others))
    return Solution(possible, first.certain)


def solve_spot(spot: Spot, frame: FrameObjects) -> tuple[int, ...] | None:
    """The ids of a place's anchors; None where one of them is in doubt."""
    found = [solve(anchor, frame).only for anchor in spot.told.anchors]
    return None if None in found else tuple(uid for uid in found if uid is not None)


def readings(thing: Thing) -> list[Thing]:
    """The expression as it was meant, and every other way to hear its words."""
    return list(dict.fromkeys(_readings(thing)))


def _readings(thing: Thing) -> Iterator[Thing]:
    yield thing
    for k, told in enumerate(thing.filters):
        if not told.anchors:
            continue
        *before, last = told.anchors
        for heard in readings(last):
            kept = replace(told, anchors=(*before, heard))
            if heard != last:
                yield replace(thing, filters=(*thing.filters[:k], kept, *thing.filters[k + 1 :]))
            # The anchor's last words may be the thing's own.
            for cut in range(len(heard.filters)):
                shorter = replace(told, anchors=(*before, replace(heard, filters=heard.filters[:cut])))
                moved = (*thing.filters[:k], shorter, *heard.filters[cut:], *thing.filters[k + 1 :])
                yield replace(thing, filters=moved)
    if thing.pick and thing.pick.anchors:
        *before, last = thing.pick.anchors
        for heard in readings(last):
            if heard != last:
                yield replace(thing, pick=replace(thing.pick, anchors=(*before, heard)))
            for cut in range(len(heard.filters)):
                shorter = replace(thing.pick, anchors=(*before, replace(heard, filters=heard.filters[:cut])))
                yield replace(thing, pick=shorter, filters=(*thing.filters, *heard.filters[cut:]))


def _solve(thing: Thing, frame: FrameObjects, objects: dict[int, SeenObject]) -> Solution:
    possible = {o.uid for o in frame.seen if could_be_meant(thing.label, o.label)}
    certain = {o.uid for o in frame.seen if o.label == thing.label}
    if any(could_be_meant(thing.label, label) for label in (*frame.undecided, *frame.uncounted)):
        possible.add(UNKNOWN)
    everyone = (frozenset(possible), frozenset(certain))
    for told in thing.filters:
        possible, certain = _filtered(told, possible, certain, frame, objects)
    if thing.pick is None:
        return Solution(frozenset(possible), frozenset(certain))
    found = _picked(thing.pick, Solution(frozenset(possible), frozenset(certain)), frame, objects)
    if thing.filters:
        # "The leftmost cup on the desk" may be the leftmost of all cups, which is on the desk.
        first = _picked(thing.pick, Solution(*everyone), frame, objects)
        other = set(first.possible)
        for told in thing.filters:
            other, _ = _filtered(told, other, set(), frame, objects)
        found = Solution(found.possible | other, found.certain)
    return found


def _filtered(
    told: Told, possible: set[int], certain: set[int], frame: FrameObjects, objects: dict[int, SeenObject]
) -> tuple[set[int], set[int]]:
    anchors = [solve(anchor, frame) for anchor in told.anchors]
    may, must = set(), set()
    for uid in possible:
        if uid == UNKNOWN or any(UNKNOWN in one.possible for one in anchors):
            may.add(uid)
            continue
        for chosen in product(*(one.possible for one in anchors)):
            if uid not in chosen and _reads(told, objects[uid], [objects[k] for k in chosen])[0]:
                may.add(uid)
    only = [one.only for one in anchors]
    if None not in only:
        for uid in certain:
            if uid not in only and _reads(told, objects[uid], [objects[k] for k in only if k is not None])[1]:
                must.add(uid)
    return may, must


def _picked(told: Told, among: Solution, frame: FrameObjects, objects: dict[int, SeenObject]) -> Solution:
    anchors = [solve(anchor, frame) for anchor in told.anchors]
    if UNKNOWN in among.possible or any(one.only is None for one in anchors):
        return Solution(among.possible, frozenset())
    chosen = [objects[one.only] for one in anchors if one.only is not None]
    members = sorted(among.possible - {o.uid for o in chosen})
    if len(members) < 2:
        # Nobody says "the leftmost" of one.
        return Solution(frozenset(), frozenset())
    values = np.array([_measure(told.relation, objects[uid], chosen) for uid in members])
    margin = _margin(told.relation, values, frame.width)
    below, certain_below = (values[:, None] > values[None] - margin), (values[:, None] > values[None] + margin)
    np.fill_diagonal(below, False)
    np.fill_diagonal(certain_below, False)
    # How many come before each at least, and at most.
    least, most = certain_below.sum(axis=1), below.sum(axis=1)
    may = {uid for uid, a, b in zip(members, least, most, strict=True) if a <= told.rank <= b}
    must = {uid for uid, a, b in zip(members, least, most, strict=True) if a == told.rank == b}
    return Solution(frozenset(may), frozenset(must & among.certain))


def _reads(told: Told, a: SeenObject, anchors: Sequence[SeenObject]) -> tuple[bool, bool]:
    """(at its most generous, at its strictest): whether a filter holds."""
    b = anchors[0]
    name = told.relation
    if name == "between":
        return _between(a, anchors[0], anchors[1])
    if name in ("left", "right"):
        return _aside(a, b, -1 if name == "left" else 1, 0)
    if name in ("image_above", "image_below"):
        return _aside(a, b, -1 if name == "image_above" else 1, 1)
    if name in ("front", "behind"):
        sign = 1 if name == "front" else -1
        before = sign * (b.depth[1] - a.depth[1])
        shared = min(a.box[2], b.box[2]) - max(a.box[0], b.box[0])
        return before > 0.02, before > 0.08 and shared > 0
    if name in ("nearer", "farther"):
        before = (b.depth[1] - a.depth[1]) * (1 if name == "nearer" else -1)
        return before > 0.0, before > 0.2
    if name in ("on", "under", "above", "below", "inside"):
        return _stacked(name, a, b)
    if name in ("higher", "lower"):
        rise = (_middle(a)[2] - _middle(b)[2]) * (1 if name == "higher" else -1)
        return rise > 0.0, rise > 0.03
    if name in _SIZES:
        sign, size = _SIZES[name]
        x, y = size(a), size(b)
        return sign * (x - y) > 0.0, sign * (x - y) > 0.1 * max(x, y)
    gap = _gap(a, b)
    level = abs(a.points[:, 2].min() - b.points[:, 2].min())
    return {
        "touching": (gap < 0.17, gap < 0.08),
        "beside": (gap < 0.65 and level < 0.55, gap < 0.42 and level < 0.15),
        "within": (gap < 1.06, gap < 0.96),
        "away": (gap > 1.88, gap > 2.1),
        "distance": (abs(gap - told.metres) < 0.34, abs(gap - told.metres) < 0.16),
    }[name]


def _aside(a: SeenObject, b: SeenObject, sign: int, axis: int) -> tuple[bool, bool]:
    """Before (-1) or after (+1) along the picture's columns (0) or rows (1)."""
    middle_a, middle_b = ((o.box[axis] + o.box[axis + 2]) / 2 for o in (a, b))
    half = min(o.box[axis + 2] - o.box[axis] for o in (a, b)) / 2
    shift = sign * (middle_a - middle_b)
    return shift > 0, shift > 0.8 * half


def _stacked(name: str, a: SeenObject, b: SeenObject) -> tuple[bool, bool]:
    if name == "below":
        return _stacked("above", b, a)
    low_a, high_a, low_b, high_b = (f(o.points, axis=0) for o in (a, b) for f in (np.min, np.max))
    over = np.minimum(high_a, high_b)[:2] - np.maximum(low_a, low_b)[:2]
    overlaps = bool((over > 0).all())
    centred = bool((_middle(a)[:2] > low_b[:2] - 0.02).all() and (_middle(a)[:2] < high_b[:2] + 0.02).all())
    if name == "above":
        return overlaps and _middle(a)[2] > _middle(b)[2], overlaps and low_a[2] > high_b[2] + 0.05
    if name == "on":
        # Something of it must lie below the thing's foot: a shelf's board, a seat, a top.
        beneath = b.points[(np.abs(b.points[:, :2] - _middle(a)[:2]) < 0.3).all(axis=1), 2]
        rests = bool(len(beneath)) and float(np.abs(beneath - low_a[2]).min()) < 0.1
        held = overlaps and low_a[2] > low_b[2] + 0.02
        return held and low_a[2] < high_b[2] + 0.12, held and centred and rests
    if name == "under":
        covered = bool(
            (b.points[(np.abs(b.points[:, :2] - _middle(a)[:2]) < 0.3).all(axis=1), 2] > high_a[2] - 0.06).any()
        )
        below = _middle(a)[2] < high_b[2]
        return overlaps and below, overlaps and centred and covered and low_a[2] < low_b[2] + 0.4 * (high_b - low_b)[2]
    within = bool((low_a > low_b - 0.05).all() and (high_a[:2] < high_b[:2] + 0.05).all())
    return centred and _middle(a)[2] < high_b[2], within and _middle(a)[2] < high_b[2]


def _between(a: SeenObject, b: SeenObject, c: SeenObject) -> tuple[bool, bool]:
    """By angles: at the thing, its two anchors lie in opposite directions."""
    to_b, to_c = (_middle(o)[:2] - _middle(a)[:2] for o in (b, c))
    lengths = float(np.linalg.norm(to_b) * np.linalg.norm(to_c))
    if lengths < 1e-6:
        return True, False
    opposite = -float(to_b @ to_c) / lengths
    return opposite > 0.0, opposite > 0.5


def _middle(o: SeenObject) -> np.ndarray:
    return (o.points.min(axis=0) + o.points.max(axis=0)) / 2


def _gap(a: SeenObject, b: SeenObject) -> float:
    """Between some points of each [m]: other points than the maker's."""
    p, q = (o.points[1 :: max(1, len(o.points) // 100)] for o in (a, b))
    p, q = (p if len(p) else a.points), (q if len(q) else b.points)
    return float(np.linalg.norm(p[:, None] - q[None], axis=2).min())


def _height(o: SeenObject) -> float:
    return float(np.ptp(o.points[:, 2]))


def _breadth(o: SeenObject) -> float:
    return float(np.ptp(o.points[:, :2], axis=0).max())


def _bulk(o: SeenObject) -> float:
    return float(np.prod(np.maximum(np.ptp(o.points, axis=0), 1e-3)) ** (1 / 3))


_SIZES = {
    "taller": (1, _height), "shorter": (-1, _height), "wider": (1, _breadth), "narrower": (-1, _breadth),
    "bigger": (1, _bulk), "smaller": (-1, _bulk),
}  # fmt: skip


def _measure(name: str, o: SeenObject, anchors: Sequence[SeenObject]) -> float:
    """What comes first is least."""
    if anchors:
        return -_gap(o, anchors[0]) if name == "far" else _gap(o, anchors[0])
    column, row = o.box[0] + o.box[2], o.box[1] + o.box[3]
    return {
        "leftmost": column, "nth_left": column, "rightmost": -column, "nth_right": -column,
        "topmost": row, "bottommost": -row, "nearest": o.depth[1], "nth_near": o.depth[1],
        "farthest": -o.depth[1], "nth_far": -o.depth[1], "highest": -_middle(o)[2], "lowest": _middle(o)[2],
        "tallest": -_height(o), "shortest": _height(o), "widest": -_breadth(o), "narrowest": _breadth(o),
        "biggest": -_bulk(o), "smallest": _bulk(o),
    }[name]  # fmt: skip


def _margin(name: str, values: np.ndarray, width: int) -> float:
    """Values nearer to one another than this may be taken for each other."""
    if name in ("leftmost", "rightmost", "topmost", "bottommost", "nth_left", "nth_right"):
        return 0.04 * width  # of twice the middle
    if name in ("highest", "lowest"):
        return 0.12
    if name in ("tallest", "shortest", "widest", "narrowest", "biggest", "smallest"):
        return 0.1 * float(np.abs(values).max())
    return 0.07
