"""Questions in words: what they name is there, what they call absent is not."""

from __future__ import annotations

import numpy as np
import pytest
from roboref_core.geometry.pose import inverse, transform
from roboref_core.views.visibility import Visibility

from offline.eval.replay.truth.other_view import at_view
from offline.eval.replay.truth.words import make_word_questions
from sim.rooms.changes import Change
from sim.rooms.path import make_path
from sim.rooms.renderer import Renderer
from sim.rooms.rooms import make_scene
from sim.rooms.sim_source import SimSource


@pytest.fixture(scope="module")
def room():
    renderer = Renderer(make_scene(11, triangles=16_000, objects=16))
    return SimSource(renderer, make_path(renderer, 40, seed=11, rate_hz=4.0))


@pytest.fixture(scope="module")
def questions(room):
    return make_word_questions(room, 40, queries=10)


def test_what_is_named_is_seen_where_it_is_said_to_be(room, questions):
    named = [q for q in questions if q.object_id]
    assert len(named) > 15
    for question in named:
        u, v = map(int, question.truth.pixel)
        assert room.ids(question.query)[v, u] == question.object_id
        assert question.label in question.text
        assert question.truth.visibility is Visibility.VISIBLE
        assert (question.reference, question.mark) == (None, None)


def test_what_is_absent_is_nowhere_in_the_picture(room, questions):
    absent = [q for q in questions if not q.object_id]
    assert absent
    labels, colors = ({o.object_id: getattr(o, name) for o in room.scene.furniture} for name in ("label", "color"))
    for question in absent:
        shown = {labels[uid] for uid in set(room.ids(question.query).ravel().tolist()) & labels.keys()}
        named = {label for label in shown if question.text.rstrip(".?").endswith(label)}
        # Where one of its kind is in sight, it is of another colour.
        for label in named:
            kind = {colors[uid] for uid in labels if labels[uid] == label}
            assert not any(f"{color} {label}" in question.text for color in kind)


def test_the_same_room_gives_the_same_questions(room, questions):
    assert make_word_questions(room, 40, queries=10) == questions


def test_only_positions_that_are_allowed(room):
    assert {q.query for q in make_word_questions(room, 12, positions=[3, 17, 30])} <= {3, 17, 30}


def test_a_room_that_changes_is_refused(room):
    changed = SimSource(room.renderer, room.path, change=Change(20, room.renderer))
    with pytest.raises(ValueError, match="stays as it is"):
        make_word_questions(changed, 10)


def test_a_thing_asked_for_in_another_view_is_judged_by_what_that_view_shows(room, questions):
    shown = hidden = 0
    for question in questions:
        assert at_view(room, question, question.query) is question
        other = (question.query + 7) % len(room)
        moved = at_view(room, question, other)
        assert moved.query == other and (moved.text, moved.object_id) == (question.text, question.object_id)
        if question.object_id and (room.ids(other) == question.object_id).any():
            u, v = map(int, moved.truth.pixel)
            assert moved.truth.decidable and room.ids(other)[v, u] == question.object_id
            in_camera = transform(inverse(room.poses[other]), np.array(moved.truth.point))
            np.testing.assert_allclose(moved.truth.in_camera, in_camera, atol=1e-9)
            shown += 1
        else:
            assert not moved.truth.decidable and moved.truth.point is None
            hidden += 1
    assert shown and hidden
