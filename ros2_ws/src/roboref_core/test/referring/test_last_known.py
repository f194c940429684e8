"""Where a thing was seen last, and what the present view says of that place."""

from __future__ import annotations

import time

import numpy as np
import pytest
from looks import AWAY, NOT_VISIBLE, OPPOSITE, A, B, found, point
from roboref_core.models.reprojection import ReprojectionModel
from roboref_core.referring.answer import Agreement, Status
from roboref_core.referring.query import Query
from roboref_core.referring.refer import ReferConfig, answer
from roboref_core.views.registration import Change
from roboref_core.views.visibility import Visibility


def test_memory_tells_the_last_known_place_and_says_so(room, buffer, add):
    a = add(A, 0)
    b = add(B, 1)
    away = add(AWAY, 2)
    mark = (74.0, 52.0)
    query = Query("it", regions=(point(a, mark),), search_memory=True)
    reply = answer(query, buffer, ReprojectionModel())
    assert reply.status == Status.NOT_VISIBLE
    assert reply.targets == ()
    assert reply.view is away
    assert [known.view_id for known in reply.last_known] == [b.view_id]  # the newest that saw it
    assert reply.last_known[0].target.stamp_ns == b.stamp_ns
    assert np.linalg.norm(reply.last_known[0].target.position - room.point(a, mark)) < 0.01
    late = answer(query, buffer, ReprojectionModel(), deadline=time.monotonic() - 1)
    assert (late.status, late.last_known) == (Status.NOT_VISIBLE, ())


@pytest.fixture
def remembered_check(room, buffer, add, answering):
    """``remembered_check(T)`` is the check of a last known place in a view at T, of ``then`` if the room changed."""

    def remembered_check(T, then=room, mark=(79.0, 58.0)):
        a = add(A, 0)
        add(T, 1, seen=then)
        model = answering(NOT_VISIBLE, found(mark))
        reply = answer(Query("it", regions=(point(a, mark),), search_memory=True), buffer, model)
        assert reply.status == Status.NOT_VISIBLE
        return reply.last_known[0].check

    return remembered_check


def test_a_last_known_place_is_checked_against_the_present(remembered_check):
    away = remembered_check(AWAY)
    assert (away.agreement, away.visibility) == (Agreement.AGREES, Visibility.OUT_OF_FRUSTUM)


def test_a_last_known_place_that_is_looked_through_is_gone(remembered_check, room):
    check = remembered_check(A, then=type(room)(spheres=()))
    assert (check.agreement, check.visibility) == (Agreement.AGREES, Visibility.CONFLICT)
    assert check.surface.change == Change.GONE


def test_a_last_known_place_behind_something_is_hidden(remembered_check):
    check = remembered_check(OPPOSITE)
    assert (check.agreement, check.visibility) == (Agreement.AGREES, Visibility.OCCLUDED)


def test_a_last_known_place_that_is_seen_still_contradicts_the_answer(remembered_check):
    check = remembered_check(A)
    assert (check.agreement, check.visibility) == (Agreement.DISAGREES, Visibility.VISIBLE)
    np.testing.assert_allclose(check.expected_pixel, (79.0, 58.0), atol=1e-6)


def test_a_last_known_place_beside_an_outline_owns_both_surfaces(room, buffer, add):
    """Wherever along a row the mark lies, ball or wall behind it: truth is inside, and none is called gone."""
    a = add(A, 0)
    add(A, 0.2)
    add(AWAY, 1)
    for u in np.arange(50.0, 112.0):
        query = Query("it", regions=(point(a, (u, 58.0)),), search_memory=True)
        for known in answer(query, buffer, ReprojectionModel()).last_known:
            off = known.target.position - room.point(a, (u, 58.0))
            assert off @ np.linalg.solve(known.target.covariance, off) < 7.8
            assert known.check.visibility == Visibility.OUT_OF_FRUSTUM


def test_memory_search_with_words_is_bounded_and_outlives_failures(buffer, add, answering):
    for i in range(6):
        add(A, i)
    model = answering(NOT_VISIBLE, RuntimeError("no"), NOT_VISIBLE, found((80.0, 60.0)))
    reply = answer(Query("the ball", search_memory=True), buffer, model, ReferConfig(memory_views=3))
    assert len(model.requests) == 4
    assert len(reply.last_known) == 1
    model = answering(NOT_VISIBLE)
    answer(Query("the ball", search_memory=True), buffer, model, ReferConfig(memory_views=2))
    assert len(model.requests) == 3
