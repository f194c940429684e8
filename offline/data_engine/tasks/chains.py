"""Expressions of several steps from what one frame shows, each with the chain of findings that leads to it.

Things that one step tells are anchors of the next: "the lamp", "the book nearest to the lamp", "the second cup from the
left behind the book nearest to the lamp". An expression is kept if its relation is clear for everything that could be
meant (``chain_geometry``), and if the independent reading of ``chain_solver`` finds the same one solution.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from roboref_core.prompting.reasoning import FARTHER, NEARER, Perception, ReasoningStep

from offline.data_engine.tasks.chain_geometry import gap_between, holds, picked
from offline.data_engine.tasks.chain_solver import solve
from offline.data_engine.tasks.chain_words import MAX_STEPS, ORDINALS, RELATIONS, Spot, Thing, Told, phrase
from offline.data_engine.tasks.expressions import FrameObjects, is_plural, nameable
from offline.data_engine.tasks.relations import SeenObject

_TRIES = 90
"""Random relations that are tried for each number of steps."""
_KEPT = 3
"""Expressions of one number of steps that are kept for one thing."""
_FILTERS = tuple(name for name, one in RELATIONS.items() if one.kind == "filter")
_AMONG_SEVERAL = (
    "taller", "shorter", "wider", "narrower", "bigger", "smaller", "within", "away", "distance", "nearer", "farther",
)  # fmt: skip
"""Nobody tells the only lamp by its being smaller than the bed: these tell apart things of one kind."""
_PICKS = tuple(name for name, one in RELATIONS.items() if one.kind == "pick" and not one.anchors)
_PICKS_BY_ANCHOR = tuple(name for name, one in RELATIONS.items() if one.kind == "pick" and one.anchors)


@dataclass(frozen=True)
class Named:
    """An expression and what each thing in it is.

    Attributes:
        thing: the expression.
        uids: of ``thing.nodes()``: anchors first, the thing itself last.
    """

    thing: Thing
    uids: tuple[int, ...]

    @property
    def uid(self) -> int:
        return self.uids[-1]


def named_things(frame: FrameObjects, rng: np.random.Generator, most_steps: int = MAX_STEPS) -> list[Named]:
    """Expressions of 1 to ``most_steps`` steps, each with one solution; a random choice of those that there are."""
    maker = _Maker(frame, rng)
    found = list(maker.alone())
    by_steps = {1: found}
    for steps in range(2, most_steps + 1):
        by_steps[steps] = maker.told_by({k: v for k, v in by_steps.items() if v}, steps)
        found = found + by_steps[steps]
    return found


def chain_of(thing: Thing | Spot, uids: Sequence[int], objects: Mapping[int, SeenObject], points: Mapping) -> tuple:
    """(ReasoningStep, ...) that leads to a thing or a place.

    Args:
        uids: of the nodes, in the order of ``Thing.nodes``; of a place, of all its anchors' nodes.
        points: id -> (x, y) in [0, 1] of the picture.
    """
    rest = list(uids)
    steps: list[ReasoningStep] = []
    for anchor in thing.told.anchors if isinstance(thing, Spot) else (thing,):
        _add_steps(anchor, rest, objects, points, steps)
    return tuple(steps)


def _add_steps(thing: Thing, rest: list[int], objects, points, steps: list[ReasoningStep]) -> int:
    """Appends the steps of a thing and its anchors; takes their ids from the front of ``rest``. Returns its id."""
    anchored = [(told, [_add_steps(one, rest, objects, points, steps) for one in told.anchors]) for told in thing.told]
    uid = rest.pop(0)
    name = phrase(thing)
    steps.append(ReasoningStep(Perception.POSITION, name, point=points[uid]))
    for told, anchors in anchored:
        perception = RELATIONS[told.relation].perception
        if perception is None:
            continue
        a, b = objects[uid], objects[anchors[0]]
        both = f"{name}, {phrase(told.anchors[0])}"
        if perception is Perception.DEPTH_ORDER:
            order = NEARER if a.depth[1] < b.depth[1] else FARTHER
            steps.append(ReasoningStep(perception, both, order=order))
        else:
            steps.append(ReasoningStep(perception, both, distance=round(gap_between(a, b), 2)))
    return uid


class _Maker:
    """Tries relations at random. Verdicts are kept, since the same two things are compared again and again."""

    def __init__(self, frame: FrameObjects, rng: np.random.Generator):
        self.frame, self.rng = frame, rng
        self.objects = {o.uid: o for o in frame.seen}
        # What is several things already has no first and no tallest.
        groups = nameable(frame)
        self.groups = {label: own for label, own in groups.items() if len(own) == 1 or not is_plural(label)}
        self._verdicts: dict[tuple, bool | None] = {}

    def alone(self) -> Iterator[Named]:
        """One step: the only one of its kind, or the first of several."""
        for label, members in self.groups.items():
            if len(members) == 1:
                yield from self._accepted(Thing(label), (), members[0])
                continue
            names = self.rng.permutation(_PICKS)[: 2 * _KEPT].tolist()
            kept: dict[int, int] = {}
            for name in names:
                for told, target in self._picks(name, members, ()):
                    if kept.get(target.uid, 0) < _KEPT:
                        for one in self._accepted(Thing(label, (), told), (), target):
                            kept[target.uid] = kept.get(target.uid, 0) + 1
                            yield one

    def told_by(self, known: Mapping[int, list[Named]], steps: int) -> list[Named]:
        """Expressions of so many steps over those of fewer."""
        found: list[Named] = []
        kept: dict[int, int] = {}
        anchors = known.get(steps - 1, [])
        labels = sorted(self.groups)
        # Where there are several of a kind, there is something to tell apart.
        weights = np.array([1.0 if len(self.groups[label]) == 1 else 4.0 for label in labels])
        for _ in range(_TRIES if labels and anchors else 0):
            label = str(self.rng.choice(labels, p=weights / weights.sum()))
            name = str(self.rng.choice(_FILTERS if self.rng.random() < 0.7 else _PICKS_BY_ANCHOR))
            chosen = self._anchors(RELATIONS[name].anchors, known, steps - 1)
            if chosen is None or any(self.objects[one.uid].label == label for one in chosen):
                continue
            for one in self._one(label, name, chosen):
                if kept.get(one.uid, 0) < _KEPT:
                    kept[one.uid] = kept.get(one.uid, 0) + 1
                    found.append(one)
        return found

    def _anchors(self, count: int, known: Mapping[int, list[Named]], steps: int) -> tuple[Named, ...] | None:
        """Things of so many steps together; of two, those that words can follow on one another."""
        if count == 1:
            return (self._any(known.get(steps, [])),)
        short = [one for k in known for one in known[k] if not one.thing.told]
        both = [one for one in known.get(steps - 1, []) if short]
        if not both:
            return None
        first, second = self._any(short), self._any(both)
        return (first, second) if not set(first.uids) & set(second.uids) else None

    def _any(self, options: Sequence[Named]) -> Named:
        return options[int(self.rng.integers(len(options)))]

    def _one(self, label: str, name: str, chosen: tuple[Named, ...]) -> Iterator[Named]:
        things = tuple(one.thing for one in chosen)
        objects = [self.objects[one.uid] for one in chosen]
        uids = tuple(uid for one in chosen for uid in one.uids)
        members = [o for o in self.groups[label] if o.uid not in uids]
        if len(members) < len(self.groups[label]) or (len(members) == 1 and name in _AMONG_SEVERAL):
            return
        if RELATIONS[name].kind == "pick":
            if len(members) > 1:
                for told, target in self._picks(name, members, objects):
                    yield from self._accepted(Thing(label, (), replace(told, anchors=things)), uids, target)
            return
        metres = 0.0
        if name == "distance":
            metres = round(gap_between(members[int(self.rng.integers(len(members)))], objects[0]), 1)
            if not 0.2 <= metres <= 3:
                return
        verdicts = [self._holds(name, o, objects, metres) for o in members]
        if None in verdicts:
            return
        told = Told(name, things, metres=metres)
        right = [o for o, verdict in zip(members, verdicts, strict=True) if verdict]
        if len(right) == 1:
            yield from self._accepted(Thing(label, (told,)), uids, right[0])
        elif len(right) > 1:
            pick = str(self.rng.choice(_PICKS))
            for ordered, target in self._picks(pick, right, ()):
                yield from self._accepted(Thing(label, (told,), ordered), uids, target)

    def _picks(self, name: str, members: Sequence[SeenObject], objects: Sequence[SeenObject]):
        """(relation, chosen thing): for ordinals, of one rank, drawn at random."""
        rank = 0
        if name.startswith("nth"):
            if not 2 < len(members) <= len(ORDINALS):
                return
            rank = int(self.rng.integers(len(members)))
        target = picked(name, members, objects, rank, self.frame.width)
        if target is not None:
            yield Told(name, rank=rank), target

    def _holds(self, name: str, a: SeenObject, anchors: Sequence[SeenObject], metres: float) -> bool | None:
        key = (name, a.uid, *(o.uid for o in anchors), metres)
        if key not in self._verdicts:
            self._verdicts[key] = holds(name, a, anchors, metres)
        return self._verdicts[key]

    def _accepted(self, thing: Thing, uids: tuple[int, ...], target: SeenObject) -> Iterator[Named]:
        if solve(thing, self.frame).only == target.uid:
            yield Named(thing, (*uids, target.uid))
