"""Goals for whatever drives the robot: Nav2's NavigateToPose where it is served, else the topic /goal_pose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from action_msgs.msg import GoalStatus
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node

from roboref_ros.conversions import pose_to_message, to_time

# Longest wait for an action server to appear, and for it to take a goal [s].
_SERVER_SECONDS, _TAKE_SECONDS = 2.0, 5.0
_GIVEN_UP = {GoalStatus.STATUS_ABORTED: "aborted", GoalStatus.STATUS_CANCELED: "cancelled"}


class Goals(Protocol):
    """Where goals of the robot's base, 4x4 poses in a named frame, are sent."""

    def send(self, T_frame_base: np.ndarray, frame: str) -> None:
        """Replace the goal before."""

    def problem(self) -> str:
        """Why the newest goal will not be reached, "" as long as it may be."""

    def take_back(self, T_frame_base: np.ndarray | None, frame: str) -> None:
        """Give up the goal; the robot stands at ``T_frame_base``, where that is known. Does not wait."""


class TopicGoals:
    """/goal_pose, which Nav2 takes too. Nobody answers on a topic, so there is never a problem to tell."""

    def __init__(self, node: Node):
        self._node = node
        self._publisher = node.create_publisher(PoseStamped, "/goal_pose", 1)
        self._sent = False

    def send(self, T_frame_base: np.ndarray, frame: str) -> None:
        self._publisher.publish(stamped(self._node, T_frame_base, frame))
        self._sent = True

    def problem(self) -> str:
        return ""

    def take_back(self, T_frame_base: np.ndarray | None, frame: str) -> None:
        """The place where the robot stands becomes its goal."""
        if self._sent and T_frame_base is not None:
            self.send(T_frame_base, frame)
        self._sent = False


class ActionGoals:
    """An action that navigates to a pose.

    Args:
        client: an rclpy ActionClient of it.
        make_goal: its goal message for a pose.
        wait: waits until a future is done, or for so many seconds.
    """

    def __init__(
        self,
        node: Node,
        client: Any,
        make_goal: Callable[[PoseStamped], Any],
        wait: Callable[[Any, float], None],
    ):
        self._node, self._client, self._make_goal, self._wait = node, client, make_goal, wait
        self._handle: Any = None
        self._result: Any = None
        self._problem = ""

    def send(self, T_frame_base: np.ndarray, frame: str) -> None:
        future = self._client.send_goal_async(self._make_goal(stamped(self._node, T_frame_base, frame)))
        self._wait(future, _TAKE_SECONDS)
        if not future.done():
            self._problem = f"the navigation did not take a goal within {_TAKE_SECONDS:g} s"
            # Whenever it is taken, nobody waits for it any more.
            future.add_done_callback(lambda late: late.result().accepted and late.result().cancel_goal_async())
            return
        handle = future.result()
        if not handle.accepted:
            self._problem = "the navigation rejected the goal"
            return
        # The one before is replaced, so that its end tells nothing.
        self._handle, self._result = handle, handle.get_result_async()

    def problem(self) -> str:
        if not self._problem and self._result is not None and self._result.done():
            status = self._result.result().status
            if status in _GIVEN_UP:
                self._problem = f"the navigation {_GIVEN_UP[status]} the goal"
        return self._problem

    def take_back(self, T_frame_base: np.ndarray | None, frame: str) -> None:
        handle, self._handle = self._handle, None
        if handle is not None and not self._result.done():
            handle.cancel_goal_async()


def goals_for(node: Node, wait: Callable[[Any, float], None]) -> Goals:
    """Nav2's action where nav2_msgs is installed and somebody serves it within two seconds; else the topic.

    Args:
        wait: waits until a future is done, or for so many seconds, while the node spins.
    """
    try:
        from nav2_msgs.action import NavigateToPose
    except ImportError:
        return TopicGoals(node)
    from roboref_ros.action_client import ActionClient

    client = ActionClient(node, NavigateToPose, "navigate_to_pose")
    if not client.wait_for_server(_SERVER_SECONDS):
        client.destroy()
        return TopicGoals(node)
    return ActionGoals(node, client, lambda pose: NavigateToPose.Goal(pose=pose), wait)


def stamped(node: Node, T_frame_base: np.ndarray, frame: str) -> PoseStamped:
    goal = PoseStamped(pose=pose_to_message(T_frame_base))
    goal.header.frame_id, goal.header.stamp = frame, to_time(node.get_clock().now().nanoseconds)
    return goal
