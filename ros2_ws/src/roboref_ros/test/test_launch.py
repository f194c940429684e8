"""The launch file on a ROS 2 installation: namespace, remaps and TF; only where launch_pytest is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("roboref_msgs", reason="ros2_ws is not built: make setup")
pytest.importorskip("launch_pytest", reason="ROS's launch_pytest is not installed here")
pytest.importorskip("tf2_ros", reason="ROS's tf2_ros is not installed here")

import launch_pytest
from fake_rgbd import AHEAD, AWAY, BEHIND_BOX, BESIDE, OPTICAL, WALL_POINT, FakeCamera, pixel_of
from geometry_msgs.msg import TransformStamped, Vector3
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription, SetEnvironmentVariable
from launch.launch_description_sources import PythonLaunchDescriptionSource
from roboref_core.errors import ErrorCode
from roboref_core.geometry.pose import inverse, transform
from roboref_core.referring.answer import Status
from roboref_core.referring.query import MarkedPoint, Query
from roboref_ros.conversions import pose_to_message
from sensor_msgs.msg import Image
from tf2_msgs.msg import TFMessage

LAUNCH = Path(__file__).parents[1] / "launch" / "roboref.launch.py"
MILLIMETRE = 0.001
TOPICS = {
    "color": "/camera/color/image_raw",
    "color_info": "/camera/color/camera_info",
    "depth": "/camera/depth/image_raw",
    "depth_info": "/camera/depth/camera_info",
    "tf": "/r2d2/tf",
}


@launch_pytest.fixture
def roboref(domain):
    arguments = {
        "namespace": "r2d2",
        "tf_namespace": "r2d2",
        "color_image": TOPICS["color"],
        "color_info": TOPICS["color_info"],
        "depth_image": TOPICS["depth"],
        "depth_info": TOPICS["depth_info"],
        "log_level": "info",
    }
    return LaunchDescription(
        [
            SetEnvironmentVariable("ROS_DOMAIN_ID", str(domain)),
            SetEnvironmentVariable("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST"),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(LAUNCH)), launch_arguments=list(arguments.items())
            ),
            launch_pytest.actions.ReadyToTest(),
        ]
    )


@pytest.fixture
def camera(domain):
    camera = FakeCamera(domain, TOPICS, "/r2d2/roboref", {"color": Image, "depth": Image, "tf": TFMessage})
    yield camera
    camera.close()


def tf(stamp, T_world_camera: np.ndarray) -> TFMessage:
    message = TransformStamped(child_frame_id=OPTICAL)
    message.header.frame_id, message.header.stamp = "odom", stamp
    pose = pose_to_message(T_world_camera)
    message.transform.translation = Vector3(x=pose.position.x, y=pose.position.y, z=pose.position.z)
    message.transform.rotation = pose.orientation
    return TFMessage(transforms=[message])


def see(camera: FakeCamera, T_world_camera: np.ndarray, with_tf: bool = True, **scene):
    messages = camera.messages(T_world_camera, camera.stamp(), **scene)
    del messages["pose"]
    if with_tf:
        messages["tf"] = tf(messages["color"].header.stamp, T_world_camera)
    return camera.wait_for_view(messages)


def ask(camera: FakeCamera, view_id: str, **fields):
    mark = MarkedPoint(pixel_of(WALL_POINT, AHEAD), view_id)
    return camera.client.refer(Query("that", regions=(mark,), **fields))


def position(answer) -> tuple:
    assert answer.status == Status.FOUND, answer.error_msg
    p = answer.targets[0].position
    return p.x, p.y, p.z


@pytest.mark.launch(fixture=roboref)
def test_the_node_answers_with_poses_from_tf(roboref, camera):
    camera.wait_for_node()
    for encoding in ("16UC1", "32FC1"):
        marked = camera.look_at(see(camera, AHEAD, depth_encoding=encoding))
        see(camera, BESIDE, depth_encoding=encoding)
        answer = ask(camera, marked.view_id)
        np.testing.assert_allclose(position(answer), WALL_POINT, atol=MILLIMETRE)
        assert answer.targets[0].header.frame_id == "odom"
    in_camera = ask(camera, marked.view_id, target_frame=OPTICAL)
    np.testing.assert_allclose(position(in_camera), transform(inverse(BESIDE), WALL_POINT), atol=MILLIMETRE)
    for hidden in (AWAY, BEHIND_BOX):
        see(camera, hidden)
        assert ask(camera, marked.view_id).status == Status.NOT_VISIBLE
    see(camera, BESIDE, hole=(slice(None), slice(None)))
    assert ask(camera, marked.view_id).status == Status.FOUND_WITHOUT_POSITION
    see(camera, BESIDE)
    nowhere = ask(camera, marked.view_id, target_frame="kitchen")
    assert (nowhere.status, nowhere.error_code) == (Status.ERROR, ErrorCode.TF_ERROR)
    assert "kitchen" in nowhere.error_msg
    assert not see(camera, BESIDE, with_tf=False).has_camera_pose
    lost = ask(camera, marked.view_id)
    assert lost.error_code == ErrorCode.TF_ERROR and "tf" in lost.error_msg
