"""Questions are true of the views they ask about, and their words alone do not give the answer away."""

from __future__ import annotations

import numpy as np
import pytest

from offline.data_engine.tasks.expressions import could_be_meant
from offline.train.nano.pool import SIDE
from offline.train.nano.questions import Mix, Sampler
from sim.rooms.design import PALETTE


@pytest.fixture(scope="module")
def questions(chunk):
    return Sampler([chunk], Mix(concat=0.3, grid=0.3)).draw(200, np.random.default_rng(0))


def test_every_kind_of_question_is_drawn(questions):
    found = {(question.task, bool(question.points)) for question in questions}
    assert found >= {
        ("t1", True),
        ("t1", False),
        ("t2a", True),
        ("t2a", False),
        ("t2b", True),
        ("referring", True),
        ("referring", False),
    }
    assert any(question.pictures[0].right for question in questions)


def test_points_lie_on_what_would_be_right(questions):
    for question in questions:
        if question.target is None:
            continue
        assert question.target.any()
        for x, y in question.points:
            x = 2 * x - 1 if question.pictures[-1].right else x
            assert question.target[int(y * SIDE), int(x * SIDE)]


def test_nothing_of_a_hidden_object_is_in_the_queried_view(chunk, questions):
    hidden = [q for q in questions if q.kind == "hidden"]
    assert hidden
    for question in hidden:
        first = question.pictures[0]
        query = first.right or (question.pictures[-1].chunk, question.pictures[-1].view)
        u, v = (first.mark[0] + 0.5) / 2 - 0.5, (first.mark[1] + 0.5) / 1.5 - 0.5
        uid = chunk.ids[first.view][round(v), round(u)]
        assert not (chunk.ids[query[1]] == uid).any()


def _has_relation(question):
    return question.kind not in ("unique", "color", "absent", "absent_color")


@pytest.mark.parametrize("related, low, high", [(False, 0.4, 0.6), (True, 0.15, 0.5)])
def test_words_do_not_tell_whether_a_thing_is_there(questions, related, low, high):
    asked = [q for q in questions if q.task == "referring" and _has_relation(q) is related]
    assert low < np.mean([not q.points for q in asked]) < high


def test_a_relation_to_a_thing_that_is_not_there_names_one_that_is_not_there(chunk, questions):
    asked = [q for q in questions if q.kind.endswith("_related")]
    assert {q.kind for q in asked} == {"absent_related", "absent_color_related"}
    for question in asked:
        view = chunk.views[question.pictures[0].view]
        room = chunk.rooms[view["room"]]
        seen = {(room["colors"][uid], room["labels"][uid]) for uid in view["seen"]}
        words = question.text.partition(". If it is not visible")[0]
        of_no_kind = [
            label for label in room["labels"].values() if not any(could_be_meant(label, own) for _, own in seen)
        ]
        of_no_color = [f"{color} {label}" for color in PALETTE for _, label in seen if (color, label) not in seen]
        assert any(name in words for name in of_no_kind + of_no_color), words
