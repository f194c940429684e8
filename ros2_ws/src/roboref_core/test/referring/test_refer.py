from __future__ import annotations

import time

import numpy as np
import pytest
from looks import AWAY, CENTRE, NOT_VISIBLE, OPPOSITE, A, B, found, point
from roboref_core.errors import ErrorCode, ReferError
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import pose, transform
from roboref_core.models.model_answer import Outcome
from roboref_core.models.pointing_model import PositionMark, Prediction
from roboref_core.models.reprojection import ReprojectionModel
from roboref_core.referring.answer import Agreement, Status
from roboref_core.referring.query import MarkedBox, MarkedPoint, MarkedPosition, Query
from roboref_core.referring.refer import Now, ReferConfig, answer
from roboref_core.views.locate import DepthSource
from roboref_core.views.view import LazyImage
from roboref_core.views.view_buffer import SECOND, ViewBuffer, ViewBufferConfig
from roboref_core.views.visibility import DepthTolerance, Visibility


def test_a_mark_in_one_view_is_found_in_another(room, buffer, add):
    a = add(A, 0)
    b = add(B, 1)
    mark = (74.0, 52.0)  # on the side of the sphere that both see
    truth = room.point(a, mark)
    reply = answer(Query("", regions=(point(a, mark),)), buffer, ReprojectionModel())
    assert reply.status == Status.FOUND
    assert (reply.view, reply.error_code, reply.model) == (b, ErrorCode.NONE, "reprojection")
    target = reply.targets[0]
    assert np.linalg.norm(target.position - truth) < 0.01
    assert (target.frame_id, target.stamp_ns, target.depth_source) == ("world", SECOND, DepthSource.SENSOR)
    assert np.linalg.eigvalsh(target.covariance).min() > 0
    assert reply.check.agreement == Agreement.AGREES
    assert reply.check.visibility == Visibility.VISIBLE
    np.testing.assert_allclose(reply.check.expected_pixel, target.pixel, atol=1e-6)


def test_box_and_position_marks_find_the_same_object(buffer, add):
    a = add(A, 0)
    add(B, 1)
    box = MarkedBox((55, 35, 105, 85), a.view_id)
    by_box = answer(Query("that", regions=(box,)), buffer, ReprojectionModel())
    top = (0.0, 0.0, 1.0)
    by_place = answer(Query("", regions=(MarkedPosition(top),)), buffer, ReprojectionModel())
    assert by_box.status == by_place.status == Status.FOUND
    assert abs(np.linalg.norm(by_box.targets[0].position - CENTRE) - 0.5) < 0.02
    assert np.linalg.norm(by_place.targets[0].position - top) < 0.05


def test_a_position_is_shown_to_the_model_where_it_projects(buffer, add, answering):
    view = add(A, 0)
    model = answering(found((79.5, 59.5)))
    answer(Query("that", regions=(MarkedPosition(CENTRE),)), buffer, model)
    (mark,) = model.requests[0].marks
    assert mark.view is view
    np.testing.assert_allclose(mark.pixel, (79.5, 59.5))
    behind = MarkedPosition((-2.9, 0.0, 1.0))
    answer(Query("that", regions=(behind,)), buffer, model)
    (mark,) = model.requests[1].marks
    assert isinstance(mark, PositionMark)


@pytest.mark.parametrize(
    ("T", "reason"), [(AWAY, Visibility.OUT_OF_FRUSTUM), (OPPOSITE, Visibility.OCCLUDED)], ids=["away", "behind"]
)
def test_not_visible_is_an_answer_with_its_reason(buffer, add, T, reason):
    a = add(A, 0)
    add(T, 1)
    reply = answer(Query("it", regions=(point(a, (79.0, 58.0)),)), buffer, ReprojectionModel())
    assert (reply.status, reply.error_code, reply.targets) == (Status.NOT_VISIBLE, ErrorCode.NONE, ())
    assert reply.last_known == ()
    assert reply.check.visibility == reason
    assert reply.check.agreement == Agreement.AGREES
    assert reply.raw_answer == "NOT_VISIBLE"


def test_a_moved_object_is_a_conflict_not_a_point(room, buffer, add):
    a = add(A, 0)
    from_test_room = type(room)(spheres=())  # the same room, its spheres carried away
    view = from_test_room.view(A, view_id=buffer.next_id(), stamp_ns=SECOND)
    buffer.add(view)
    reply = answer(Query("it", regions=(point(a, (79.0, 58.0)),)), buffer, ReprojectionModel())
    assert reply.status == Status.NOT_VISIBLE
    assert reply.check.visibility == Visibility.CONFLICT
    assert reply.check.agreement == Agreement.UNDECIDED


def test_depth_holes_give_a_pixel_but_never_a_wrong_number(buffer, add):
    a = add(A, 0)
    for nothing in (0.0, np.nan):
        add(A, 1, depth=np.full((120, 160), nothing, np.float32))
        reply = answer(Query("it", regions=(point(a, (79.0, 58.0)),)), buffer, ReprojectionModel())
        assert reply.status == Status.FOUND_WITHOUT_POSITION
        target = reply.targets[0]
        assert (target.position, target.covariance, target.depth_source) == (None, None, DepthSource.NONE)
        np.testing.assert_allclose(target.pixel, (79.0, 58.0), atol=0.1)
        assert reply.check.agreement == Agreement.UNDECIDED


def test_target_frames(buffer, add):
    a = add(A, 0)
    region = point(a, (79.0, 58.0))
    in_world = answer(Query("", regions=(region,)), buffer, ReprojectionModel()).targets[0]
    in_camera = answer(Query("", regions=(region,), target_frame=a.frame_id), buffer, ReprojectionModel()).targets[0]
    np.testing.assert_allclose(transform(A, in_camera.position), in_world.position, atol=1e-9)
    assert in_camera.position[2] == pytest.approx(in_camera.depth)

    class Frames:
        def lookup(self, target_frame, source_frame, stamp_ns):
            if target_frame != "map":
                raise ReferError(ErrorCode.TF_ERROR, f"no frame {target_frame}")
            return pose(np.eye(3), (10.0, 0.0, 0.0))

    in_map = answer(Query("", regions=(region,), target_frame="map"), buffer, ReprojectionModel(), frames=Frames())
    np.testing.assert_allclose(in_map.targets[0].position, in_world.position + (10, 0, 0))
    assert in_map.targets[0].frame_id == "map"
    for frames in (Frames(), None):
        query = Query("", regions=(region,), target_frame="moon")
        lost = answer(query, buffer, ReprojectionModel(), frames=frames)
        assert (lost.status, lost.error_code) == (Status.ERROR, ErrorCode.TF_ERROR)
        assert "moon" in lost.error_msg


def test_without_a_pose_words_still_work_in_the_optical_frame(buffer, add, answering):
    view = add(None, 0, depth=np.full((120, 160), 2.0, np.float32))
    model = answering(found((79.5, 59.5)))
    reply = answer(Query("it", target_frame=view.frame_id), buffer, model)
    np.testing.assert_allclose(reply.targets[0].position, (0, 0, 2.0), atol=1e-6)
    lost = answer(Query("it"), buffer, model)
    assert lost.error_code == ErrorCode.TF_ERROR
    assert "pose" in lost.error_msg


def refused(query, buffer, model=None, **more):
    reply = answer(query, buffer, model or ReprojectionModel(), **more)
    assert reply.status == Status.ERROR
    assert reply.targets == ()
    assert reply.error_msg
    return reply.error_code, reply.error_msg


def test_bad_questions_each_have_their_code(buffer, add):
    assert refused(Query("it"), buffer)[0] == ErrorCode.NO_VIEW
    a = add(A, 0)
    assert refused(Query("   "), buffer)[0] == ErrorCode.INVALID_QUERY
    code, text = refused(Query("the red cup"), buffer)
    assert code == ErrorCode.INVALID_QUERY
    assert "words" in text
    assert refused(Query("it", view_id="gone"), buffer)[0] == ErrorCode.VIEW_NOT_FOUND
    missing = MarkedPoint((1, 1), "gone")
    assert refused(Query("it", regions=(missing,)), buffer)[0] == ErrorCode.VIEW_NOT_FOUND
    for pixel in [(-1.0, 5.0), (160.0, 5.0), (5.0, 120.0), (float("nan"), 5.0)]:
        code, text = refused(Query("it", regions=(point(a, pixel),)), buffer)
        assert code == ErrorCode.INVALID_QUERY
        assert "160x120" in text
    inside_out = MarkedBox((50, 50, 40, 60), a.view_id)
    assert refused(Query("it", regions=(inside_out,)), buffer)[0] == ErrorCode.INVALID_QUERY
    nowhere = MarkedPosition((np.nan, 0, 0))
    assert refused(Query("it", regions=(nowhere,)), buffer)[0] == ErrorCode.INVALID_QUERY
    two = (point(a, (79.0, 58.0)), point(a, (70.0, 58.0)))
    assert refused(Query("it", regions=two), buffer)[0] == ErrorCode.INVALID_QUERY
    now = 60 * SECOND
    assert refused(Query("it", regions=two[:1]), buffer, now=Now(now))[0] == ErrorCode.VIEW_STALE
    asked = answer(Query("it", regions=two[:1], max_view_age=100.0), buffer, ReprojectionModel(), now=Now(now))
    assert asked.status == Status.FOUND
    assert asked.view_age == pytest.approx(60.0)


def test_a_mark_on_a_hole_is_refused_with_advice(buffer, add):
    a = add(A, 0, depth=np.zeros((120, 160), np.float32))
    code, text = refused(Query("it", regions=(point(a, (79.0, 58.0)),)), buffer)
    assert code == ErrorCode.INVALID_QUERY
    assert "no depth at the mark" in text


def test_a_mark_in_a_view_without_pose(buffer, add):
    a = add(None, 0)
    add(A, 1)
    assert refused(Query("it", regions=(point(a, (79.0, 58.0)),)), buffer)[0] == ErrorCode.TF_ERROR


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (MemoryError("out"), ErrorCode.OUT_OF_MEMORY),
        (RuntimeError("cuda"), ErrorCode.INFERENCE_FAILED),
        (ValueError("nan"), ErrorCode.INFERENCE_FAILED),
        (ReferError(ErrorCode.TIMEOUT, "slow server"), ErrorCode.TIMEOUT),
        (Prediction("I cannot say", Outcome.UNPARSABLE), ErrorCode.UNPARSABLE_ANSWER),
    ],
)
def test_model_failures_are_mapped(buffer, add, answering, failure, code):
    add(A, 0)
    assert refused(Query("it"), buffer, answering(failure))[0] == code


def test_broken_images_are_named(buffer, add, answering):
    def fail():
        raise ValueError("depth message: unknown encoding 'mono16'")

    add(A, 0, depth=LazyImage(fail, 5))
    code, text = refused(Query("it"), buffer, answering(found((80, 60))))
    assert code == ErrorCode.IMAGE_INVALID
    assert "mono16" in text
    other_size = np.ones((60, 80), np.float32)
    add(A, 1, depth=other_size, depth_camera=Camera(160, 120, 140.0, 140.0, 79.5, 59.5))
    assert refused(Query("it"), buffer, answering(found((80, 60))))[0] == ErrorCode.IMAGE_INVALID


def test_several_targets_and_ambiguity(buffer, add, answering):
    add(A, 0)
    here, there = (79.0, 58.0), (30.0, 100.0)
    both = answer(Query("balls", max_targets=5), buffer, answering(found(here, there)))
    assert (both.status, len(both.targets)) == (Status.FOUND, 2)
    one = answer(Query("ball"), buffer, answering(found(here, there)))
    assert (one.status, len(one.targets)) == (Status.FOUND, 1)
    torn = answer(Query("ball"), buffer, answering(found(here, there, scores=np.array([0.5, 0.45]))))
    assert (torn.status, len(torn.targets)) == (Status.AMBIGUOUS, 2)
    sure = answer(Query("ball"), buffer, answering(found(here, there, scores=np.array([0.8, 0.1]))))
    assert (sure.status, len(sure.targets)) == (Status.FOUND, 1)
    same = answer(Query("ball"), buffer, answering(found(here, (80.0, 58.0), scores=np.array([0.5, 0.45]))))
    assert same.status == Status.FOUND


def test_geometry_contradicts_a_model_that_points_elsewhere(buffer, add, answering):
    a = add(A, 0)
    query = Query("it", regions=(point(a, (79.0, 58.0)),))
    wrong = answer(query, buffer, answering(found((10.0, 20.0))))
    assert wrong.check.agreement == Agreement.DISAGREES
    assert wrong.check.distance > 0.5
    assert wrong.check.distance_px == pytest.approx(np.hypot(69, 38), abs=0.5)
    blind = answer(query, buffer, answering(NOT_VISIBLE))
    assert blind.check.agreement == Agreement.DISAGREES
    unmarked = answer(Query("it"), buffer, answering(found((10.0, 20.0))))
    assert unmarked.check.agreement == Agreement.NOT_CHECKED


def test_the_answered_view_stays_for_the_next_question(room, answering):
    buffer = ViewBuffer(ViewBufferConfig(sharpness_window=1, min_interval=100.0, max_interval=1000.0))
    first, second, third = (room.view(T, view_id=str(i), stamp_ns=i * SECOND) for i, T in enumerate((A, A, B)))
    buffer.add(first)
    buffer.add(second)
    answer(Query("it"), buffer, answering(found((79.0, 58.0))))
    buffer.add(third)
    assert buffer.get(second.view_id) is second


def test_a_default_answer_is_not_found():
    from roboref_core.referring.answer import Answer

    assert Status(0) == Status.UNKNOWN
    assert Answer(Status(0)).targets == ()


def test_how_depth_is_compared_reaches_the_model(buffer, add):
    a = add(A, 0)
    add(OPPOSITE, 1)
    query = Query("it", regions=(point(a, (79.0, 58.0)),))
    assert answer(query, buffer, ReprojectionModel()).status == Status.NOT_VISIBLE
    lenient = ReferConfig(tolerance=DepthTolerance(a=2.0))
    assert answer(query, buffer, ReprojectionModel(), lenient).status == Status.FOUND


def test_a_camera_that_died_gets_old_even_if_its_clock_is_ahead(room, buffer, answering):
    query = Query("it", max_view_age=5.0)
    view = room.view(A, view_id="a", stamp_ns=100 * SECOND)
    view.arrival = 1000.0
    buffer.add(view)
    model = answering(found((79.0, 58.0)))
    fresh = answer(query, buffer, model, now=Now(100 * SECOND, 1001.0))
    assert (fresh.status, fresh.view_age) == (Status.FOUND, 1.0)
    silent = answer(query, buffer, model, now=Now(100 * SECOND, 1008.0))
    assert silent.error_code == ErrorCode.VIEW_STALE
    ahead = answer(query, buffer, model, now=Now(98 * SECOND, 1001.0))
    assert ahead.error_code == ErrorCode.CLOCK_MISMATCH and "2.00 s in the future" in ahead.error_msg
    assert answer(Query("it", view_id="a"), buffer, model, now=Now(98 * SECOND, 2000.0)).status == Status.FOUND


def test_limits_of_a_query(buffer, add):
    a = add(A, 0)
    assert refused(Query("it", regions=(point(a, (1.0, 1.0)),) * 65), buffer)[0] == ErrorCode.INVALID_QUERY
    assert refused(Query("x" * 10_001), buffer)[0] == ErrorCode.INVALID_QUERY


def test_the_deadline_reaches_the_model(buffer, add, answering):
    add(A, 0)
    model = answering(found((79.0, 58.0)))
    deadline = time.monotonic() + 7
    answer(Query("it"), buffer, model, deadline=deadline)
    assert model.requests[0].deadline == deadline


def test_the_unforeseen_leaves_a_traceback(buffer, add, answering, caplog):
    add(A, 0)

    class Broken:
        def lookup(self, *_):
            raise AttributeError("no such thing")

    code, text = refused(Query("it", target_frame="map"), buffer, answering(found((79.0, 58.0))), frames=Broken())
    assert (code, text) == (ErrorCode.UNKNOWN, "AttributeError: no such thing")
    assert caplog.records[-1].exc_info
