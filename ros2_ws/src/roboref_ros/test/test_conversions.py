"""Messages <-> core types: nothing is lost on the way, and nothing invented."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("roboref_msgs", reason="ros2_ws is not built: make setup")

from builtin_interfaces.msg import Duration
from rclpy.serialization import deserialize_message, serialize_message
from roboref_core.errors import ErrorCode
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import from_quaternion
from roboref_core.referring.answer import Agreement, Answer, GeometricCheck, LastKnown, Status, Target
from roboref_core.referring.query import MarkedBox, MarkedPoint, MarkedPosition, Query
from roboref_core.views.locate import DepthSource
from roboref_core.views.registration import Change, ChangeEvidence, Registration, Verdict
from roboref_core.views.view import View
from roboref_core.views.visibility import Visibility
from roboref_msgs.msg import GeometricCheck as CheckMessage
from roboref_msgs.msg import ReferAnswer, ReferQuery
from roboref_ros.conversions import (
    answer_from_message,
    answer_to_message,
    camera_from_info,
    camera_to_info,
    pose_from_message,
    pose_to_message,
    query_from_message,
    query_to_message,
    stamp_ns,
    to_duration,
    to_time,
    view_to_message,
)
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

numbers = st.floats(-1e6, 1e6)
texts = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=20)
seconds = st.none() | st.integers(1, 10**12).map(lambda ns: ns * 1e-9)


regions = st.one_of(
    st.builds(MarkedPoint, st.tuples(numbers, numbers), texts, texts),
    st.builds(MarkedBox, st.tuples(*[numbers] * 4), texts, texts),
    st.builds(MarkedPosition, st.tuples(*[numbers] * 3), texts, texts),
)
queries = st.builds(
    Query,
    text=texts,
    view_id=texts,
    regions=st.lists(regions, max_size=3).map(tuple),
    target_frame=texts,
    max_targets=st.integers(0, 255),
    max_view_age=seconds,
    timeout=seconds,
    search_memory=st.booleans(),
)


@given(queries)
def test_a_query_survives_the_wire(query):
    wire = serialize_message(query_to_message(query))
    back = query_from_message(deserialize_message(wire, ReferQuery))
    for name in ("max_view_age", "timeout"):
        assert (getattr(query, name) is None) == (getattr(back, name) is None)
        assert getattr(back, name) == pytest.approx(getattr(query, name))
    assert {**vars(back), "max_view_age": 0, "timeout": 0} == {**vars(query), "max_view_age": 0, "timeout": 0}


def test_queries_that_make_no_sense():
    with pytest.raises(ValueError, match="-1"):
        query_from_message(ReferQuery(timeout=Duration(sec=-1)))
    message = query_to_message(Query("x", regions=(MarkedPoint((1, 2)),)))
    message.regions[0].type = 9
    with pytest.raises(ValueError, match="type 9"):
        query_from_message(message)


CAMERA = Camera(64, 48, 50.0, 51.0, 31.5, 23.5, "rational_polynomial", tuple(0.01 * i for i in range(8)))


def make_view(**fields) -> View:
    depth = np.zeros((48, 64), np.float32)
    depth[:12] = 1.5
    depth[40:] = np.nan
    T = from_quaternion((0.1, -0.2, 0.3, 0.9), (1, 2, 3))
    return View(
        **{
            "view_id": "v-1",
            "stamp_ns": 12_345_678_901,
            "color": np.zeros((48, 64, 3), np.uint8),
            "camera": CAMERA,
            "depth": depth,
            "T_world_camera": T,
            "frame_id": "optical",
            "world_frame": "map",
        }
        | fields
    )


def test_a_view():
    message = view_to_message(make_view(), pinned=True, coverage=True)
    assert message.view_id == "v-1" and message.pinned and message.has_camera_pose
    assert message.header.frame_id == "optical" and message.camera_pose.header.frame_id == "map"
    assert stamp_ns(message.header.stamp) == stamp_ns(message.camera_pose.header.stamp) == 12_345_678_901
    np.testing.assert_allclose(pose_from_message(message.camera_pose.pose), make_view().T_world_camera, atol=1e-12)
    assert message.depth_coverage == pytest.approx(12 / 48)
    assert camera_from_info(message.camera_info) == CAMERA


def test_a_view_without_what_it_may_lack():
    message = view_to_message(make_view(T_world_camera=None, depth=None), pinned=False, coverage=True)
    assert not message.has_camera_pose and message.depth_coverage == 0.0
    unread = view_to_message(make_view(), pinned=False, coverage=False)
    assert np.isnan(unread.depth_coverage), "not counted is not the same as none"


def test_an_answer_with_everything():
    covariance = np.array([[4.0, 1, 0], [1, 3, 0.5], [0, 0.5, 2]]) * 1e-4
    target = Target((10.5, 20.25), "map", 77, np.array([1.0, 2, 3]), covariance, DepthSource.FILLED, 1.5, 0.25, 0.75)
    answer = Answer(
        Status.FOUND,
        targets=(target, Target((1, 2), "map", 78)),
        last_known=(LastKnown("old", target, GeometricCheck(Agreement.DISAGREES, Visibility.VISIBLE)),),
        check=GeometricCheck(
            Agreement.AGREES,
            Visibility.OCCLUDED,
            (9.0, 8.0),
            1.25,
            0.5,
            Registration(Verdict.REGISTERED, np.eye(4), np.eye(6), 40, 2000, 0.9, 0.3, 2.5, (0.03, 0.02)),
            via_view_ids=("v-0",),
            surface=ChangeEvidence(Change.GONE, 0.1, 0.2, 0.7, 12.5, 200),
        ),
        view=make_view(),
        view_age=1.5,
        queue_time=0.25,
        inference_time=2.125,
        model="m@1",
        raw_answer="(0.1, 0.2)",
    )
    wire = serialize_message(answer_to_message(answer, pinned=True))
    message = deserialize_message(wire, ReferAnswer)
    first, second = message.targets
    assert first == message.last_known[0].target
    assert message.last_known[0].view_id == "old"
    assert message.last_known[0].check.agreement == CheckMessage.AGREEMENT_DISAGREES
    assert message.last_known[0].check.visibility == CheckMessage.VISIBILITY_VISIBLE
    assert (first.pixel.u, first.pixel.v) == (10.5, 20.25)
    assert (first.position.x, first.position.y, first.position.z) == (1, 2, 3)
    assert first.covariance_type == first.COVARIANCE_FULL
    np.testing.assert_array_equal(np.reshape(first.position_covariance, (3, 3)), covariance)
    assert (first.depth_source, first.depth, first.depth_spread, first.score) == (first.DEPTH_FILLED, 1.5, 0.25, 0.75)
    assert (first.header.frame_id, stamp_ns(first.header.stamp)) == ("map", 77)
    assert (second.depth_source, second.covariance_type) == (second.DEPTH_NONE, second.COVARIANCE_UNKNOWN)
    assert second.score < 0 and np.isnan(second.position_covariance).all()
    check = message.check
    assert (check.agreement, check.visibility) == (check.AGREEMENT_AGREES, check.VISIBILITY_OCCLUDED)
    assert check.has_expected_pixel and (check.expected_pixel.u, check.expected_pixel.v) == (9, 8)
    assert (check.distance_px, check.distance) == (1.25, 0.5)
    link, surface = check.registration, check.surface
    assert (link.verdict, link.without_poses, link.via_view_ids) == (link.VERDICT_REGISTERED, False, ["v-0"])
    assert (link.correction_distance, link.correction_angle, link.deviation) == (0.03, 0.02, 2.5)
    assert (link.inliers, link.pairs, link.agreement, link.stated_agreement) == (40, 2000, 0.9, 0.3)
    assert (surface.change, surface.samples) == (surface.CHANGE_GONE, 200)
    shares = (surface.agrees, surface.hidden, surface.looked_through, surface.color_difference)
    assert shares == (0.1, 0.2, 0.7, 12.5)
    assert message.view.view_id == "v-1" and message.view.pinned
    assert [stamp_ns(d) for d in (message.view_age, message.queue_time, message.inference_time)] == [
        1_500_000_000,
        250_000_000,
        2_125_000_000,
    ]
    assert (message.model, message.raw_answer) == ("m@1", "(0.1, 0.2)")


def test_a_check_without_registration_says_so_and_claims_no_numbers():
    message = answer_to_message(Answer(Status.NOT_VISIBLE, check=GeometricCheck(without_poses=True))).check.registration
    assert (message.verdict, message.without_poses) == (message.VERDICT_NONE, True)
    numbers = ("correction_distance", "correction_angle", "deviation", "agreement", "stated_agreement")
    assert all(np.isnan(getattr(message, name)) for name in numbers)


def test_an_error():
    message = answer_to_message(Answer.error(ErrorCode.BUSY, "later"))
    assert (message.status, message.error_code, message.error_msg) == (Status.ERROR, ErrorCode.BUSY, "later")
    assert message.view.view_id == "" and not message.targets
    assert message.check.visibility == message.check.VISIBILITY_NOT_CHECKED
    assert not message.check.has_expected_pixel and np.isnan(message.check.distance)


def test_a_view_whose_depth_cannot_be_read_still_answers():
    from roboref_core.views.view import LazyImage

    def broken():
        raise ValueError("not a picture")

    assert answer_to_message(Answer(Status.NOT_VISIBLE, view=make_view(depth=LazyImage(broken)))).view.view_id == "v-1"


@given(st.integers(0, 2**31 * 10**9 - 1))
def test_stamps_are_exact(ns):
    assert stamp_ns(to_time(ns)) == ns


@given(st.integers(-(10**9), 10**9))
def test_durations_are_exact_to_the_nanosecond(us):
    duration = to_duration(us * 1e-6)
    assert stamp_ns(duration) == us * 1000
    assert 0 <= duration.nanosec < 10**9


@pytest.mark.parametrize(
    "camera",
    [
        CAMERA,
        Camera(64, 48, 50, 51, 31, 23),
        Camera(64, 48, 50, 51, 31, 23, "plumb_bob", (0.1, 0.2, 0.3, 0.4, 0.5)),
        Camera(64, 48, 50, 51, 31, 23, "equidistant", (0.1, 0.2, 0.3, 0.4)),
    ],
)
def test_cameras_and_their_infos(camera):
    info = camera_to_info(camera, Header(frame_id="optical"))
    assert camera_from_info(info) == camera
    np.testing.assert_array_equal(np.reshape(info.p, (3, 4))[:, :3], np.reshape(info.k, (3, 3)))


def test_cropped_and_binned_images_are_refused():
    """Their intrinsics are those of the full image: rays would be wrong."""
    info = camera_to_info(CAMERA, Header())
    info.binning_x = 2
    with pytest.raises(ValueError, match="binning 2x0"):
        camera_from_info(info)
    info = camera_to_info(CAMERA, Header())
    info.roi.width, info.roi.height = 32, 24
    with pytest.raises(ValueError, match="32x24"):
        camera_from_info(info)
    info.roi.width, info.roi.height = CAMERA.width, CAMERA.height
    assert camera_from_info(info) == CAMERA, "the full image, said in the other way that CameraInfo allows"
    with pytest.raises(ValueError, match="uncalibrated"):
        camera_from_info(CameraInfo(width=64, height=48))


@pytest.mark.parametrize("broken", [dict(w=0.0), dict(w=float("nan"))])
def test_poses_that_are_none(broken):
    message = pose_to_message(np.eye(4))
    message.orientation.w = broken["w"]
    with pytest.raises(ValueError, match="quaternion"):
        pose_from_message(message)


def test_what_is_unknown_is_not_a_number():
    target = Target(pixel=(1.0, 2.0), frame_id="map", stamp_ns=5)
    message = answer_to_message(Answer(Status.FOUND_WITHOUT_POSITION, targets=(target,))).targets[0]
    p = message.position
    assert np.isnan([p.x, p.y, p.z, *message.position_covariance, message.depth, message.depth_spread]).all()
    assert message.covariance_type == message.COVARIANCE_UNKNOWN


@given(st.text(st.characters()) | st.text(st.sampled_from("a\ud800\udfff\0\x1b\x85\n"), max_size=50))
def test_any_text_of_a_model_can_be_sent(text):
    sent = answer_to_message(Answer(Status.NOT_VISIBLE, raw_answer=text, model=text, error_msg=text))
    received = deserialize_message(serialize_message(sent), ReferAnswer)
    assert received.raw_answer == received.model == received.error_msg
    assert not any(ord(c) < 32 and c not in "\n\t" for c in received.raw_answer)


def test_long_texts_are_bounded():
    assert len(answer_to_message(Answer(Status.NOT_VISIBLE, raw_answer="x" * 8_000_000)).raw_answer) == 20_000


def test_a_client_decides_by_what_the_node_answered():
    target = Target(
        (3.0, 4.0), "map", 7, np.array((1.0, 2.0, 3.0)), np.eye(3) * 1e-4, DepthSource.SENSOR, 2.0, 0.01, 0.9
    )
    bare = Target((3.0, 4.0), "map", 7)
    answer = Answer(
        Status.NOT_VISIBLE, ErrorCode.NONE, "why", (target, bare), (LastKnown("v", target),), view_age=0.5, model="m"
    )
    heard = answer_from_message(answer_to_message(answer))
    assert (heard.status, heard.error_msg, heard.view_age, heard.model) == (answer.status, "why", 0.5, "m")
    for was, got in zip((target, bare, target), (*heard.targets, heard.last_known[0].target), strict=True):
        assert (was.pixel, was.frame_id, was.stamp_ns, was.depth_source) == (
            got.pixel, got.frame_id, got.stamp_ns, got.depth_source
        )  # fmt: skip
    assert np.allclose(heard.targets[0].position, target.position) and heard.targets[1].position is None
    assert np.allclose(heard.targets[0].covariance, target.covariance) and heard.targets[1].covariance is None
