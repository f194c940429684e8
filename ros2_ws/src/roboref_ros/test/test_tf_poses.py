"""Poses and frames from TF: only where ROS's tf2_ros is installed."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

pytest.importorskip("roboref_msgs", reason="ros2_ws is not built: make setup")
pytest.importorskip("tf2_ros", reason="ROS's tf2_ros is not installed here")

import rclpy
from geometry_msgs.msg import TransformStamped, Vector3
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from roboref_core.errors import ErrorCode, ReferError
from roboref_core.geometry.pose import from_quaternion, inverse, pose
from roboref_ros.conversions import pose_to_message, to_time
from roboref_ros.poses.base import PoseConfig
from roboref_ros.poses.choose import make_pose_source
from tf2_msgs.msg import TFMessage

SECOND = 1_000_000_000
CONFIG = PoseConfig(
    source="tf",
    fixed_frame="odom",
    timeout=0.5,
    tolerance=0.02,
    max_gap=0.25,
    extrinsics=(0, 0, 0, 0, 0, 0, 1),
    tf_cache_time=30.0,
    tf_timeout=0.3,
    max_backwards=1.0,
)
T_BASE_CAMERA = from_quaternion((-0.5, 0.5, -0.5, 0.5), (0.1, 0.0, 1.1))


def transform(parent: str, child: str, stamp: int, T: np.ndarray) -> TransformStamped:
    message = TransformStamped(child_frame_id=child)
    message.header.frame_id, message.header.stamp = parent, to_time(stamp)
    plain = pose_to_message(T)
    message.transform.translation = Vector3(x=plain.position.x, y=plain.position.y, z=plain.position.z)
    message.transform.rotation = plain.orientation
    return message


@pytest.fixture
def world(domain):
    """The source, and a function that publishes odom -> base_link."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    node = rclpy.create_node("robot", context=context)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    static = node.create_publisher(TFMessage, "/tf_static", latched)
    static.publish(TFMessage(transforms=[transform("base_link", "camera", 0, T_BASE_CAMERA)]))
    moving = node.create_publisher(TFMessage, "/tf", 100)
    source = make_pose_source(node, CONFIG, 10, lambda: None)
    deadline = time.monotonic() + 20
    while not moving.get_subscription_count():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield source, lambda stamp, T: moving.publish(TFMessage(transforms=[transform("odom", "base_link", stamp, T)]))
    source.close()
    node.destroy_node()
    context.shutdown()


def at(x: float) -> np.ndarray:
    return pose(np.eye(3), (x, 0, 0))


def eventually(source, stamp, final=False):
    deadline = time.monotonic() + 20
    while (found := source.camera_pose(stamp, "camera", final)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def test_a_pose_between_two_transforms(world):
    source, publish = world
    publish(SECOND, at(1.0))
    publish(2 * SECOND, at(2.0))
    found = eventually(source, SECOND + SECOND // 4)
    assert found.world_frame == "odom"
    np.testing.assert_allclose(found.T_world_camera, at(1.25) @ T_BASE_CAMERA, atol=1e-9)


def test_a_pose_that_is_not_there_yet(world):
    source, publish = world
    publish(SECOND, at(1.0))
    eventually(source, SECOND)
    later = SECOND + 10_000_000
    assert source.camera_pose(later, "camera", final=False) is None
    held = source.camera_pose(later, "camera", final=True)
    np.testing.assert_allclose(held.T_world_camera, at(1.0) @ T_BASE_CAMERA, atol=1e-9)
    assert source.camera_pose(SECOND + 30_000_000, "camera", final=True) is None, "beyond the tolerance"
    assert source.camera_pose(SECOND, "no_such_camera", final=True) is None


def test_why_a_pose_is_missing(world):
    source, publish = world
    publish(SECOND, at(1.0))
    eventually(source, SECOND)
    assert "no_such_camera" in source.why_missing(SECOND, "no_such_camera")
    assert "extrapolation" in source.why_missing(9 * SECOND, "camera")
    assert source.why_missing(SECOND, "") == "header.frame_id of the images is empty"


def test_an_image_without_a_stamp_gets_no_pose_of_another_moment(world):
    source, publish = world
    publish(SECOND, at(1.0))
    eventually(source, SECOND)
    assert source.camera_pose(0, "camera", final=True) is None


def test_leading_slashes_of_frames_do_not_count(world):
    source, publish = world
    publish(SECOND, at(1.0))
    expected = eventually(source, SECOND).T_world_camera
    np.testing.assert_array_equal(source.camera_pose(SECOND, "/camera", final=True).T_world_camera, expected)
    np.testing.assert_array_equal(source.frames.lookup("/odom", "/camera", SECOND), expected)
    np.testing.assert_array_equal(source.newest("/base_link", "camera"), source.newest("base_link", "/camera"))


def test_frames_of_questions(world):
    source, publish = world
    publish(SECOND, at(1.0))
    T = source.frames.lookup("base_link", "odom", SECOND)
    np.testing.assert_allclose(T, inverse(at(1.0)), atol=1e-9)
    with pytest.raises(ReferError, match=r"(?s)'odom' to 'kitchen'.*kitchen") as refused:
        source.frames.lookup("kitchen", "odom", SECOND)
    assert refused.value.code == ErrorCode.TF_ERROR


def test_a_question_waits_for_its_transform(world):
    source, publish = world
    publish(SECOND, at(1.0))
    eventually(source, SECOND)
    timer = threading.Timer(0.1, lambda: publish(2 * SECOND, at(2.0)))
    timer.start()
    T = source.frames.lookup("odom", "base_link", 2 * SECOND)
    np.testing.assert_allclose(T, at(2.0), atol=1e-9)
    timer.join()


def test_a_clock_jump_forgets_all_but_what_is_static(world):
    source, publish = world
    publish(9 * SECOND, at(9.0))
    eventually(source, 9 * SECOND)
    source.clear()
    assert source.camera_pose(9 * SECOND, "camera", final=True) is None
    publish(SECOND, at(1.0))
    np.testing.assert_allclose(eventually(source, SECOND).T_world_camera, at(1.0) @ T_BASE_CAMERA, atol=1e-9)


def test_a_view_older_than_tf_remembers_gets_the_newest_transform(world):
    source, publish = world
    publish(100 * SECOND, at(1.0))
    eventually(source, 100 * SECOND)
    publish(150 * SECOND, at(2.0))
    np.testing.assert_allclose(source.frames.lookup("odom", "base_link", 101 * SECOND), at(2.0), atol=1e-9)
    np.testing.assert_allclose(source.frames.lookup("odom", "base_link", None), at(2.0), atol=1e-9)
    assert source.newest("odom", "kitchen") is None
    np.testing.assert_allclose(source.newest("base_link", "camera"), T_BASE_CAMERA, atol=1e-9)


def test_our_node_is_not_put_on_another_executor(world):
    source, _ = world
    assert source._node.executor is not None
    assert isinstance(source._node.executor, SingleThreadedExecutor)
    assert source._node.get_name() == "robot_tf"
