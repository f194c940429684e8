from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline.data_engine.tasks import relations as rel
from offline.data_engine.tasks.expressions import (
    MEASURED,
    ORDERED,
    FrameObjects,
    absent_expression,
    absent_labels,
    could_be_meant,
    expressions,
    phrase_text,
)
from offline.data_engine.tasks.relations import ANCHORED, SeenObject


def thing(uid, label, box, depth=(2.0, 2.2, 2.4), lower=(0, 0, 0), upper=(0.4, 0.4, 0.4)) -> SeenObject:
    return SeenObject(uid, label, box, depth, block(lower, upper))


def block(lower, upper) -> np.ndarray:
    """Points on the faces of a box, at most 5 cm apart."""
    lower, upper = np.asarray(lower, float), np.asarray(upper, float)
    sides = [np.linspace(lo, hi, max(3, round((hi - lo) / 0.05) + 1)) for lo, hi in zip(lower, upper, strict=True)]
    grid = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 3)
    return grid[((grid == lower) | (grid == upper)).any(axis=1)]


def phrases(*seen, undecided=(), hidden=(), seed=0) -> dict[tuple[str, str], tuple[int, ...]]:
    frame = FrameObjects(tuple(seen), tuple(undecided), tuple(hidden), 640)
    found = list(expressions(frame, np.random.default_rng(seed)))
    return {(e.relation, e.text): e.uids for e in found}


def relations_of(found) -> dict[str, set]:
    out: dict[str, set] = {}
    for (relation, _), uids in found.items():
        out.setdefault(relation, set()).add(uids)
    return out


boxes = st.tuples(st.integers(0, 500), st.integers(5, 140)).map(lambda b: (b[0], 0, b[0] + b[1], 50))


@given(boxes, boxes)
def test_left_and_right_are_mirror_images_and_exclude_each_other(a, b):
    x, y = thing(1, "cup", a), thing(2, "box", b)
    assert rel.left_of(x, y) == rel.right_of(
        thing(1, "cup", (640 - a[2], 0, 640 - a[0], 50)), thing(2, "box", (640 - b[2], 0, 640 - b[0], 50))
    )
    assert not (rel.left_of(x, y) and rel.right_of(x, y))
    if rel.left_of(x, y):
        assert rel.right_of(x, y) is False and rel.left_of(y, x) is False


def test_depth_relations_need_clear_order_and_overlap():
    near = thing(1, "chair", (100, 0, 200, 50), (1.0, 1.2, 1.4), (0, 0, 0), (0.4, 0.4, 0.8))
    far = thing(2, "table", (120, 0, 260, 50), (2.0, 2.4, 2.8), (0, 1.0, 0), (1, 1.6, 0.7))
    assert rel.in_front_of(near, far) is True and rel.behind(far, near) is True
    assert rel.in_front_of(far, near) is False
    aside = thing(3, "chair", (500, 0, 600, 50), (1.0, 1.2, 1.4), (3, 0, 0), (3.4, 0.4, 0.8))
    assert rel.in_front_of(aside, far) is None
    below = thing(4, "cup", (120, 0, 160, 50), (1.5, 1.6, 1.7), (0.2, 1.1, 0), (0.3, 1.2, 0.1))
    assert rel.in_front_of(below, far) is None


def test_on_and_under():
    desk = np.concatenate([block((0, 0, 0.66), (1.2, 0.8, 0.7)), block((0, 0, 0), (0.04, 0.8, 0.66))])
    table = SeenObject(1, "table", (0, 0, 300, 100), (2.0, 2.2, 2.4), desk)
    cup = thing(2, "cup", (0, 0, 30, 30), lower=(0.4, 0.3, 0.7), upper=(0.5, 0.4, 0.8))
    floor_cup = thing(3, "cup", (0, 0, 30, 30), lower=(0.4, 0.3, 0.0), upper=(0.5, 0.4, 0.1))
    away = thing(4, "cup", (0, 0, 30, 30), lower=(2.4, 0.3, 0.7), upper=(2.5, 0.4, 0.8))
    floating = thing(5, "cup", (0, 0, 30, 30), lower=(0.4, 0.3, 1.3), upper=(0.5, 0.4, 1.4))
    assert [rel.on(o, table) for o in (cup, floor_cup, away, floating)] == [True, False, False, False]
    assert [rel.under(o, table) for o in (floor_cup, cup, away)] == [True, False, False]
    assert rel.on(table, cup) is False


def test_a_seat_and_a_shelf_carry_things_below_their_tops():
    seat, back = block((0, 0, 0), (0.8, 0.8, 0.4)), block((0, 0.7, 0.4), (0.8, 0.8, 0.9))
    armchair = SeenObject(1, "armchair", (0, 0, 99, 99), (2, 2.2, 2.4), np.concatenate([seat, back]))
    pillow = thing(2, "pillow", (0, 0, 30, 30), lower=(0.2, 0.2, 0.4), upper=(0.6, 0.6, 0.55))
    assert rel.on(pillow, armchair) is True
    boards = [block((0, 0, z), (0.8, 0.3, z + 0.03)) for z in (0.0, 0.5, 1.0, 1.5)]
    shelf = SeenObject(3, "shelf", (0, 0, 99, 99), (2, 2.2, 2.4), np.concatenate(boards))
    book = thing(4, "book", (0, 0, 30, 30), lower=(0.3, 0.05, 0.53), upper=(0.5, 0.25, 0.6))
    assert rel.on(book, shelf) is True
    top, leg = block((0, 0, 0.7), (1.2, 0.8, 0.74)), block((0, 0, 0), (0.05, 0.05, 0.7))
    table = SeenObject(5, "table", (0, 0, 99, 99), (2, 2.2, 2.4), np.concatenate([top, leg]))
    by_the_leg = thing(6, "cup", (0, 0, 9, 9), lower=(0.12, 0.02, 0.0), upper=(0.2, 0.1, 0.1))
    assert rel.on(by_the_leg, table) is False and rel.under(by_the_leg, table) is True


def test_scanned_surfaces_have_holes_below_what_stands_on_them():
    top = block((0, 0, 0.7), (1.2, 0.8, 0.7))
    cup = thing(2, "cup", (0, 0, 9, 9), lower=(0.5, 0.3, 0.71), upper=(0.7, 0.5, 0.9))
    hidden = (np.abs(top[:, :2] - (0.6, 0.4)) < 0.13).all(axis=1)
    table = SeenObject(1, "table", (0, 0, 99, 99), (2, 2.2, 2.4), top[~hidden])
    assert rel.on(cup, table) is True
    one_side = SeenObject(1, "table", (0, 0, 99, 99), (2, 2.2, 2.4), top[~hidden & (top[:, 0] < 0.6)])
    assert rel.on(cup, one_side) is not True


def test_between():
    a = thing(1, "chair", (0, 0, 100, 50), lower=(0, 0, 0), upper=(0.4, 0.4, 0.8))
    c = thing(3, "cabinet", (400, 0, 500, 50), lower=(3, 0, 0), upper=(3.4, 0.4, 0.8))
    middle = thing(2, "bag", (200, 0, 260, 50), lower=(1.5, 0, 0), upper=(1.8, 0.4, 0.4))
    outside = thing(4, "bag", (520, 0, 600, 50), lower=(4.2, 0, 0), upper=(4.5, 0.4, 0.4))
    assert rel.between(middle, a, c) is True and rel.between(outside, a, c) is False
    # A bowl on a long cabinet is not between its neighbour and the cabinet, though its middle is.
    long = thing(5, "cabinet", (150, 0, 500, 50), lower=(1.2, 0, 0), upper=(3.4, 0.4, 0.8))
    bowl = thing(6, "bowl", (170, 0, 200, 50), lower=(1.3, 0.1, 0.8), upper=(1.5, 0.3, 0.9))
    assert rel.between(bowl, a, long) is None
    # A desk is not between what stands on it and what lies under it.
    desk = thing(10, "desk", (100, 0, 400, 50), lower=(0.2, 0, 0), upper=(3.0, 0.6, 0.75))
    under = thing(11, "keyboard", (50, 0, 120, 50), lower=(0.5, 0.1, 0), upper=(0.9, 0.3, 0.03))
    on_it = thing(12, "monitor", (350, 0, 420, 50), lower=(2.3, 0.1, 0.75), upper=(2.7, 0.3, 1.1))
    assert rel.between(desk, under, on_it) is None
    # Nor is what stands high between a thing on the floor and one at its own height.
    floor = thing(7, "keyboard", (0, 0, 100, 50), lower=(0, 0, 0), upper=(0.4, 0.4, 0.03))
    high = thing(8, "globe", (400, 0, 500, 50), lower=(3, 0, 0.8), upper=(3.4, 0.4, 1.2))
    phone = thing(9, "telephone", (200, 0, 260, 50), lower=(1.5, 0, 0.8), upper=(1.8, 0.4, 1.0))
    assert rel.between(phone, floor, high) is None and rel.between(phone, high, floor) is None


def test_a_plural_label_has_no_every_and_no_first():
    books = [thing(k, "books", (100 * k, 0, 100 * k + 50, 50), (k, k + 0.1, k + 0.2)) for k in (1, 2, 3)]
    found = relations_of(phrases(*books))
    assert {"leftmost", "rightmost", "nearest", "farthest"} <= set(found) and not {"all", "nth"} & set(found)
    cups = [thing(o.uid, "cup", o.box, o.depth) for o in books]
    assert {"all", "nth"} <= set(relations_of(phrases(*cups)))


def test_nothing_ambiguous_is_named():
    left, right = thing(1, "chair", (50, 0, 100, 50)), thing(2, "chair", (400, 0, 450, 50), (3.0, 3.2, 3.4))
    found = relations_of(phrases(left, right))
    assert found["leftmost"] == {(1,)} and found["rightmost"] == {(2,)} and found["all"] == {(1, 2)}
    assert found["nearest"] == {(1,)} and found["farthest"] == {(2,)}
    assert "unique" not in found and "nth" not in found
    # A third chair that may be in the picture: none of that can be said any more.
    assert phrases(left, right, undecided=("office chair",)) == {}
    # Nor if something there could be called a chair.
    assert phrases(left, thing(3, "armchair", (400, 0, 450, 50))) == {}


def test_an_unclear_candidate_spoils_a_relation():
    table = thing(9, "table", (300, 0, 400, 50), (2.0, 2.2, 2.4), (0, 2, 0), (1, 3, 0.7))
    left, right = thing(1, "cup", (100, 0, 140, 50)), thing(2, "cup", (500, 0, 540, 50))
    assert relations_of(phrases(table, left, right))["left"] == {(1,)}
    overlapping = thing(3, "cup", (280, 0, 330, 50))
    assert "left" not in {r for (r, text) in phrases(table, left, overlapping) if text.endswith("table.")}


def test_nth_from_left_counts_from_the_left():
    row = [thing(uid, "cup", (60 * k, 0, 60 * k + 30, 50)) for k, uid in enumerate((7, 3, 5))]
    found = phrases(*row)
    nth = {text: uids for (relation, text), uids in found.items() if relation == "nth"}
    assert {uids for text, uids in nth.items() if "second" in text} == {(3,)}
    assert next(uids for (relation, _), uids in found.items() if relation == "all") == (7, 3, 5)


def test_absent_labels_have_no_double_in_the_picture():
    frame = FrameObjects((thing(1, "couch", (0, 0, 9, 9)),), ("mug",), ("sofa", "cup", "bicycle", "chair"), 640)
    assert absent_labels(frame) == ["bicycle", "chair"]


@given(st.integers(0, 2**32 - 1))
def test_where_an_absent_thing_would_be_is_told_by_a_thing_that_is_there(seed):
    row = [thing(1, "couch", (0, 0, 9, 9)), thing(2, "chair", (50, 0, 60, 9)), thing(3, "chair", (90, 0, 99, 9))]
    frame = FrameObjects(tuple(row), ("mug",), ("bicycle",), 640)
    found = absent_expression("bicycle", frame, np.random.default_rng(seed), (*ORDERED, *ANCHORED, *MEASURED))
    assert found.relation.startswith("absent_") and found.uids == () and "bicycle" in found.text
    assert found.anchors in ((), (1,)) and ("couch" in found.text) == bool(found.anchors)
    assert not {"chair", "mug"} & set(found.text.strip(".").split())
    anchored = absent_expression("red couch", frame, np.random.default_rng(seed), tuple(ANCHORED))
    assert anchored.relation == "absent" and anchored.text.count("couch") == 1


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [("chair", "office chair", True), ("trash can", "recycling bin", True), ("books", "book", True),
     ("monitor", "tv", True), ("chair", "couch", False), ("lamp", "table", False), ("glass", "glasses", False)],
)  # fmt: skip
def test_names_that_could_be_confused(a, b, same):
    assert could_be_meant(a, b) == could_be_meant(b, a) == same


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("kitchen cabinets", "Where are the kitchen cabinets?"),
        ("books", "Where are the books?"),
        ("scissors", "Where are the scissors?"),
        ("cup", "Where is the cup?"),
        ("glass", "Where is the glass?"),
        ("bus", "Where is the bus?"),
        ("canvas", "Where is the canvas?"),
        ("chess", "Where is the chess?"),
    ],
)
def test_verbs_agree_with_their_nouns(label, text):
    drawn = [np.random.default_rng(k) for k in range(20)]
    said = {phrase_text(relation, rng, a=label) for rng in drawn for relation in ("unique", "absent")}
    assert text in said and not any("{" in phrase for phrase in said)


def test_nothing_is_said_of_kinds_that_may_not_all_be_known():
    a = thing(1, "cup", (0, 0, 50, 50), (1, 1.1, 1.2))
    frame = FrameObjects((a,), (), (), 640, frozenset({"cup"}))
    assert list(expressions(frame, np.random.default_rng(0))) == []
    frame = FrameObjects((a,), (), (), 640)
    assert [e.relation for e in expressions(frame, np.random.default_rng(0))] == ["unique"]


@pytest.mark.parametrize(("shift", "ordered"), [(20, False), (45, False), (55, True), (120, True)])
def test_things_that_overlap_in_the_picture_have_no_order(shift, ordered):
    """The one in front may be cut off or reconstructed in part: its middle is not known then."""
    found = relations_of(
        phrases(thing(1, "chair", (200, 0, 300, 90)), thing(2, "chair", (200 + shift, 0, 300 + shift, 90)))
    )
    assert ("leftmost" in found) == ("rightmost" in found) == ordered
