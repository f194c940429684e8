"""Referring expressions from geometry, unambiguous by construction.

Whatever a phrase names is checked against every object of the scene that could be meant: the same noun or one
that people use for the same thing. If one of those may be in the picture but cannot be judged, or a relation
is neither clearly true nor clearly false for it, there is no expression.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import combinations, pairwise

import numpy as np

from offline.data_engine.sources.labels import normalise_label
from offline.data_engine.tasks import relations
from offline.data_engine.tasks.relations import ANCHORED, SeenObject

# Nouns that people use for one another: objects of one row are possible referents of each other's names.
_CONFUSABLE = (
    {"couch", "sofa", "loveseat", "futon", "armchair", "recliner"},
    {"chair", "armchair", "seat", "stool", "recliner"},
    {"stool", "ottoman", "footstool", "footrest"},
    {"can", "bin", "basket", "bucket", "hamper", "container"},
    {"tv", "television", "monitor", "screen", "display"},
    {"table", "desk", "nightstand", "stand", "counter", "dresser"},
    {"bag", "backpack", "purse", "briefcase", "suitcase", "luggage"},
    {"cup", "mug", "glass", "bowl", "vase", "pot", "jar"},
    {"picture", "painting", "poster", "photo", "frame", "sign"},
    {"pillow", "cushion"},
    {"box", "carton", "crate", "case", "bin", "container"},
    {"book", "binder", "magazine", "notebook", "folder", "notepad"},
    {"lamp", "light"},
    {"plant", "flower", "tree", "flowerpot"},
    {"cabinet", "dresser", "nightstand", "drawer", "wardrobe", "closet", "bookshelf", "shelf"},
    {"rug", "mat", "carpet"},
    {"towel", "blanket", "cloth", "clothes", "clothing", "jacket", "coat"},
    {"bottle", "dispenser", "thermos"},
    {"laptop", "computer", "tower"},
    {"shoe", "boot", "slipper", "sneaker"},
)
_PLURALS = {"people", "clothes", "scissors", "dishes", "men", "women", "children", "feet", "dice", "mice", "menus"}
_SINGULARS = {"gas", "canvas", "lens", "atlas", "series", "cosmos", "sawhorse", "bus"}
_TEMPLATES = {
    "unique": ("Point to the {a}.", "Where {be} the {a}?", "Locate the {a}."),
    "leftmost": ("Point to the leftmost {a}.", "Point to the {a} farthest to the left.", "Locate the leftmost {a}."),
    "rightmost": ("Point to the rightmost {a}.", "Point to the {a} farthest to the right."),
    "nth": ("Point to the {n} {a} from the left.", "Point out the {n} {a} counting from left to right."),
    "nearest": ("Point to the {a} nearest to the camera.", "Point to the closest {a}.", "Locate the nearest {a}."),
    "farthest": ("Point to the {a} farthest from the camera.", "Locate the farthest {a}."),
    "left": ("Point to the {a} to the left of the {b}.", "Point to the {a} on the left side of the {b}."),
    "right": ("Point to the {a} to the right of the {b}.", "Point to the {a} on the right side of the {b}."),
    "front": ("Point to the {a} in front of the {b}.", "Locate the {a} in front of the {b}."),
    "behind": ("Point to the {a} behind the {b}.", "Locate the {a} behind the {b}."),
    "on": ("Point to the {a} on the {b}.", "Pick the {a} on top of the {b}.", "Find the {a} on the {b}."),
    "under": ("Point to the {a} under the {b}.", "Locate the {a} below the {b}."),
    "near": ("Point to the {a} nearest to the {b}.", "Point out the {a} closest to the {b}."),
    "far": ("Point to the {a} farthest from the {b}.",),
    "between": ("Point to the {a} between the {b} and the {c}.", "Find the {a} between the {b} and the {c}."),
    "all": ("Point to every {a}, one point for each.", "Point to all instances of the {a}, one point for each."),
    "absent": ("Point to the {a}.", "Where {be} the {a}?", "Locate the {a}."),
    "free_on": ("Point to the free space on the {b}.", "Point to a vacant spot on the {b}."),
    "free_left": ("Point to the free space on the {b} to the left of the {c}.",),
    "free_right": ("Point to the free space on the {b} to the right of the {c}.",),
    "free_between": ("Point to the free space on the {b} between the {c} and the {d}.",),
}
ORDERED = ("leftmost", "rightmost", "nearest", "farthest")
"""Relations of a thing to others of its kind."""
MEASURED = ("near", "far")
"""Relations to a thing beside it by which one of its kind is picked."""
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
_ORDER_GAP = 0.03
"""Middles of ordered objects are at least this share of the picture's width apart."""
_ORDER_OVERLAP = 0.5
"""Objects that overlap by more than this share of the narrower one have no order from left to right: what is cut off or
not reconstructed of one may turn it."""
_DISTANCE_GAP = 0.15
"""Distances that are compared differ by at least this share, and by 10 cm."""


@dataclass(frozen=True)
class Expression:
    """A phrase and what it means.

    Attributes:
        relation: a key of the templates ("left", "between", ...); "absent_left" and so on for what is not there.
        text: the phrase.
        uids: the objects to point to, in the order of the points; none for what is not there.
        anchors: the objects that the phrase names besides.
    """

    relation: str
    text: str
    uids: tuple[int, ...]
    anchors: tuple[int, ...] = ()


@dataclass(frozen=True)
class FrameObjects:
    """All that one frame may show.

    Attributes:
        seen: objects that are clearly visible.
        undecided: labels of objects that may be visible, or are so only in part: they cannot be named and
            nothing they could be taken for can.
        hidden: labels of the scene's objects that are certainly not in the picture.
        width: of the picture [pixel].
        uncounted: labels of seen objects of which there may be more than the mesh has: nothing is said of these.
    """

    seen: tuple[SeenObject, ...]
    undecided: tuple[str, ...]
    hidden: tuple[str, ...]
    width: int
    uncounted: frozenset[str] = frozenset()


def phrase_text(relation: str, rng: np.random.Generator, **names: str) -> str:
    """One of a relation's phrases, with the names in it."""
    templates = _TEMPLATES[relation]
    be = "are" if is_plural(names.get("a", "")) else "is"
    return templates[int(rng.integers(len(templates)))].format(be=be, **names)


@lru_cache(maxsize=1 << 16)
def could_be_meant(label: str, other: str) -> bool:
    """Might somebody who hears ``label`` take an object labelled ``other`` for it?"""
    a, b = _noun(label), _noun(other)
    return a == b or any(a in row and b in row for row in _CONFUSABLE)


def expressions(frame: FrameObjects, rng: np.random.Generator) -> Iterator[Expression]:
    """All expressions that the geometry of a frame supports; templates are drawn with ``rng``."""
    groups = nameable(frame)
    anchors = [members[0] for members in groups.values() if len(members) == 1]
    for label, members in groups.items():
        yield from _alone(label, members, frame, rng)
        for anchor in anchors:
            if anchor.label != label:
                yield from _with_anchor(label, members, anchor, rng)
        for b, c in combinations(anchors, 2):
            if label not in (b.label, c.label):
                found = _only(members, partial(relations.between, b=b, c=c))
                if found:
                    text = phrase_text("between", rng, a=label, b=b.label, c=c.label)
                    yield Expression("between", text, (found.uid,), (b.uid, c.uid))


def absent_labels(frame: FrameObjects) -> list[str]:
    """Labels of hidden objects for which nothing in the picture could be taken, sorted."""
    present = [o.label for o in frame.seen] + list(frame.undecided)
    return sorted({label for label in frame.hidden if not any(could_be_meant(label, other) for other in present)})


def absent_expression(
    label: str, frame: FrameObjects, rng: np.random.Generator, choices: Sequence[str] = ()
) -> Expression:
    """A phrase about one of ``absent_labels``, or about something else that the frame does not show.

    Args:
        choices: relations of which one says where it would be ("the lamp to the left of the desk", of which only the
            desk is there), as far as the frame shows things to relate it to. Without such phrases, a relation would
            tell that what it speaks of is visible.
    """
    anchors = [anchor for anchor in nameable_anchors(frame) if not could_be_meant(label, anchor.label)]
    possible = [relation for relation in choices if relation in ORDERED or anchors]
    if not possible:
        return Expression("absent", phrase_text("absent", rng, a=label), ())
    relation = str(rng.choice(possible))
    if relation in ORDERED:
        return Expression(f"absent_{relation}", phrase_text(relation, rng, a=label), ())
    anchor = anchors[int(rng.integers(len(anchors)))]
    text = phrase_text(relation, rng, a=label, b=anchor.label)
    return Expression(f"absent_{relation}", text, (), (anchor.uid,))


def nameable_anchors(frame: FrameObjects) -> list[SeenObject]:
    """Objects that "the (label)" means without doubt."""
    return [members[0] for members in nameable(frame).values() if len(members) == 1]


def nameable(frame: FrameObjects) -> dict[str, list[SeenObject]]:
    """Label -> its objects, for labels under which nothing else, seen or undecided, could be understood."""
    labels = sorted({o.label for o in frame.seen})
    groups = {}
    for label in labels:
        if label in frame.uncounted:
            continue
        rivals = [other for other in labels if other != label] + list(frame.undecided)
        if not any(could_be_meant(label, other) for other in rivals):
            groups[label] = sorted((o for o in frame.seen if o.label == label), key=lambda o: o.uid)
    return groups


def _alone(label: str, members: list[SeenObject], frame: FrameObjects, rng) -> Iterator[Expression]:
    if len(members) == 1:
        yield Expression("unique", phrase_text("unique", rng, a=label), (members[0].uid,))
        return
    middles = [(o.box[0] + o.box[2]) / 2 for o in members]
    order = np.argsort(middles, kind="stable")
    if _in_order([members[k] for k in order], frame.width) and len(members) <= len(_ORDINALS):
        first, last = members[order[0]], members[order[-1]]
        yield Expression("leftmost", phrase_text("leftmost", rng, a=label), (first.uid,))
        yield Expression("rightmost", phrase_text("rightmost", rng, a=label), (last.uid,))
        for place, k in enumerate(order if len(members) > 2 and not is_plural(label) else ()):
            text = phrase_text("nth", rng, a=label, n=_ORDINALS[place])
            yield Expression("nth", text, (members[k].uid,))
        if not is_plural(label):
            yield Expression("all", phrase_text("all", rng, a=label), tuple(members[k].uid for k in order))
    depths = [o.depth[1] for o in members]
    for relation, sign in (("nearest", 1), ("farthest", -1)):
        k = _most([sign * d for d in depths])
        if k is not None:
            yield Expression(relation, phrase_text(relation, rng, a=label), (members[k].uid,))


def _in_order(members: list[SeenObject], width: int) -> bool:
    """Is the order from left to right, by the middles, clear for each two neighbours?"""
    for a, b in pairwise(members):
        gap = (b.box[0] + b.box[2] - a.box[0] - a.box[2]) / 2
        overlap = min(a.box[2], b.box[2]) - max(a.box[0], b.box[0])
        narrower = min(a.box[2] - a.box[0], b.box[2] - b.box[0])
        if gap < _ORDER_GAP * width or overlap > _ORDER_OVERLAP * narrower:
            return False
    return True


def _with_anchor(label: str, members: list[SeenObject], anchor: SeenObject, rng) -> Iterator[Expression]:
    for relation, holds in ANCHORED.items():
        found = _only(members, _to(holds, anchor))
        if found:
            text = phrase_text(relation, rng, a=label, b=anchor.label)
            yield Expression(relation, text, (found.uid,), (anchor.uid,))
    if len(members) > 1:
        gaps = [relations.distance(o, anchor) for o in members]
        for relation, sign in (("near", 1), ("far", -1)):
            k = _most([sign * g for g in gaps])
            if k is not None:
                text = phrase_text(relation, rng, a=label, b=anchor.label)
                yield Expression(relation, text, (members[k].uid,), (anchor.uid,))


def _to(
    holds: Callable[[SeenObject, SeenObject], bool | None], anchor: SeenObject
) -> Callable[[SeenObject], bool | None]:
    return lambda member: holds(member, anchor)


def _only(members: list[SeenObject], holds: Callable[[SeenObject], bool | None]) -> SeenObject | None:
    """The one member for which a relation holds, if it clearly does not for all others."""
    verdicts = [holds(o) for o in members]
    if any(v is None for v in verdicts) or sum(map(bool, verdicts)) != 1:
        return None
    return members[verdicts.index(True)]


def _most(values: list[float]) -> int | None:
    gap = max(0.1, _DISTANCE_GAP * float(np.abs(values).min()))
    return relations.smallest(values, gap)


def _noun(label: str) -> str:
    words = normalise_label(label).split()
    noun = words[-1] if words else ""
    return noun[:-1] if is_plural(noun) else noun


def is_plural(label: str) -> bool:
    """Does a label name several things ("books", "kitchen cabinets")? Of such there is no "every" and no "first"."""
    words = normalise_label(label).split()
    noun = words[-1] if words else ""
    if noun in _PLURALS or noun in _SINGULARS:
        return noun in _PLURALS
    return noun.endswith("s") and not noun.endswith(("ss", "us", "is"))
