"""The fault matrix: what goes wrong on robots, and the answer that it must get. The node is a process on real DDS."""

from __future__ import annotations

import signal
import subprocess
import time

import numpy as np
import pytest

pytest.importorskip("roboref_msgs", reason="ros2_ws is not built: make setup")

import cv2
from builtin_interfaces.msg import Duration
from fake_rgbd import (
    AHEAD,
    BESIDE,
    OPTICAL,
    WALL_POINT,
    NodeProcess,
    depth_message,
    pixel_of,
    render,
)
from geometry_msgs.msg import PoseStamped
from rclpy.qos import DurabilityPolicy, QoSProfile
from roboref_core.errors import ErrorCode
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import pose
from roboref_core.referring.answer import Status
from roboref_core.referring.query import MarkedPoint, Query
from roboref_msgs.msg import MarkedRegion, ReferQuery
from roboref_msgs.srv import CaptureView, ListViews, ReferPoint
from roboref_ros.conversions import camera_to_info, pose_to_message, query_to_message
from sensor_msgs.msg import CameraInfo, CompressedImage
from std_msgs.msg import Header

pytestmark = pytest.mark.slow
HOUR = 3600 * 10**9
ARGUMENTS = ["-p", "pose.source:=pose", "-p", "pose.timeout:=0.3", "-p", "sync.warn_after:=1.0"]
NAMES = ("color", "depth")


def own_topics(name: str, **transports: str) -> tuple[list[str], dict[str, str], str]:
    """Arguments, topics and service of a node in a namespace of its own."""
    topics = {stream: f"/{name}/{stream}/image_raw{transports.get(stream, '')}" for stream in NAMES}
    topics |= {f"{stream}_info": f"/{name}/{stream}/camera_info" for stream in NAMES} | {"pose": f"/{name}/pose"}
    return [*ARGUMENTS, "-r", f"__ns:=/{name}"], topics, f"/{name}/roboref"


@pytest.fixture(scope="module")
def node_and_camera(start):
    return start(ARGUMENTS)


@pytest.fixture(scope="module")
def camera(node_and_camera):
    return node_and_camera[1]


def mark(view) -> MarkedPoint:
    return MarkedPoint(pixel_of(WALL_POINT, AHEAD), view.view_id)


def ask(camera, *regions, **fields):
    return camera.client.refer(Query(fields.pop("text", "that"), regions=regions, **fields))


def error_of_position(answer) -> float:
    assert answer.status == Status.FOUND, (answer.status, answer.error_code, answer.error_msg)
    p = answer.targets[0].position
    return float(np.linalg.norm(np.array([p.x, p.y, p.z]) - WALL_POINT))


@pytest.mark.parametrize("clients", [1, 40], ids=["one client", "forty clients"])
def test_a_burst_of_200_calls_is_answered(camera, clients):
    view = camera.see_to_mark(AHEAD)
    request = ReferPoint.Request(query=query_to_message(Query("that", regions=(mark(view),))))
    made = [
        camera.node.create_client(ReferPoint, "/roboref/refer_point", qos_profile=QoSProfile(depth=1000))
        for _ in range(clients)
    ]
    for client in made:
        assert client.wait_for_service(20)
    deadline = time.monotonic() + 30
    # A response before its reader is matched is lost, whatever the server: each client is answered once before.
    for client in made:
        while time.monotonic() < deadline:
            first = client.call_async(request)
            if wait(lambda first=first: first.done(), 2):
                break
    futures = [client.call_async(request) for _ in range(200 // clients) for client in made]
    wait(lambda: all(future.done() for future in futures), 30)
    answers = [future.result().answer for future in futures if future.done()]
    for client in made:
        camera.node.destroy_client(client)
    assert len(answers) == 200
    assert {(a.status, a.error_code) for a in answers} <= {(Status.FOUND, 0), (Status.ERROR, ErrorCode.BUSY)}
    assert any(a.status == Status.FOUND for a in answers)


def wait(happened, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.02)
    return happened()


def test_world_frames_that_nothing_links(camera):
    marked = camera.see_to_mark(AHEAD)
    stamp = camera.stamp()
    messages = camera.messages(BESIDE, stamp)
    moved = pose(np.eye(3), (0.5, 0.0, 0.0)) @ BESIDE
    messages["pose"] = PoseStamped(header=camera.header(stamp, "odom3"), pose=pose_to_message(moved))
    camera.wait_for_view(messages)
    answer = ask(camera, mark(marked))
    assert (answer.status, answer.error_code) == (Status.ERROR, ErrorCode.TF_ERROR)
    assert "'map'" in answer.error_msg and "'odom3'" in answer.error_msg
    camera.see(AHEAD)


@pytest.mark.parametrize("away", [HOUR, -HOUR], ids=["+1 h", "-1 h"])
@pytest.mark.parametrize(
    "parts", [("pose", "color_info", "depth_info", "color", "depth"), ("pose",)], ids=["all", "pose"]
)
def test_one_message_of_another_time_changes_nothing(camera, away, parts):
    capture = camera.service(CaptureView, "capture_view").call_async(CaptureView.Request())
    pinned = camera.eventually(lambda: (camera.see(AHEAD), capture)[1], lambda f: f.done()).result().view
    bad = camera.messages(BESIDE, camera.stamp() + away)
    camera.publish({name: bad[name] for name in parts})
    time.sleep(0.3)
    camera.see(BESIDE)
    assert pinned.view_id in [view.view_id for view in camera.call(ListViews, "list_views").views]
    assert error_of_position(ask(camera, mark(pinned))) < 0.005


def test_too_many_regions(camera):
    view = camera.see_to_mark(AHEAD)
    region = MarkedRegion(view_id=view.view_id)
    answer = camera.client.refer(ReferQuery(text="x", regions=[region] * 10_000, timeout=Duration(sec=2)), 20)
    assert (answer.status, answer.error_code) == (Status.ERROR, ErrorCode.INVALID_QUERY)
    assert "10000" in answer.error_msg
    camera.see(AHEAD)
    assert error_of_position(ask(camera, mark(view))) < 0.005


def test_a_camera_info_of_another_camera(camera):
    good = camera.see_to_mark(AHEAD)
    messages = camera.messages(BESIDE, camera.stamp())
    for name in ("color_info", "depth_info"):
        messages[name].header = Header(stamp=messages[name].header.stamp, frame_id="left_camera")
    camera.publish(messages)
    answer = camera.eventually(
        lambda: ask(camera, mark(good), max_view_age=0.001),
        lambda a: a.error_code == ErrorCode.CAMERA_INFO_INVALID,
    )
    assert "left_camera" in answer.error_msg and OPTICAL in answer.error_msg
    camera.see(AHEAD)


def test_a_camera_whose_clock_is_ahead(start):
    arguments, topics, service = own_topics("ahead")
    _, camera = start(arguments, topics, service)
    stamp = time.time_ns() + 3 * HOUR
    for i in range(4):
        camera.publish(camera.messages(AHEAD, stamp + i * 50_000_000))
        time.sleep(0.05)
    camera.wait_for_view(camera.messages(AHEAD, stamp + 10**9))
    answer = ask(camera)
    assert (answer.status, answer.error_code) == (Status.ERROR, ErrorCode.CLOCK_MISMATCH)
    assert "in the future" in answer.error_msg
    time.sleep(1.2)
    answer = ask(camera, max_view_age=1.0)
    assert "the newest view is 1." in answer.error_msg, "it fell silent: judged by arrival"


def test_latched_camera_info_before_the_node(domain, start):
    from fake_rgbd import FakeCamera
    from sensor_msgs.msg import Image

    arguments, topics, service = own_topics("latched")
    early = FakeCamera(domain, {}, service, {})
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    messages = early.messages(AHEAD, early.stamp())
    for name in ("color_info", "depth_info"):
        early.node.create_publisher(CameraInfo, topics[name], latched).publish(messages[name])
    kinds = {"color": Image, "depth": Image, "pose": PoseStamped}
    _, camera = start(arguments, {name: topics[name] for name in kinds}, service, kinds)
    messages = camera.messages(AHEAD, camera.stamp())
    view = camera.wait_for_view({name: messages[name] for name in kinds})
    assert error_of_position(ask(camera, mark(view))) < 0.005
    early.close()


@pytest.mark.parametrize("given", [False, True], ids=["nothing tells", "a parameter tells"])
def test_depth_that_is_not_registered(start, given):
    arguments, topics, service = own_topics(f"unregistered_{int(given)}")
    if given:
        arguments += ["-p", "depth.extrinsics:=[0.015, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]"]
    _, camera = start(arguments, topics, service)
    own = Camera(320, 240, 200.0, 200.0, 160.0, 120.0)
    T = AHEAD @ pose(np.eye(3), (0.015, 0.0, 0.0))

    def messages():
        made = camera.messages(AHEAD, camera.stamp())
        header = Header(stamp=made["depth"].header.stamp, frame_id="camera_depth_optical_frame")
        return made | {"depth": depth_message(render(T, own)[1], header), "depth_info": camera_to_info(own, header)}

    region = MarkedPoint(pixel_of(WALL_POINT, AHEAD))
    if given:
        camera.wait_for_view(messages())
        assert error_of_position(ask(camera, region)) < 0.02
        return
    camera.publish(messages())
    answer = camera.eventually(
        lambda: (camera.publish(messages()), ask(camera, region))[1], lambda a: a.error_code == ErrorCode.IMAGE_INVALID
    )
    assert "camera_depth_optical_frame" in answer.error_msg and "depth.extrinsics" in answer.error_msg


def test_hostile_compressed_images(start):
    arguments, topics, service = own_topics("bombs", color="/compressed", depth="/compressedDepth")
    arguments += ["-p", "color.transport:=compressed", "-p", "depth.transport:=compressedDepth"]
    node, camera = start(arguments, topics, service, {"color": CompressedImage, "depth": CompressedImage})
    color, depth = render(AHEAD)
    jpeg = cv2.imencode(".jpg", color[..., ::-1])[1].tobytes()
    png = cv2.imencode(".png", (depth * 1000).round().astype(np.uint16))[1].tobytes()
    flipped = bytearray(png)
    flipped[png.index(b"IDAT") - 4] ^= 0xC0
    huge = bytearray(png)
    huge[16:24] = np.array([30000, 30000], ">u4").tobytes()

    def messages(color_data=jpeg, depth_data=png):
        made = camera.messages(AHEAD, camera.stamp())
        header = made["color"].header
        made["color"] = CompressedImage(header=header, format="jpeg", data=color_data)
        made["depth"] = CompressedImage(
            header=header, format="16UC1; compressedDepth png", data=bytes(12) + bytes(depth_data)
        )
        return made

    view = camera.wait_for_view(messages())
    before = peak_memory(node)
    for bad in ({"depth_data": flipped}, {"depth_data": huge}, {"color_data": bytes(huge)}):

        def after_a_bad_one(view=view, bad=bad):
            camera.publish(messages(**bad))
            return ask(camera, mark(view), max_view_age=0.001)

        answer = camera.eventually(after_a_bad_one, lambda a: a.error_code == ErrorCode.IMAGE_INVALID)
        assert "compressed image" in answer.error_msg
        view = camera.wait_for_view(messages())
        assert error_of_position(ask(camera, mark(view))) < 0.01
    assert peak_memory(node) < before + 300, "MB"


def peak_memory(node: NodeProcess) -> int:
    """[MB]"""
    with open(f"/proc/{node.process.pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) // 1024


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_signals_twice_end_in_order(start, how):
    arguments, topics, service = own_topics(f"twice_{how.name.lower()}")
    node, camera = start(arguments, topics, service)
    camera.see(AHEAD)
    for _ in range(3):
        node.process.send_signal(how)
        time.sleep(0.01)
    assert node.process.wait(15) == 0
    assert "Traceback" not in node.log.read_text()


@pytest.mark.parametrize("delay", [0.0, 0.3, 1.0, 2.0, 4.0])
def test_a_signal_while_it_starts(domain, tmp_path, delay):
    node = NodeProcess(domain, ARGUMENTS, tmp_path / "log")
    # Until its first line runs the interpreter itself starts: no program can answer for that.
    assert wait(lambda: catches(node, signal.SIGTERM), 30)
    time.sleep(delay)
    node.process.send_signal(signal.SIGINT)
    time.sleep(0.02)
    if node.process.poll() is None:
        node.process.send_signal(signal.SIGINT)
    try:
        assert node.process.wait(15) == 0, node.log.read_text()
    except subprocess.TimeoutExpired:
        node.process.kill()
        raise
    assert "Traceback" not in node.log.read_text()


def catches(node: NodeProcess, how: signal.Signals) -> bool:
    with open(f"/proc/{node.process.pid}/status") as file:
        caught = next(int(line.split()[1], 16) for line in file if line.startswith("SigCgt"))
    return bool(caught >> (how - 1) & 1)
