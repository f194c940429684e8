"""Expressions of several steps: one solution each, by the solver and by a plain reading of the relations."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from roboref_core.prompting.reasoning import FARTHER, NEARER, Perception

from offline.data_engine.tasks.chain_geometry import gap_between, holds, picked
from offline.data_engine.tasks.chain_solver import UNKNOWN, readings, solve
from offline.data_engine.tasks.chain_words import MAX_STEPS, RELATIONS, Spot, Thing, Told, phrase, sentence
from offline.data_engine.tasks.chains import chain_of, named_things
from offline.data_engine.tasks.expressions import FrameObjects
from offline.data_engine.tasks.relations import SeenObject

WIDTH = 640
LABELS = ("cup", "lamp", "book", "basket", "table", "pillow", "laptop")


def block(uid: int, label: str, middle, size) -> SeenObject:
    """A box in front of a camera that looks along +y from (0, 0, 1.4), as it sees it."""
    middle, size = np.asarray(middle, float), np.asarray(size, float)
    sides = [np.linspace(m - s / 2, m + s / 2, 4) for m, s in zip(middle, size, strict=True)]
    grid = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 3)
    lower, upper = grid.min(axis=0), grid.max(axis=0)
    points = grid[((grid == lower) | (grid == upper)).any(axis=1)]
    depth = points[:, 1]
    u, v = 320 + 500 * points[:, 0] / depth, 240 - 500 * (points[:, 2] - 1.4) / depth
    box = (round(u.min()), round(v.min()), round(u.max()), round(v.max()))
    near, mid, far = np.percentile(depth, (5, 50, 95))
    return SeenObject(uid, label, box, (float(near), float(mid), float(far)), points)


def scene(seed: int, count: int = 9) -> FrameObjects:
    """Boxes of various sizes and few labels, some standing on others."""
    rng = np.random.default_rng(seed)
    seen: list[SeenObject] = []
    for uid in range(1, count + 1):
        label = LABELS[int(rng.integers(len(LABELS)))]
        size = rng.uniform(0.08, 0.8, 3)
        x, y, z = rng.uniform(-1.6, 1.6), rng.uniform(1.8, 5.0), 0.0
        if seen and rng.random() < 0.35:
            host = seen[int(rng.integers(len(seen)))]
            size = np.minimum(size, 0.25)
            x, y, z = host.centre[0], host.centre[1], host.upper[2]
        seen.append(block(uid, label, (x, y, z + size[2] / 2), size))
    undecided = tuple(label for label in ("mug", "plant") if rng.random() < 0.2)
    return FrameObjects(tuple(seen), undecided, (), WIDTH)


def plainly(thing: Thing, frame: FrameObjects) -> int | None:
    """Who is meant, by the maker's relations alone, from the inside out; None where that is not one."""
    objects = {o.uid: o for o in frame.seen}
    members = [o for o in frame.seen if o.label == thing.label]
    for told in thing.filters:
        anchors = [plainly(anchor, frame) for anchor in told.anchors]
        if None in anchors:
            return None
        verdicts = [holds(told.relation, o, [objects[k] for k in anchors], told.metres) for o in members]
        if None in verdicts:
            return None
        members = [o for o, verdict in zip(members, verdicts, strict=True) if verdict]
    if thing.pick is None:
        return members[0].uid if len(members) == 1 else None
    anchors = [plainly(anchor, frame) for anchor in thing.pick.anchors]
    if None in anchors:
        return None
    found = picked(thing.pick.relation, members, [objects[k] for k in anchors], thing.pick.rank, frame.width)
    return None if found is None else found.uid


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32 - 1))
def test_every_expression_has_exactly_one_solution(seed):
    frame = scene(seed)
    for one in named_things(frame, np.random.default_rng(seed)):
        solution = solve(one.thing, frame)
        assert solution.possible == solution.certain == {one.uid}, phrase(one.thing)
        assert plainly(one.thing, frame) == one.uid, phrase(one.thing)
        assert 1 <= one.thing.steps <= MAX_STEPS and len(one.uids) == one.thing.steps == len(set(one.uids))
        labels = {o.uid: o.label for o in frame.seen}
        assert [labels[uid] for uid in one.uids] == [node.label for node in one.thing.nodes()]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32 - 1))
def test_a_double_makes_it_ambiguous(seed):
    """Whoever is meant, or is spoken of: with a second one in its place, nobody can know."""
    frame = scene(seed)
    objects = {o.uid: o for o in frame.seen}
    for one in named_things(frame, np.random.default_rng(seed))[::5]:
        for uid in one.uids:
            o = objects[uid]
            double = SeenObject(99, o.label, o.box, o.depth, o.points)
            doubled = FrameObjects((*frame.seen, double), frame.undecided, frame.hidden, frame.width)
            assert solve(one.thing, doubled).only is None, f"{phrase(one.thing)}, doubling {o.label}"
            hidden = FrameObjects(frame.seen, (*frame.undecided, o.label), frame.hidden, frame.width)
            assert solve(one.thing, hidden).only is None


def test_relations_are_at_least_those_that_were_published():
    assert len(RELATIONS) >= 31
    made: Counter[str] = Counter()
    steps: Counter[int] = Counter()
    for seed in range(60):
        for one in named_things(scene(seed), np.random.default_rng(seed)):
            made.update(one.thing.relations())
            steps[one.thing.steps] += 1
    # Free space needs pictures; "inside" needs hollow things.
    assert len(set(made)) >= 31, sorted(set(RELATIONS) - set(made))
    assert set(steps) == set(range(1, MAX_STEPS + 1))


def test_words_that_can_be_heard_in_two_ways():
    box = Thing("box", (Told("behind", (Thing("lamp"),)),))
    cup = Thing("cup", (Told("left", (box,)),))
    assert phrase(cup) == "the cup to the left of the box behind the lamp"
    other = Thing("cup", (Told("left", (Thing("box"),)), Told("behind", (Thing("lamp"),))))
    assert set(readings(cup)) == {cup, other}
    # One cup left of the box, another one left of it and behind the lamp: two readings, two answers.
    lamp, crate = block(1, "lamp", (0, 2, 0.3), (0.2, 0.2, 0.6)), block(2, "box", (0.1, 3, 0.2), (0.3, 0.3, 0.4))
    left = block(3, "cup", (-1.2, 3, 0.1), (0.1, 0.1, 0.2))
    frame = FrameObjects((lamp, crate, left), (), (), WIDTH)
    assert solve(cup, frame).only == 3
    behind = block(4, "cup", (-0.02, 4.5, 0.1), (0.1, 0.1, 0.2))
    assert solve(cup, FrameObjects((lamp, crate, left, behind), (), (), WIDTH)).only is None


def test_what_cannot_be_judged_is_among_the_possible():
    frame = FrameObjects((block(1, "lamp", (0, 2, 0.3), (0.2, 0.2, 0.6)),), ("lamp",), (), WIDTH)
    assert solve(Thing("lamp"), frame).possible == {1, UNKNOWN}


def test_the_chain_leads_from_the_anchors_to_the_thing():
    lamp, book = block(1, "lamp", (0, 2, 0.3), (0.2, 0.2, 0.6)), block(2, "book", (1.0, 3, 0.1), (0.2, 0.2, 0.2))
    cups = [block(3 + k, "cup", (x, 3.4, 0.1), (0.1, 0.1, 0.2)) for k, x in enumerate((0.0, 1.2))]
    objects = {o.uid: o for o in (lamp, book, *cups)}
    near = Thing("cup", (), Told("near", (Thing("book", (Told("behind", (Thing("lamp"),)),)),)))
    points = {uid: (uid / 10, 0.5) for uid in objects}
    steps = chain_of(near, (1, 2, 4), objects, points)
    assert [step.perception for step in steps] == [
        Perception.POSITION, Perception.POSITION, Perception.DEPTH_ORDER, Perception.POSITION, Perception.DISTANCE,
    ]  # fmt: skip
    assert [step.point for step in steps if step.point] == [(0.1, 0.5), (0.2, 0.5), (0.4, 0.5)]
    assert steps[2].order == FARTHER and steps[2].name == "the book behind the lamp, the lamp"
    assert steps[4].distance == pytest.approx(gap_between(cups[1], book), abs=0.006)
    assert NEARER != FARTHER


def test_a_place_is_told_by_what_stands_around_it():
    spot = Spot(Told("free_left", (Thing("table"), Thing("cup", (), Told("near", (Thing("lamp"),))))))
    assert spot.steps == 4
    text = sentence(spot, np.random.default_rng(0))
    assert re.search(r"the free space on the table to the left of the cup nearest to the lamp\.$", text)


def test_the_same_seed_says_the_same():
    first, second = (named_things(scene(7), np.random.default_rng(3)) for _ in range(2))
    assert [one.thing for one in first] == [one.thing for one in second]
