"""Expressions of several steps as trees: a thing, told by relations to other things, which are told in turn.

The published measure is RefSpatial (arXiv:2506.04308): 31 relations and up to 5 steps. Of the predicates of its
published generator, those that need the front of a thing ("facing", "at an angle to") are not here: ScanNet does not
annotate which way things face.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from roboref_core.prompting.reasoning import Perception

MAX_STEPS = 5
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")


@dataclass(frozen=True)
class Relation:
    """How a thing is told.

    Attributes:
        words: around the anchors {b} and {c}, the kind {a}, the ordinal {n} and the distance {m}.
        anchors: how many other things it speaks of.
        kind: "filter": it holds for a thing or does not; "pick": it chooses one of several; "place": it chooses free
            space on the first anchor.
        perception: what has to be found out besides where the things are.
    """

    words: str
    anchors: int
    kind: Literal["filter", "pick", "place"]
    perception: Perception | None = None


def _filters(perception: Perception | None, **words: str) -> dict[str, Relation]:
    return {name: Relation(text, 2 if "{c}" in text else 1, "filter", perception) for name, text in words.items()}


def _picks(perception: Perception | None, **words: str) -> dict[str, Relation]:
    return {name: Relation(text, int("{b}" in text), "pick", perception) for name, text in words.items()}


RELATIONS: dict[str, Relation] = {
    **_filters(
        None,
        left="to the left of {b}",
        right="to the right of {b}",
        on="on {b}",
        under="under {b}",
        above="above {b}",
        below="below {b}",
        higher="higher up than {b}",
        lower="lower down than {b}",
        image_above="farther up in the image than {b}",
        image_below="farther down in the image than {b}",
        inside="inside {b}",
        touching="touching {b}",
        between="between {b} and {c}",
        taller="taller than {b}",
        shorter="shorter than {b}",
        wider="wider than {b}",
        narrower="narrower than {b}",
        bigger="bigger than {b}",
        smaller="smaller than {b}",
    ),
    **_filters(
        Perception.DEPTH_ORDER,
        front="in front of {b}",
        behind="behind {b}",
        nearer="nearer to the camera than {b}",
        farther="farther from the camera than {b}",
    ),
    **_filters(
        Perception.DISTANCE,
        beside="beside {b}",
        away="more than 2 m away from {b}",
        within="within 1 m of {b}",
        distance="about {m} m from {b}",
    ),
    **_picks(
        None,
        leftmost="leftmost {a}",
        rightmost="rightmost {a}",
        topmost="{a} farthest up in the image",
        bottommost="{a} farthest down in the image",
        nearest="{a} nearest to the camera",
        farthest="{a} farthest from the camera",
        highest="highest {a}",
        lowest="lowest {a}",
        tallest="tallest {a}",
        shortest="shortest {a}",
        widest="widest {a}",
        narrowest="narrowest {a}",
        biggest="biggest {a}",
        smallest="smallest {a}",
        nth_left="{n} {a} from the left",
        nth_right="{n} {a} from the right",
        nth_near="{n} nearest {a} to the camera",
        nth_far="{n} farthest {a} from the camera",
    ),
    **_picks(
        Perception.DISTANCE,
        near="{a} nearest to {b}",
        far="{a} farthest from {b}",
        nth_near_to="{n} nearest {a} to {b}",
    ),
    **{
        name: Relation(words, 1 + words.count("{c}") + words.count("{d}"), "place")
        for name, words in {
            "free_on": "the free space on {b}",
            "free_left": "the free space on {b} to the left of {c}",
            "free_right": "the free space on {b} to the right of {c}",
            "free_front": "the free space on {b} in front of {c}",
            "free_behind": "the free space on {b} behind {c}",
            "free_between": "the free space on {b} between {c} and {d}",
        }.items()
    },
}
"""By name. Left, right, front and behind are the camera's."""
_SENTENCES = ("Point to {x}.", "Locate {x}.", "Find {x}.", "Point out {x}.")


@dataclass(frozen=True)
class Told:
    """A relation as it is used.

    Attributes:
        relation: a key of ``RELATIONS``.
        anchors: what it relates to.
        rank: of the ordinals, 0 for the first.
        metres: of "distance".
    """

    relation: str
    anchors: tuple[Thing, ...] = ()
    rank: int = 0
    metres: float = 0.0


@dataclass(frozen=True)
class Thing:
    """One thing in words: of all of a label those for which the filters hold, and of these the picked one.

    Attributes:
        label: what it is called.
        filters: that hold for it.
        pick: chooses among those for which they hold; None: there is one.
    """

    label: str
    filters: tuple[Told, ...] = ()
    pick: Told | None = None

    @property
    def told(self) -> tuple[Told, ...]:
        return (*self.filters, self.pick) if self.pick else self.filters

    @property
    def steps(self) -> int:
        """How many things have to be found on the way, this one included."""
        return 1 + sum(anchor.steps for one in self.told for anchor in one.anchors)

    def nodes(self) -> Iterator[Thing]:
        """This and everything that it is told by, anchors first."""
        for one in self.told:
            for anchor in one.anchors:
                yield from anchor.nodes()
        yield self

    def relations(self) -> Iterator[str]:
        """Names of the relations in it."""
        for node in self.nodes():
            yield from (one.relation for one in node.told)


@dataclass(frozen=True)
class Spot:
    """Free space on the first anchor, told by the others."""

    told: Told

    @property
    def steps(self) -> int:
        return 1 + sum(anchor.steps for anchor in self.told.anchors)

    def relations(self) -> Iterator[str]:
        yield self.told.relation
        for anchor in self.told.anchors:
            yield from anchor.relations()


def phrase(thing: Thing | Spot) -> str:
    """ "the second cup from the left on the desk"."""
    if isinstance(thing, Spot):
        return RELATIONS[thing.told.relation].words.format(**_names(thing.told))
    noun = thing.label
    if thing.pick is not None:
        named = {"a": noun, "n": ORDINALS[thing.pick.rank], **_names(thing.pick)}
        noun = RELATIONS[thing.pick.relation].words.format(**named)
    return " ".join(["the", noun, *(_filter_words(one) for one in thing.filters)])


def sentence(thing: Thing | Spot, rng: np.random.Generator) -> str:
    """A request to point to it."""
    return _SENTENCES[int(rng.integers(len(_SENTENCES)))].format(x=phrase(thing))


def _filter_words(told: Told) -> str:
    return RELATIONS[told.relation].words.format(m=f"{told.metres:.1f}", **_names(told))


def _names(told: Told) -> dict[str, str]:
    return {name: phrase(anchor) for name, anchor in zip("bcd", told.anchors, strict=False)}
