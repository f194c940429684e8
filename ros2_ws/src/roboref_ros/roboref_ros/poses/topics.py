"""Where the camera was: from TF, from odometry, or from a topic of poses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from roboref_core.geometry.pose import from_quaternion
from roboref_core.referring.frames import FrameLookup
from roboref_core.views.view_buffer import SECOND

from roboref_ros.conversions import pose_from_message, stamp_ns
from roboref_ros.poses.base import CameraPose, PoseConfig
from roboref_ros.poses.between import pose_between
from roboref_ros.poses.history import PoseHistory

_UNSTEADY = 0.02
"""By how much a pose between messages may put what is seen beside its place [m]; a view further off has no pose."""


class TopicPoses:
    """Poses from nav_msgs/Odometry on `odom`, or from geometry_msgs/PoseStamped on `pose`."""

    frames: FrameLookup | None = None

    def __init__(self, node: Node, config: PoseConfig, qos_depth: int, on_pose: Callable[[], None]):
        if len(config.extrinsics) != 7:
            raise ValueError(f"pose.extrinsics must be x y z qx qy qz qw, found {len(config.extrinsics)} numbers")
        self._T_body_camera = from_quaternion(config.extrinsics[3:], config.extrinsics[:3])
        self._history = PoseHistory(
            round(config.tolerance * SECOND),
            round(config.max_gap * SECOND),
            round(config.max_backwards * SECOND),
            clock=lambda: node.get_clock().now().nanoseconds,
        )
        self._on_pose = on_pose
        self._node = node
        kind, topic = (Odometry, "odom") if config.source == "odometry" else (PoseStamped, "pose")
        # Reliable: a lost pose costs a view its place, and poses are small.
        self._subscription = node.create_subscription(
            kind,
            topic,
            self._receive,
            QoSProfile(depth=qos_depth),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self.topic = self._subscription.topic_name
        self.world_frame = config.fixed_frame

    def _receive(self, message: Odometry | PoseStamped) -> None:
        self.world_frame = message.header.frame_id
        self._history.add(stamp_ns(message.header.stamp), message)
        self._on_pose()

    def camera_pose(self, stamp_ns: int, optical_frame: str, final: bool) -> CameraPose | None:
        found = self._history.at(stamp_ns, final)
        if found is None:
            return None
        if found.before.header.frame_id != found.after.header.frame_id:
            return None
        T_world_body, off = pose_between(found, lambda message: self._pose(message, optical_frame))
        if off > _UNSTEADY:
            if not final:
                return None
            raise ValueError(
                f"{self.topic}: the camera moves too unevenly to tell its pose {found.gap:.3f} s from a message of it: "
                f"up to {100 * off:.0f} cm off, accepted are {100 * _UNSTEADY:.0f} cm"
            )
        return CameraPose(T_world_body @ self._T_body_camera, found.before.header.frame_id)

    def _pose(self, message: Odometry | PoseStamped, optical_frame: str) -> np.ndarray:
        if not message.header.frame_id:
            raise ValueError(f"{self.topic}: header.frame_id is empty")
        if isinstance(message, PoseStamped):
            return pose_from_message(message.pose)
        body = message.child_frame_id
        if body != optical_frame and np.array_equal(self._T_body_camera, np.eye(4)):
            raise ValueError(
                f"{self.topic} gives poses of {body!r} while the images are of {optical_frame!r}: set pose.extrinsics "
                "to the pose of the one in the other, or pose.source to tf"
            )
        return pose_from_message(message.pose.pose)

    def why_missing(self, stamp_ns: int, optical_frame: str) -> str:
        return self._history.describe(stamp_ns)

    def newest(self, target_frame: str, source_frame: str) -> np.ndarray | None:
        return None

    def clear(self) -> None:
        self._history.clear()

    def close(self) -> None:
        self._node.destroy_subscription(self._subscription)
