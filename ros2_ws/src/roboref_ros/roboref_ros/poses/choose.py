"""The source of poses that the parameters name."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node

from roboref_ros.poses.base import PoseConfig, PoseSource
from roboref_ros.poses.topics import TopicPoses


def make_pose_source(node: Node, config: PoseConfig, qos_depth: int, on_pose: Callable[[], None]) -> PoseSource:
    """Args: on_pose: called from an executor thread when a new pose is there, unless the source must be polled.

    Raises ValueError: unknown source, unusable extrinsics, TF not installed.
    """
    if config.source == "tf":
        from roboref_ros.poses.tf import TfPoses

        return TfPoses(node, config)
    return TopicPoses(node, config, qos_depth, on_pose)
