"""The newest FOUND target in the forms that planners take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from geometry_msgs.msg import PoseStamped, PoseWithCovariance, PoseWithCovarianceStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from roboref_core.errors import ReferError
from roboref_core.geometry.pose import inverse, transform
from roboref_core.grasp import grasp_along_normal, target_pose, yaw_variance
from roboref_core.referring.answer import Answer, Status, Target
from roboref_core.referring.frames import FrameLookup, lookup
from roboref_core.views.flatness import flat_around
from roboref_core.views.view import View
from std_msgs.msg import Header

from roboref_ros.conversions import pose_to_message, to_time

# Of roll and pitch: z is up by definition [rad^2].
_UPRIGHT = 1e-6


@dataclass(frozen=True, eq=False)
class TargetPoses:
    """Of the best target of an answer, in that target's frame.

    Attributes:
        header: its frame and the capture time of its view.
        T_frame_target: 4x4; z up, x from the camera to the target over the floor.
        covariance: (6, 6) of x, y, z [m] and the rotations about the frame's axes [rad].
        T_frame_surface: 4x4 whose z axis goes straight into the surface; None where it is not flat.
    """

    header: Header
    T_frame_target: np.ndarray
    covariance: np.ndarray
    T_frame_surface: np.ndarray | None


def poses_of(answer: Answer, frames: FrameLookup | None) -> TargetPoses | None:
    """None unless it is FOUND, in a view with a pose: without one nothing tells which way is up.

    Raises ReferError(TF_ERROR) if nothing links the target's frame to the world's.
    """
    view = answer.view
    if answer.status is not Status.FOUND or view is None or view.T_world_camera is None:
        return None
    target = answer.targets[0]
    if target.position is None or target.covariance is None:
        return None
    T_frame_world = _frame_from_world(target, view, view.T_world_camera, frames)
    T_world_frame, R = inverse(T_frame_world), T_frame_world[:3, :3]
    position, camera = transform(T_world_frame, target.position), view.T_world_camera[:3, 3]
    covariance = np.zeros((6, 6))
    covariance[:3, :3] = target.covariance
    heading = yaw_variance(position, camera, R.T @ target.covariance @ R)
    covariance[3:, 3:] = R @ np.diag([_UPRIGHT, _UPRIGHT, heading]) @ R.T
    plane = flat_around(view, target.pixel)
    T_frame_surface = None
    if plane is not None:
        normal = view.T_world_camera[:3, :3] @ plane.normal
        T_frame_surface = T_frame_world @ grasp_along_normal(position, normal).T_frame_at
    header = Header(stamp=to_time(target.stamp_ns), frame_id=target.frame_id)
    return TargetPoses(header, T_frame_world @ target_pose(position, camera), covariance, T_frame_surface)


def _frame_from_world(target: Target, view: View, T_world_camera: np.ndarray, frames: FrameLookup | None) -> np.ndarray:
    if target.frame_id == view.world_frame:
        return np.eye(4)
    if target.frame_id == view.frame_id:
        return inverse(T_world_camera)
    return lookup(frames, target.frame_id, view.world_frame, view.stamp_ns)


class TargetTopics:
    """``~/target`` with covariance, ``~/target_pose``, and ``~/surface_pose`` where it is flat; all latched."""

    def __init__(self, node: Node):
        self._node = node
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._target = node.create_publisher(PoseWithCovarianceStamped, "~/target", latched)
        self._pose = node.create_publisher(PoseStamped, "~/target_pose", latched)
        self._surface = node.create_publisher(PoseStamped, "~/surface_pose", latched)

    def publish(self, answer: Answer, frames: FrameLookup | None) -> TargetPoses | None:
        """Publish the poses of an answer, if it has any, and return them."""
        try:
            poses = poses_of(answer, frames)
        except ReferError as error:
            self._node.get_logger().warning(f"target not published: {error}", throttle_duration_sec=5.0)
            return None
        if poses is None:
            return None
        pose = pose_to_message(poses.T_frame_target)
        covariance = poses.covariance.ravel().tolist()
        self._target.publish(
            PoseWithCovarianceStamped(header=poses.header, pose=PoseWithCovariance(pose=pose, covariance=covariance))
        )
        self._pose.publish(PoseStamped(header=poses.header, pose=pose))
        if poses.T_frame_surface is not None:
            self._surface.publish(PoseStamped(header=poses.header, pose=pose_to_message(poses.T_frame_surface)))
        return poses
