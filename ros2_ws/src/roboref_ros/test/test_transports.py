"""A robot's setting: namespace, remaps, compressed images, odometry with extrinsics, a bag's clock."""

from __future__ import annotations

import itertools
import struct

import cv2
import numpy as np
import pytest

pytest.importorskip("roboref_msgs", reason="ros2_ws is not built: make setup")

from fake_rgbd import AHEAD, BESIDE, CAMERA, OPTICAL, WALL_POINT, pixel_of, render
from nav_msgs.msg import Odometry
from roboref_core.errors import ErrorCode
from roboref_core.geometry.pose import from_quaternion, inverse
from roboref_core.referring.answer import Status
from roboref_core.referring.query import MarkedPoint, Query
from roboref_msgs.srv import ListViews
from roboref_ros.conversions import camera_to_info, pose_to_message, to_time
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

SECOND = 1_000_000_000
# base_link to optical frame: looks forward, a little ahead and above.
T_BASE_OPTICAL = from_quaternion((-0.5, 0.5, -0.5, 0.5), (0.1, 0.02, 1.1))
EXTRINSICS = "[0.1, 0.02, 1.1, -0.5, 0.5, -0.5, 0.5]"
TOPICS = {
    "color": "/cam/rgb/compressed",
    "color_info": "/cam/rgb_info",
    "depth": "/cam/aligned_depth/compressedDepth",
    "depth_info": "/cam/depth_info",
    "odom": "/r2d2/wheel_odom",
    "clock": "/clock",
}
ARGUMENTS = {
    "__ns": "/r2d2",
    "color/image_raw": "/cam/rgb",
    "color/camera_info": TOPICS["color_info"],
    "depth/image_raw": "/cam/aligned_depth",
    "depth/camera_info": TOPICS["depth_info"],
    "odom": "wheel_odom",
}
PARAMETERS = {
    "color.transport": "compressed",
    "depth.transport": "compressedDepth",
    "pose.source": "odometry",
    "pose.extrinsics": EXTRINSICS,
    "pose.timeout": 0.3,
    "use_sim_time": "true",
}


_bag_times = itertools.count(100 * SECOND, 100 * SECOND)


@pytest.fixture
def now() -> int:
    """A bag time later than those of the tests before [ns]."""
    return next(_bag_times)


@pytest.fixture(scope="module")
def robot(start):
    arguments = [word for remap in ARGUMENTS.items() for word in ("-r", ":=".join(remap))]
    arguments += [word for name, value in PARAMETERS.items() for word in ("-p", f"{name}:={value}")]
    kinds = {"color": CompressedImage, "depth": CompressedImage, "odom": Odometry, "clock": Clock}
    return start(arguments, TOPICS, "/r2d2/roboref", kinds)


def odometry(stamp: int, T_world_camera: np.ndarray, frame: str = "odom") -> Odometry:
    message = Odometry(header=Header(stamp=to_time(stamp), frame_id=frame), child_frame_id="base_link")
    message.pose.pose = pose_to_message(T_world_camera @ inverse(T_BASE_OPTICAL))
    return message


def view(stamp: int, T_world_camera: np.ndarray) -> dict:
    """A view at bag time, without its odometry."""
    color, depth = render(T_world_camera)
    header = Header(stamp=to_time(stamp), frame_id=OPTICAL)
    png = cv2.imencode(".png", (depth * 1000).round().astype(np.uint16))[1].tobytes()
    jpeg = cv2.imencode(".jpg", color[..., ::-1])[1].tobytes()
    return {
        "clock": Clock(clock=to_time(stamp)),
        "color": CompressedImage(header=header, format="rgb8; jpeg compressed bgr8", data=jpeg),
        "color_info": camera_to_info(CAMERA, header),
        "depth": CompressedImage(
            header=header, format="16UC1; compressedDepth png", data=struct.pack("<iff", 0, 0, 0) + png
        ),
        "depth_info": camera_to_info(CAMERA, header),
    }


def ask(camera, view_id: str):
    mark = MarkedPoint(pixel_of(WALL_POINT, AHEAD), view_id)
    return camera.client.refer(Query("that", regions=(mark,)))


def test_found_by_compressed_images_and_odometry_between_stamps(robot, now):
    _, camera = robot
    camera.publish({"odom": odometry(now, AHEAD)})
    marked = camera.look_at(camera.wait_for_view(view(now, AHEAD)))
    # The robot drives: the camera is half way at the time of the image.
    half = BESIDE.copy()
    shift = np.eye(4)
    shift[:3, 3] = (0.2, -0.1, 0.05)
    before, after = inverse(shift) @ half, shift @ half
    camera.publish({"odom": odometry(now + SECOND, before)})
    camera.publish({"odom": odometry(now + SECOND + 200_000_000, after)})
    camera.wait_for_view(view(now + SECOND + 100_000_000, half))
    answer = ask(camera, marked.view_id)
    assert answer.status == Status.FOUND, answer.error_msg
    target = answer.targets[0]
    assert target.header.frame_id == "odom", "as the odometry says"
    np.testing.assert_allclose((target.position.x, target.position.y, target.position.z), WALL_POINT, atol=0.001)
    assert answer.view_age.sec == 0, "by the bag's clock"


def test_a_bag_played_again_starts_anew(robot, now):
    node, camera = robot
    camera.publish({"odom": odometry(now, AHEAD)})
    old = camera.wait_for_view(view(now, AHEAD))
    # The clock of the second round comes before its first image.
    camera.publish({"clock": Clock(clock=to_time(now - 30 * SECOND))})
    camera.eventually(lambda: camera.call(ListViews, "list_views").views, lambda views: not views)
    assert "the clock jumped" in node.log.read_text()
    assert ask(camera, old.view_id).error_code == ErrorCode.NO_VIEW
    camera.publish({"odom": odometry(now - 30 * SECOND, AHEAD)})
    new = camera.wait_for_view(view(now - 30 * SECOND, AHEAD))
    assert new.view_id != old.view_id and new.has_camera_pose
    assert ask(camera, old.view_id).error_code == ErrorCode.VIEW_NOT_FOUND
    assert ask(camera, new.view_id).status == Status.FOUND


def test_a_picture_that_does_not_decode(robot, now):
    _, camera = robot
    camera.publish({"odom": odometry(now, AHEAD)})
    messages = view(now, AHEAD)
    data = bytearray(messages["depth"].data)
    start = data.index(b"IDAT") + 4
    data[start : start + 40] = b"\xff" * 40
    messages["depth"].data = bytes(data)
    broken = camera.wait_for_view(messages)
    answer = ask(camera, broken.view_id)
    assert (answer.status, answer.error_code) == (Status.ERROR, ErrorCode.IMAGE_INVALID)
    assert "does not decode" in answer.error_msg


def test_odometry_of_the_body_without_extrinsics_is_refused(start):
    """The body's pose taken for the camera's would be a wrong answer that looks like a right one."""
    _, camera = start(
        ["-r", "__node:=bare", "-p", "pose.source:=odometry", "-p", "pose.timeout:=0.2"],
        {
            "color": "/color/image_raw",
            "color_info": "/color/camera_info",
            "depth": "/depth/image_raw",
            "depth_info": "/depth/camera_info",
            "odom": "/odom",
        },
        "/bare",
        {"odom": Odometry},
    )
    stamp = camera.stamp()
    messages = camera.messages(AHEAD, stamp)
    messages["odom"] = odometry(stamp, AHEAD)
    del messages["pose"]
    seen = camera.wait_for_view(messages)
    assert not seen.has_camera_pose
    answer = ask(camera, seen.view_id)
    assert answer.error_code == ErrorCode.TF_ERROR
    assert "pose.extrinsics" in answer.error_msg
