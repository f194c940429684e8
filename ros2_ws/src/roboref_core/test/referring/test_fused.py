"""Questions answered by geometry and a model as one."""

from __future__ import annotations

import numpy as np
import pytest
from roboref_core.errors import ErrorCode, ReferError
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import inverse, look_at, transform
from roboref_core.models.fused import FusedModel
from roboref_core.models.model_answer import Outcome
from roboref_core.models.pointing_model import Prediction
from roboref_core.referring.answer import Agreement, Status
from roboref_core.referring.query import MarkedPoint, MarkedPosition, Query
from roboref_core.referring.refer import answer
from roboref_core.views.registration import Change
from roboref_core.views.view_buffer import SECOND, ViewBuffer, ViewBufferConfig

CAMERA = Camera(320, 240, 280.0, 280.0, 159.5, 119.5)
CENTRE = (0.0, 0.0, 0.5)
A = look_at((-2.2, 0.2, 1.3), CENTRE)
B = look_at((-2.0, -0.4, 1.4), CENTRE)
BALL = ((0.0, 0.0, 0.5), 0.3)
SCREEN = ((-1.0, -0.2, 0.95), 0.3)
ELSEWHERE = (40.0, 60.0)


class Told:
    """A PointingModel that says what it is told."""

    name = "told"

    def __init__(self, said):
        self.said, self.requests = said, []

    def predict(self, request):
        self.requests.append(request)
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


def points_at(pixel, p_visible=0.9):
    covariance = np.eye(2)[None] * 8.0**2
    return Prediction("[...]", Outcome.VISIBLE, np.array([pixel]), point_covariance=covariance, p_visible=p_visible)


def sees_nothing(p_visible=0.05):
    return Prediction("NOT_VISIBLE", Outcome.NOT_VISIBLE, p_visible=p_visible)


def ask(room, said, spheres=(BALL,), text="the ball", region=None, **query):
    """The ball is marked in A, where nothing has changed yet, and asked for in B, where ``spheres`` are.

    Returns the answer, the pixel in B of the marked point, and the model."""
    buffer = ViewBuffer(ViewBufferConfig(sharpness_window=1, min_interval=0.0, max_interval=0.5))
    before, after = type(room)(spheres=(BALL,)), type(room)(spheres=spheres)
    grey = np.full((CAMERA.height, CAMERA.width, 3), 120, np.uint8)
    first = before.view(A, CAMERA, view_id=buffer.next_id(), stamp_ns=0, color=grey)
    buffer.add(first)
    buffer.add(after.view(B, CAMERA, view_id=buffer.next_id(), stamp_ns=SECOND, color=grey))
    mark = (150.0, 110.0)
    model = Told(said)
    regions = (region or MarkedPoint(mark, first.view_id),)
    told = answer(Query(text, regions=regions, **query), buffer, FusedModel(model))
    pixel = CAMERA.project(transform(inverse(B), before.point(first, mark)))[0]
    return told, pixel, model


@pytest.mark.parametrize("off", [(0.0, 0.0), (9.0, -7.0)])
def test_a_still_thing_is_placed_by_geometry_and_the_model_vouches(room, off):
    _, pixel, _ = ask(room, sees_nothing())
    told, _, _ = ask(room, points_at(pixel + off))
    assert told.status == Status.FOUND and told.check.agreement == Agreement.AGREES
    assert told.check.surface.change is Change.UNCHANGED
    assert np.linalg.norm(np.subtract(told.targets[0].pixel, pixel)) < 0.2
    assert told.targets[0].score > 0.95
    assert told.model == "fused(told)" and "UNCHANGED" in told.raw_answer


def test_a_still_thing_is_found_though_the_model_misses_it(room):
    told, pixel, _ = ask(room, sees_nothing())
    assert told.status == Status.FOUND
    np.testing.assert_allclose(told.targets[0].pixel, pixel, atol=0.1)
    assert told.check.agreement == Agreement.DISAGREES, "geometry does not vouch for itself"


def test_a_place_that_only_the_model_knows_is_as_uncertain_as_the_model(room):
    """The marked point may be any of the thing, and the model misses now and then: the covariance owns both."""
    told, _, _ = ask(room, points_at(ELSEWHERE), spheres=())
    sigma = np.sqrt(np.linalg.eigvalsh(told.targets[0].covariance)[0])
    assert 0.1 < sigma < 2.0
    still, _, _ = ask(room, points_at((150.0, 110.0)))
    assert np.sqrt(np.linalg.eigvalsh(still.targets[0].covariance)[-1]) < 0.03


def test_a_thing_that_is_gone_is_where_the_model_points(room):
    told, _, _ = ask(room, points_at(ELSEWHERE), spheres=())
    assert told.check.surface.change is Change.GONE
    assert told.status == Status.FOUND and told.targets[0].pixel == ELSEWHERE
    assert told.targets[0].position is not None, "geometry measures"
    assert ask(room, sees_nothing(), spheres=())[0].status == Status.NOT_VISIBLE


def test_a_hidden_thing_is_refused_against_a_model_that_is_not_sure(room):
    told, _, _ = ask(room, points_at(ELSEWHERE, p_visible=0.6), spheres=(BALL, SCREEN))
    assert told.check.surface.change is Change.HIDDEN
    assert told.status == Status.NOT_VISIBLE


def test_a_conflict_gives_both_places_and_no_mean(room):
    other = np.full((CAMERA.height, CAMERA.width, 3), (200, 40, 40), np.uint8)
    buffer = ViewBuffer(ViewBufferConfig(sharpness_window=1, min_interval=0.0, max_interval=0.5))
    grey = np.full((CAMERA.height, CAMERA.width, 3), 120, np.uint8)
    scene = type(room)(spheres=(BALL,))
    first = scene.view(A, CAMERA, view_id=buffer.next_id(), stamp_ns=0, color=grey)
    buffer.add(first)
    buffer.add(scene.view(B, CAMERA, view_id=buffer.next_id(), stamp_ns=SECOND, color=other))
    pixel = CAMERA.project(transform(inverse(B), scene.point(first, (150.0, 110.0))))[0]
    query = Query("the ball", regions=(MarkedPoint((150.0, 110.0), first.view_id),))
    told = answer(query, buffer, FusedModel(Told(points_at(ELSEWHERE))))
    assert told.check.surface.change is Change.CHANGED
    assert told.status == Status.AMBIGUOUS
    places = sorted(target.pixel for target in told.targets)
    np.testing.assert_allclose(places, sorted([ELSEWHERE, tuple(pixel)]), atol=0.1)
    assert sum(target.score for target in told.targets) <= 1.0


def test_a_mark_that_the_text_speaks_of_is_not_the_thing(room):
    told, _, _ = ask(room, points_at(ELSEWHERE), text="left of A", region=None)
    labelled = MarkedPosition((0.0, 0.0, 0.8), label="A")
    told, _, model = ask(room, points_at(ELSEWHERE), text="what is left of A", region=labelled)
    assert told.targets[0].pixel == ELSEWHERE and len(model.requests[0].marks) == 1


def test_words_alone_are_the_model_s(room):
    buffer = ViewBuffer()
    buffer.add(room.view(B, CAMERA))
    told = answer(Query("the ball"), buffer, FusedModel(Told(points_at(ELSEWHERE))))
    assert told.status == Status.FOUND and told.targets[0].pixel == ELSEWHERE


def test_a_place_outside_the_picture_is_asked_for_in_words(room):
    behind = MarkedPosition((-2.9, 0.0, 1.0))
    told, _, model = ask(room, points_at(ELSEWHERE, p_visible=0.99), region=behind)
    assert model.requests[0].marks == ()
    assert told.status == Status.FOUND and told.targets[0].pixel == ELSEWHERE
    assert ask(room, sees_nothing(), region=behind)[0].status == Status.NOT_VISIBLE


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ReferError(ErrorCode.OUT_OF_MEMORY, "the server is away"), ErrorCode.OUT_OF_MEMORY),
        (RuntimeError("the server is away"), ErrorCode.INFERENCE_FAILED),
    ],
)
def test_a_model_that_fails_leaves_geometry_where_it_is_sure(room, error, code):
    told, pixel, _ = ask(room, error)
    assert told.status == Status.FOUND and "the server is away" in told.raw_answer
    assert told.check.agreement == Agreement.UNDECIDED
    np.testing.assert_allclose(told.targets[0].pixel, pixel, atol=0.1)
    for unsure in (ask(room, error, spheres=()), ask(room, error, region=MarkedPoint((5.0, 5.0), label="A"))):
        assert unsure[0].error_code == code, "a thing that is gone is not known to be out of sight"


def test_nobody_waits_for_geometry_after_a_timeout(room):
    assert ask(room, ReferError(ErrorCode.TIMEOUT, "late"))[0].error_code == ErrorCode.TIMEOUT


def test_what_is_marked_in_the_searched_view_is_where_it_is_marked(room):
    told, _, _ = ask(room, sees_nothing(), region=MarkedPoint((159.0, 119.0)))
    assert told.status == Status.FOUND
    np.testing.assert_allclose(told.targets[0].pixel, (159.0, 119.0), atol=0.5)


def test_a_place_outside_the_picture_without_words_needs_no_model(room):
    told, _, model = ask(room, RuntimeError("not asked"), text="", region=MarkedPosition((-2.9, 0.0, 1.0)))
    assert told.status == Status.NOT_VISIBLE and not model.requests


def test_an_unparsable_word_is_no_word(room):
    told, pixel, _ = ask(room, Prediction("erm", Outcome.UNPARSABLE, reason="no point"))
    assert told.status == Status.FOUND
    np.testing.assert_allclose(told.targets[0].pixel, pixel, atol=0.1)
    gone, _, _ = ask(room, Prediction("erm", Outcome.UNPARSABLE, reason="no point"), spheres=())
    assert gone.error_code == ErrorCode.UNPARSABLE_ANSWER
