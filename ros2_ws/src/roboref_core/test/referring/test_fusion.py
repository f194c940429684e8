"""Beliefs of geometry and a model together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from roboref_core.models.fusion import VERDICTS, FusionConfig, Place2D, believe, combined
from roboref_core.models.model_answer import ModelAnswer, Outcome
from roboref_core.views.registration import Change

SIZE = (640, 480)
CONFIG = FusionConfig()
EXACT = Place2D(np.array([300.0, 200.0]), np.eye(2) * 0.25)


def says(pixel=None, p_visible=None, sigma=12.0):
    if pixel is None:
        return ModelAnswer("NOT_VISIBLE", Outcome.NOT_VISIBLE, p_visible=p_visible)
    points = np.array([pixel], dtype=float)
    covariance = np.eye(2)[None] * sigma**2
    return ModelAnswer("[...]", Outcome.VISIBLE, points, point_covariance=covariance, p_visible=p_visible)


@given(
    st.sampled_from(list(Change)),
    st.booleans(),
    st.none() | st.tuples(st.floats(0, 639), st.floats(0, 479)),
    st.none() | st.floats(0, 1),
)
def test_probabilities_are_some(verdict, seen, pixel, p_visible):
    belief = believe(verdict, EXACT if seen else None, says(pixel, p_visible), SIZE, CONFIG)
    parts = np.array([belief.here, belief.elsewhere, belief.absent])
    assert parts.sum() == pytest.approx(1.0) and (parts >= 0).all()
    assert seen or belief.here == 0.0
    assert pixel is not None or belief.elsewhere == 0.0
    assert (belief.agree is None) == (pixel is None or not seen)


@given(st.sampled_from(list(Change)), st.floats(0.01, 0.98), st.floats(0.001, 0.01))
def test_who_is_surer_that_it_is_in_sight_makes_it_more_probable(verdict, p, more):
    less, greater = (believe(verdict, EXACT, says((310, 190), q), SIZE, CONFIG).p_visible for q in (p, p + more))
    assert greater >= less


def test_a_still_surface_outweighs_a_model_that_sees_nothing():
    assert believe(Change.UNCHANGED, EXACT, says(p_visible=0.1), SIZE, CONFIG).here > 0.9


def test_a_surface_that_is_gone_leaves_it_to_the_model():
    seen = believe(Change.GONE, None, says((100, 100), 0.9), SIZE, CONFIG)
    assert seen.elsewhere > 0.9
    assert believe(Change.GONE, None, says(p_visible=0.1), SIZE, CONFIG).p_visible == 0.0
    assert believe(Change.GONE, None, None, SIZE, CONFIG).p_visible == 0.0


def test_a_hidden_surface_asks_more_of_the_model_than_one_that_is_gone():
    hidden, gone = (
        believe(change, None, says((100, 100), 0.6), SIZE, CONFIG).p_visible for change in (Change.HIDDEN, Change.GONE)
    )
    assert hidden < 0.5 < gone


def test_agreement_makes_a_place_surer_and_contradiction_less_sure():
    alone = believe(Change.UNCHANGED, EXACT, None, SIZE, CONFIG)
    agreed = believe(Change.UNCHANGED, EXACT, says((305, 210), 0.9), SIZE, CONFIG)
    against = believe(Change.UNCHANGED, EXACT, says((90, 400), 0.9), SIZE, CONFIG)
    assert agreed.agree and not against.agree and alone.agree is None
    assert against.here < alone.here < agreed.here


@given(st.floats(1, 100), st.floats(1, 100))
def test_combined_points_are_no_less_known_than_the_better_one(a, b):
    far = Place2D(np.array([310.0, 190.0]), np.diag([a, b]))
    both = combined(EXACT, far)
    assert np.linalg.eigvalsh(EXACT.covariance - both.covariance).min() >= -1e-9
    np.testing.assert_allclose(both.pixel, combined(far, EXACT).pixel)
    assert np.linalg.norm(both.pixel - EXACT.pixel) < np.linalg.norm(both.pixel - far.pixel)


def test_verdicts_cover_every_change():
    assert set(VERDICTS) == set(Change)
