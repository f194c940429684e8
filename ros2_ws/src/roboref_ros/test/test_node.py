"""The node as its own process on real DDS, asked about views of known geometry."""

from __future__ import annotations

import itertools
import signal
import time

import numpy as np
import pytest

pytest.importorskip("roboref_msgs", reason="ros2_ws is not built: make setup")

from builtin_interfaces.msg import Duration
from diagnostic_msgs.msg import DiagnosticArray
from fake_rgbd import (
    AHEAD,
    AWAY,
    BEHIND_BOX,
    BESIDE,
    CAMERA,
    OPTICAL,
    WALL_POINT,
    WORLD,
    pixel_of,
)
from rclpy.qos import DurabilityPolicy, QoSProfile
from roboref_core.errors import ErrorCode
from roboref_core.geometry.camera import Camera
from roboref_core.referring.answer import Status
from roboref_core.referring.query import MarkedPoint, Query
from roboref_msgs.msg import PoseResidual, ReferAnswer
from roboref_msgs.srv import CaptureView, GetView, ListViews, ReleaseViews
from roboref_ros.conversions import stamp_ns
from roboref_ros.image_conversion import color_from_message, depth_from_message
from sensor_msgs.msg import Image
from visualization_msgs.msg import MarkerArray

MILLIMETRE = 0.001
HOLE = 20


@pytest.fixture(scope="module")
def node_and_camera(start):
    return start(["-p", "pose.source:=pose", "-p", "pose.timeout:=0.3", "-p", "sync.warn_after:=1.0"])


@pytest.fixture(scope="module")
def camera(node_and_camera):
    return node_and_camera[1]


def mark(view, pixel=None, **fields) -> MarkedPoint:
    return MarkedPoint(pixel or pixel_of(WALL_POINT, AHEAD), view.view_id, **fields)


def ask(camera, region=None, text="that", **fields):
    return camera.client.refer(Query(text, regions=(region,) if region else (), **fields))


def position(answer) -> np.ndarray:
    assert answer.status == Status.FOUND, (answer.status, answer.error_code, answer.error_msg)
    p = answer.targets[0].position
    return np.array([p.x, p.y, p.z])


def code_of(answer) -> ErrorCode:
    assert answer.status == Status.ERROR
    assert answer.error_msg and not answer.targets
    return ErrorCode(answer.error_code)


def rejection(camera, stale_code: ErrorCode, region=None):
    """The answer when the newest view is too old because all later images were refused."""
    return camera.eventually(
        lambda: ask(camera, region, max_view_age=0.001),
        lambda answer: answer.status == Status.ERROR and answer.error_code == stale_code,
    )


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_a_mark_in_one_view_is_found_in_another_to_a_millimetre(camera, encoding):
    marked = camera.see_to_mark(AHEAD, depth_encoding=encoding)
    now = camera.see(BESIDE, depth_encoding=encoding)
    answer = ask(camera, mark(marked))
    np.testing.assert_allclose(position(answer), WALL_POINT, atol=MILLIMETRE)
    target = answer.targets[0]
    assert target.header.frame_id == WORLD
    assert stamp_ns(target.header.stamp) == stamp_ns(now.header.stamp), "the capture's time, not the answer's"
    np.testing.assert_allclose((target.pixel.u, target.pixel.v), pixel_of(WALL_POINT, BESIDE), atol=0.5)
    assert np.linalg.eigvalsh(np.reshape(target.position_covariance, (3, 3))).min() >= 0
    assert answer.view.view_id == now.view_id
    assert answer.view.depth_coverage == 1.0
    assert answer.model == "reprojection"
    assert answer.check.agreement == answer.check.AGREEMENT_AGREES


def test_a_lens_is_not_ignored(camera):
    lens = Camera(320, 240, 260.0, 262.0, 158.5, 121.0, "plumb_bob", (-0.25, 0.08, 0.002, -0.001, 0.01))
    corner = np.array([1.2, 3.0, 2.0])
    ignored = np.subtract(pixel_of(corner, AHEAD, lens), pixel_of(corner, AHEAD))
    assert np.linalg.norm(ignored) > 5, "the test must be able to fail"
    marked = camera.see_to_mark(AHEAD, camera=lens)
    camera.see(BESIDE, camera=lens)
    answer = ask(camera, mark(marked, pixel_of(corner, AHEAD, lens)))
    np.testing.assert_allclose(position(answer), corner, atol=2 * MILLIMETRE)


def test_depth_of_another_size_has_its_own_intrinsics(camera):
    small = Camera(160, 120, 128.0, 130.0, 80.0, 60.0)

    def messages_of(T):
        stamp = camera.stamp()
        messages = camera.messages(T, stamp)
        depth_of_small = camera.messages(T, stamp, camera=small)
        return messages | {name: depth_of_small[name] for name in ("depth", "depth_info")}

    marked = camera.look_at(camera.wait_for_view(messages_of(AHEAD)))
    camera.wait_for_view(messages_of(BESIDE))
    np.testing.assert_allclose(position(ask(camera, mark(marked))), WALL_POINT, atol=2 * MILLIMETRE)


@pytest.mark.parametrize("T", [AWAY, BEHIND_BOX], ids=["out of the picture", "behind the box"])
def test_not_visible_is_an_answer(camera, T):
    marked = camera.see_to_mark(AHEAD)
    camera.see(T)
    answer = ask(camera, mark(marked))
    assert (answer.status, answer.error_code) == (Status.NOT_VISIBLE, ErrorCode.NONE)
    assert not answer.targets and not answer.last_known


def test_memory_tells_where_it_was(camera):
    marked = camera.see_to_mark(AHEAD)
    camera.see(AWAY)
    answer = ask(camera, mark(marked), search_memory=True)
    assert answer.status == Status.NOT_VISIBLE and not answer.targets
    known = answer.last_known[0].target
    np.testing.assert_allclose((known.position.x, known.position.y, known.position.z), WALL_POINT, atol=MILLIMETRE)


def hole_at(pixel) -> tuple[slice, slice]:
    u, v = (round(c) for c in pixel)
    return slice(v - HOLE, v + HOLE), slice(u - HOLE, u + HOLE)


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
@pytest.mark.parametrize(
    "hole", [hole_at(pixel_of(WALL_POINT, BESIDE)), (slice(None), slice(None))], ids=["hole", "all"]
)
def test_without_depth_there_is_no_position(camera, encoding, hole):
    """Zeros in 16UC1, NaN in 32FC1."""
    marked = camera.see_to_mark(AHEAD)
    camera.see(BESIDE, depth_encoding=encoding, hole=hole)
    answer = ask(camera, mark(marked))
    assert answer.status == Status.FOUND_WITHOUT_POSITION
    assert answer.targets[0].depth_source == answer.targets[0].DEPTH_NONE
    np.testing.assert_allclose(
        (answer.targets[0].pixel.u, answer.targets[0].pixel.v), pixel_of(WALL_POINT, BESIDE), atol=0.5
    )


def test_positions_in_the_cameras_own_frame(camera):
    marked = camera.see_to_mark(AHEAD)
    camera.see(BESIDE)
    answer = ask(camera, mark(marked), target_frame=OPTICAL)
    expected = (np.linalg.inv(BESIDE) @ [*WALL_POINT, 1])[:3]
    np.testing.assert_allclose(position(answer), expected, atol=MILLIMETRE)
    assert code_of(ask(camera, mark(marked), target_frame="base_link")) == ErrorCode.TF_ERROR


def test_questions_that_cannot_be_answered(camera):
    view = camera.see_to_mark(AHEAD)
    camera.see(BESIDE)
    assert code_of(ask(camera, text="")) == ErrorCode.INVALID_QUERY
    assert code_of(ask(camera, text="the mug")) == ErrorCode.INVALID_QUERY, "geometry knows no words"
    assert code_of(ask(camera, view_id="nowhere")) == ErrorCode.VIEW_NOT_FOUND
    assert code_of(ask(camera, MarkedPoint((1, 1), "x"))) == ErrorCode.VIEW_NOT_FOUND
    for pixel in ((-3.0, 5.0), (5.0, CAMERA.height), (float("nan"), 5.0)):
        assert code_of(ask(camera, mark(view, pixel))) == ErrorCode.INVALID_QUERY
    assert code_of(ask(camera, mark(view), timeout=-1.0)) == ErrorCode.INVALID_QUERY
    assert position(ask(camera, mark(view))) is not None, "the node goes on"


def test_pose_missing(camera):
    marked = camera.see_to_mark(AHEAD)
    messages = camera.messages(BESIDE, camera.stamp())
    del messages["pose"]
    view = camera.wait_for_view(messages)
    assert not view.has_camera_pose
    answer = ask(camera, mark(marked))
    assert code_of(answer) == ErrorCode.TF_ERROR
    assert "/pose" in answer.error_msg


def test_stamps_going_backwards_forget_what_was(camera):
    camera.see(AHEAD)
    past = camera.stamp() - 100_000_000_000
    for i in range(3):
        camera.publish(camera.messages(AHEAD, past + i * 33_000_000))
    view = camera.wait_for_view(camera.messages(AHEAD, past + 100_000_000))
    known = list_views(camera)
    assert view.view_id in [v.view_id for v in known]
    assert {stamp_ns(v.header.stamp) for v in known} <= {past + i * 33_000_000 for i in range(3)} | {past + 100_000_000}
    assert code_of(ask(camera, mark(view))) == ErrorCode.VIEW_STALE
    # And forwards again, so that the other tests' stamps are of the present.
    for _ in range(3):
        camera.publish(camera.messages(AHEAD, camera.stamp()))
        time.sleep(0.01)
    camera.see(AHEAD)


def with_bad(messages: dict, name: str, **fields) -> dict:
    for field, value in fields.items():
        setattr(messages[name], field, value)
    return messages


BAD = {
    "camera info of another size": ("color_info", {"width": 640, "height": 480}, ErrorCode.CAMERA_INFO_INVALID),
    "unknown lens": ("color_info", {"distortion_model": "fov", "d": [0.1]}, ErrorCode.CAMERA_INFO_INVALID),
    "not calibrated": ("color_info", {"k": [0.0] * 9}, ErrorCode.CAMERA_INFO_INVALID),
    "unknown colour encoding": ("color", {"encoding": "8UC3"}, ErrorCode.IMAGE_INVALID),
    "unknown depth encoding": ("depth", {"encoding": "8UC1"}, ErrorCode.IMAGE_INVALID),
    "rows longer than the data": ("depth", {"step": 1000}, ErrorCode.IMAGE_INVALID),
}


@pytest.mark.parametrize("name, fields, code", BAD.values(), ids=BAD)
def test_images_that_cannot_be_used_have_their_reason(camera, name, fields, code):
    good = camera.see_to_mark(AHEAD)
    camera.publish(with_bad(camera.messages(AHEAD, camera.stamp()), name, **fields))
    answer = rejection(camera, code, mark(good))
    topic = camera.publishers[name].topic_name
    assert topic in answer.error_msg, answer.error_msg
    camera.see(AHEAD)
    assert position(ask(camera, mark(good))) is not None, "a good view later, all is well"


def test_colour_without_depth(camera):
    good = camera.see_to_mark(AHEAD)

    def without_depth():
        messages = camera.messages(AHEAD, camera.stamp())
        camera.publish({"color": messages["color"], "color_info": messages["color_info"]})
        return ask(camera, mark(good), max_view_age=0.001)

    camera.eventually(
        without_depth,
        lambda answer: (
            answer.error_code == ErrorCode.VIEW_STALE
            and ": the last image on /depth/image_raw came" in answer.error_msg
        ),
    )


def list_views(camera):
    return camera.call(ListViews, "list_views").views


def test_views_are_captured_served_listed_and_released(camera):
    assert not camera.call(GetView, "get_view", view_id="nowhere").success
    late = camera.call(CaptureView, "capture_view", timeout=Duration(nanosec=50_000_000))
    assert not late.success and "0.05 s" in late.message

    future = camera.service(CaptureView, "capture_view").call_async(CaptureView.Request())
    # The request may overtake the image or not: whichever view comes next is the one.
    view = camera.eventually(lambda: (camera.see(AHEAD), future)[1], lambda f: f.done()).result().view
    assert view.pinned and view.depth_coverage == 1.0

    served = camera.call(GetView, "get_view", view_id=view.view_id, include_depth=True)
    assert served.success and served.view.view_id == view.view_id
    messages = camera.messages(AHEAD, 0)
    np.testing.assert_array_equal(depth_from_message(served.depth), depth_from_message(messages["depth"]))
    difference = color_from_message(served.color).astype(int) - color_from_message(messages["color"])
    assert np.abs(difference).mean() < 3, "JPEG of the same picture"

    assert view.view_id in [v.view_id for v in list_views(camera) if v.pinned]
    stamps = [stamp_ns(v.header.stamp) for v in list_views(camera)]
    assert stamps == sorted(stamps, reverse=True)
    assert camera.call(ReleaseViews, "release_views", view_ids=[view.view_id]).count == 1
    assert view.view_id not in [v.view_id for v in list_views(camera) if v.pinned]


def test_answers_are_published_and_drawn(camera):
    marked = camera.see_to_mark(AHEAD)
    camera.see(BESIDE)
    received = {"answer": [], "debug_image": [], "markers": []}
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    subscriptions = [
        camera.node.create_subscription(kind, f"/roboref/{name}", received[name].append, qos)
        for kind, name, qos in (
            (ReferAnswer, "answer", 10),
            (Image, "debug_image", 1),
            (MarkerArray, "markers", latched),
        )
    ]
    answers = []
    camera.eventually(lambda: answers.append(ask(camera, mark(marked))), lambda _: all(received.values()))
    assert received["answer"][-1].targets == answers[-1].targets
    u, v = (round(c) for c in pixel_of(WALL_POINT, BESIDE))
    drawn = color_from_message(received["debug_image"][-1]).astype(int)
    changed = np.abs(drawn - color_from_message(camera.messages(BESIDE, 0)["color"])).sum(axis=2) > 60
    assert changed[v - 12 : v + 13, u - 12 : u + 13].any(), "the answer's point is drawn"
    assert not changed[40 : v - 20].any(), "and nothing over the rest of the picture"
    ellipsoids = [m for m in received["markers"][-1].markers if m.ns == "targets"]
    place = ellipsoids[0].pose.position
    np.testing.assert_allclose((place.x, place.y, place.z), WALL_POINT, atol=MILLIMETRE)
    for subscription in subscriptions:
        camera.node.destroy_subscription(subscription)


def test_a_second_publisher_is_named_in_the_log(node_and_camera):
    node, camera = node_and_camera
    other = camera.node.create_publisher(Image, "/color/image_raw", 10)
    node.wait_for_log("2 publishers on /color/image_raw")
    camera.node.destroy_publisher(other)


def test_before_the_first_view_and_without_camera_info(start):
    """A fresh node says what it is waiting for, and ends in order on SIGTERM."""
    service = "/fresh/roboref"
    topics = {name: f"/fresh/{name}" for name in ("color", "color_info", "depth", "depth_info", "pose")}
    remaps = {"color": "color/image_raw", "color_info": "color/camera_info", "depth": "depth/image_raw"}
    remaps |= {"depth_info": "depth/camera_info", "pose": "pose"}
    arguments = ["-r", "__ns:=/fresh", "-p", "pose.source:=pose", "-p", "pose.timeout:=0.2"]
    for name, topic in remaps.items():
        arguments += ["-r", f"{topic}:={topics[name]}"]
    node, camera = start(arguments, topics, service)
    answer = ask(camera)
    assert code_of(answer) == ErrorCode.NO_VIEW
    assert "/fresh/color" in answer.error_msg
    messages = camera.messages(AHEAD, camera.stamp())
    camera.publish({name: message for name, message in messages.items() if not name.endswith("info")})
    answer = camera.eventually(lambda: ask(camera), lambda a: a.error_code == ErrorCode.CAMERA_INFO_INVALID)
    assert "/fresh/color_info" in answer.error_msg
    view = camera.see(AHEAD)
    np.testing.assert_allclose(position(ask(camera, mark(view))), WALL_POINT, atol=MILLIMETRE)
    assert node.stop(signal.SIGTERM) == 0
    assert "Traceback" not in node.log.read_text()


def test_the_pose_residual_is_latched_and_in_the_diagnostics(camera):
    heard, states = [], []
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    for subscription in (
        camera.node.create_subscription(PoseResidual, "roboref/pose_residual", heard.append, latched),
        camera.node.create_subscription(DiagnosticArray, "/diagnostics", states.append, 10),
    ):
        assert subscription is not None
    way = itertools.cycle([AHEAD, BESIDE])

    def after_another_view():
        camera.see(next(way))
        return heard[-1] if heard else None

    residual = camera.eventually(after_another_view, lambda message: message and message.pairs, timeout=20.0)
    assert residual.header.frame_id == WORLD and not residual.poses_disagree
    assert residual.residual < residual.expected

    def poses():
        parts = [part for array in states for part in array.status if part.name.endswith(": poses")]
        return {value.key: value.value for value in parts[-1].values} if parts else {}

    told = camera.eventually(poses, lambda values: values.get("compared pairs of keyframes", "0") != "0")
    assert float(told["pose residual [m]"]) < 0.02
