"""Words looked for in memory: which views are asked, how, and what a moved thing's new place was before."""

from __future__ import annotations

import numpy as np
import pytest
from roboref_core.errors import ErrorCode, ReferError
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import inverse, look_at, transform
from roboref_core.models.model_answer import Outcome
from roboref_core.models.pointing_model import Place, PointMark, Prediction
from roboref_core.referring.answer import Status
from roboref_core.referring.earlier import EarlierViews
from roboref_core.referring.query import MarkedPoint, Query
from roboref_core.referring.refer import ReferConfig, answer
from roboref_core.referring.registered import Registering
from roboref_core.views.locate import LocateConfig
from roboref_core.views.registration import Change, RegistrationMode
from roboref_core.views.view_buffer import SECOND, ViewBuffer, ViewBufferConfig

NOT_VISIBLE = Prediction("NOT_VISIBLE", Outcome.NOT_VISIBLE)
FOUND = Prediction("[...]", Outcome.VISIBLE, np.array([[79.5, 59.5]]))
LOOKS = [look_at((0.0, 0.0, 1.4), (np.cos(a), np.sin(a), 1.2)) for a in np.radians([0, 0, 5, 90, 95, 180, 270])]


class Batching:
    """A BatchPointingModel that finds it in the views of the given ids, and remembers how it was asked."""

    name = "batching"

    def __init__(self, *found, fails=False):
        self.found, self.fails, self.calls = found, fails, []

    def predict(self, request):
        return self.predict_batch([request])[0]

    def predict_batch(self, requests):
        self.calls.append([request.view.view_id for request in requests])
        if self.fails and len(requests) > 1:
            raise ReferError(ErrorCode.OUT_OF_MEMORY, "too many")
        return [FOUND if request.view.view_id in self.found else NOT_VISIBLE for request in requests]


@pytest.fixture
def around(room):
    """A buffer with views in all directions of a turn, the newest of which looks ahead again."""
    buffer = ViewBuffer(ViewBufferConfig(sharpness_window=1, min_interval=0.0, max_interval=0.5))
    for i, T in enumerate([*LOOKS, LOOKS[0]]):
        buffer.add(room.view(T, view_id=str(i), stamp_ns=i * SECOND))
    return buffer


def test_views_of_different_space_are_asked_first_and_together(around):
    model = Batching()
    answer(Query("the ball", search_memory=True), around, model)
    assert model.calls[:2] == [["7"], ["6", "5", "4"]], "3 shows what 4 does; 0 to 2 show what 7 does"
    rest = [view_id for call in model.calls[2:] for view_id in call]
    assert rest == ["3", "2", "1", "0"], "in the end all of them"


def test_the_newest_of_the_views_that_show_it_tells_the_last_known_place(around):
    reply = answer(Query("the ball", search_memory=True), around, Batching("5", "4"))
    assert reply.status == Status.NOT_VISIBLE
    assert [known.view_id for known in reply.last_known] == ["5"]
    assert reply.last_known[0].target.stamp_ns == 5 * SECOND


def test_the_search_is_bounded(around):
    for limit in (0, 1, 2, 5):
        model = Batching()
        answer(Query("the ball", search_memory=True), around, model, ReferConfig(memory_views=limit))
        assert sum(map(len, model.calls)) == 1 + limit


def test_a_batch_that_fails_is_asked_one_after_the_other(around):
    model = Batching("4", fails=True)
    reply = answer(Query("the ball", search_memory=True), around, model)
    assert [known.view_id for known in reply.last_known] == ["4"] and reply.error_msg == ""


def test_one_broken_view_does_not_hide_the_others(around, room):
    broken = room.view(LOOKS[3], view_id="broken", stamp_ns=6 * SECOND + 1, depth=np.zeros((3, 3), np.float32))
    around.keep(broken)
    reply = answer(Query("the ball", search_memory=True), around, Batching("broken", "1"))
    assert [known.view_id for known in reply.last_known] == ["1"]
    assert "broken" in reply.error_msg


@pytest.mark.parametrize(
    ("then", "now", "change"),
    [((), ((0.0, 0.0, 0.5), 0.3), Change.GONE), ((((0.0, 0.0, 0.5), 0.3),), ((0.0, 0.0, 0.5), 0.3), Change.UNCHANGED)],
    ids=["new", "old"],
)
def test_earlier_views_tell_new_surfaces_from_old_ones(room, then, now, change):
    camera = Camera(320, 240, 280.0, 280.0, 159.5, 119.5)
    A, B = (look_at((-2.2, y, 1.3), (0.0, 0.0, 0.5)) for y in (0.2, -0.4))
    grey = np.full((240, 320, 3), 120, np.uint8)
    buffer = ViewBuffer(ViewBufferConfig(sharpness_window=1, min_interval=0.0, max_interval=0.5))
    searched = type(room)(spheres=(now,)).view(B, camera, view_id="now", stamp_ns=3 * SECOND, color=grey)
    buffer.add(type(room)(spheres=then).view(A, camera, view_id="then", stamp_ns=SECOND, color=grey))
    buffer.add(searched)
    middle = (159.5, 119.5)
    registering = Registering.of(buffer, RegistrationMode.AUTO)
    spot = (-0.2, 0.7, 0.15)

    def earlier(stamp_ns, spheres=then, pixel=(20.0, 200.0)):
        """What was there before, asked about a mark made at ``stamp_ns`` in a room of ``spheres``."""
        view = type(room)(spheres=spheres).view(A, camera, view_id="mark", stamp_ns=stamp_ns, color=grey)
        mark = PointMark(view, pixel, Place(room.point(view, pixel), np.eye(3) * 1e-6, view.world_frame))
        return EarlierViews(searched, mark, buffer, registering, LocateConfig()).at(middle)

    assert earlier(2 * SECOND) is change
    assert earlier(0) is change, "the marked thing is still in its place there"
    pixel = tuple(camera.project(transform(inverse(A), np.array([spot])))[0])
    # Of a view that shows the marked thing gone, only that there was nothing tells something.
    assert earlier(0, [*then, (spot, 0.15)], pixel) is (change if change is Change.GONE else Change.HIDDEN)
    model = Batching("now")
    region = MarkedPoint((150.0, 110.0), "then")
    answer(Query("it", regions=(region,)), buffer, model)
    assert model.calls == [["now"]]
