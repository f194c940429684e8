"""`ros2 run roboref_ros go_to "the red chair"`: asks where it is, sends goals, asks again on the way, and stops there.

Goals go to Nav2's NavigateToPose where nav2_msgs is installed, else to the topic /goal_pose, which Nav2 takes too.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import OccupancyGrid, Odometry
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.utilities import remove_ros_args
from roboref_core.approach import OccupancyMap, approach
from roboref_core.geometry.pose import from_quaternion
from roboref_core.referring.query import Query
from roboref_msgs.msg import ReferAnswer, ReferredTarget

from roboref_ros.clients import ReferClient
from roboref_ros.conversions import pose_to_message, to_time


@dataclass(frozen=True)
class GoToConfig:
    """How a target is approached.

    Attributes:
        distance: to stop before the target [m].
        radius: of the robot [m].
        arrived: this near to the standing place is there [m].
        correction: a target that moves further than this gets a new goal [m].
        lost_after: questions in a row without the target, after which it is lost.
        ask_every: time between questions on the way [s].
        timeout: longest way [s].
    """

    distance: float = 0.8
    radius: float = 0.25
    arrived: float = 0.25
    correction: float = 0.15
    lost_after: int = 5
    ask_every: float = 1.0
    timeout: float = 120.0


class Step(Enum):
    """What to do after an answer."""

    GO = "go"
    WAIT = "wait"
    ARRIVED = "arrived"
    FAILED = "failed"


@dataclass(frozen=True, eq=False)
class Decision:
    """Attributes:
    step: what to do.
    T_map_goal: 4x4 of the base, with GO.
    text: why, for a person.
    """

    step: Step
    T_map_goal: np.ndarray | None = None
    text: str = ""


class Pursuit:
    """Decides from answer to answer; knows nothing of topics."""

    def __init__(self, config: GoToConfig):
        self._config = config
        self._target: np.ndarray | None = None
        self._goal: np.ndarray | None = None
        self._missed = 0
        self.corrections = 0

    def on_answer(self, answer: ReferAnswer, place: np.ndarray, grid: OccupancyMap | None) -> Decision:
        """Args: place: (2,) of the robot in the answer's frame [m]."""
        seen = _best(answer)
        remembered = None if seen is not None or not answer.last_known else _located(answer.last_known[0].target)
        position, covariance = seen or remembered or (None, None)
        if position is None:
            self._missed += 1
            if self._missed >= self._config.lost_after:
                reason = answer.error_msg or "it is not visible, and was not seen before"
                return Decision(Step.FAILED, text=f"lost after {self._missed} questions: {reason}")
            return Decision(Step.WAIT, text="not found")
        if seen is not None:
            self._missed = 0
        elif self._goal is not None and self._progress(place).step is Step.ARRIVED:
            # There, but the thing is not: a place from memory is where to look, never where it is.
            self._missed += 1
            if self._missed >= self._config.lost_after:
                return Decision(Step.FAILED, text="lost: it is not seen where it was seen last")
            return Decision(Step.WAIT, text="not seen where it was seen last")
        moved = self._target is None or np.linalg.norm(position[:2] - self._target[:2]) > self._config.correction
        if self._goal is not None and not moved:
            return self._progress(place)
        found = approach(position, covariance, place, self._config.distance, self._config.radius, grid)
        if found.T_map_base is None:
            assert found.failure is not None
            return Decision(Step.FAILED, text=found.failure.value)
        self.corrections += self._goal is not None
        self._target, self._goal = position, found.T_map_base
        if np.linalg.norm(place - self._goal[:2, 3]) <= self._config.arrived:
            return self._progress(place)
        what = "corrected" if self.corrections else "seen" if seen else "seen before"
        return Decision(Step.GO, self._goal, f"{what} at ({position[0]:.2f}, {position[1]:.2f})")

    def _progress(self, place: np.ndarray) -> Decision:
        assert self._goal is not None
        left = float(np.linalg.norm(place - self._goal[:2, 3]))
        if left <= self._config.arrived:
            return Decision(Step.ARRIVED, text=f"{left:.2f} m from the standing place")
        return Decision(Step.WAIT, text=f"{left:.2f} m to go")


def _best(answer: ReferAnswer) -> tuple[np.ndarray, np.ndarray | None] | None:
    return _located(answer.targets[0]) if answer.status == answer.STATUS_FOUND and answer.targets else None


def _located(target: ReferredTarget) -> tuple[np.ndarray, np.ndarray | None] | None:
    position = np.array([target.position.x, target.position.y, target.position.z])
    if target.depth_source == target.DEPTH_NONE or not np.isfinite(position).all():
        return None
    full = target.covariance_type == target.COVARIANCE_FULL
    return position, np.array(target.position_covariance).reshape(3, 3) if full else None


class GoTo(Node):
    """Asks and drives. Parameters: the fields of GoToConfig, `frame` (of the map), `node` (that is asked)."""

    def __init__(self) -> None:
        super().__init__("go_to")
        defaults = GoToConfig()
        values = {name: self.declare_parameter(name, value).value for name, value in vars(defaults).items()}
        self._config = GoToConfig(**values)
        self._frame = self.declare_parameter("frame", "map").value
        self._client = ReferClient(self, self.declare_parameter("node", "/roboref").value)
        self._place: np.ndarray | None = None
        self._grid: OccupancyMap | None = None
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.create_subscription(Odometry, "odom", self._on_odometry, 10)
        self.create_subscription(OccupancyGrid, "map", self._on_map, latched)
        self._goals = self.create_publisher(PoseStamped, "/goal_pose", 1)
        self._navigate, self._handle = _navigate_client(self), None

    def run(self, text: str) -> Decision:
        """Until the robot is there, the target is lost, or time is up; unless it is there, our goal is taken back."""
        pursuit, end = Pursuit(self._config), time.monotonic() + self._config.timeout
        decision = Decision(Step.FAILED, text="no pose of the robot on odom")
        try:
            while time.monotonic() < end:
                self._spin(self._config.ask_every)
                if self._place is None:
                    continue
                try:
                    query = Query(text, target_frame=self._frame, search_memory=True)
                    answer = self._client.refer(query, min(10.0, end - time.monotonic()))
                except TimeoutError as error:
                    decision = Decision(Step.FAILED, text=str(error))
                    return decision
                decision = pursuit.on_answer(answer, self._place, self._grid)
                self.get_logger().info(f"{decision.step.value}: {decision.text}")
                if decision.step in (Step.ARRIVED, Step.FAILED):
                    return decision
                if decision.T_map_goal is not None:
                    self._send(decision.T_map_goal)
            return Decision(Step.FAILED, text=f"not there after {self._config.timeout:g} s; last: {decision.text}")
        finally:
            if decision.step is not Step.ARRIVED:
                self._stop()

    def close(self) -> None:
        self._client.close()
        self.destroy_node()

    def _spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            rclpy.spin_once(self, timeout_sec=left)

    def _on_odometry(self, message: Odometry) -> None:
        if message.header.frame_id != self._frame:
            self.get_logger().error(
                f"odom: poses are in {message.header.frame_id!r}, goals in {self._frame!r}: set the parameter frame",
                throttle_duration_sec=5.0,
            )
            return
        p = message.pose.pose.position
        self._place = np.array([p.x, p.y])

    def _on_map(self, message: OccupancyGrid) -> None:
        try:
            self._grid = occupancy_map(message)
        except ValueError as error:
            self.get_logger().error(f"map: {error}: driving without it")

    def _send(self, T_map_goal: np.ndarray) -> None:
        goal = PoseStamped(pose=pose_to_message(T_map_goal))
        goal.header.frame_id, goal.header.stamp = self._frame, to_time(self.get_clock().now().nanoseconds)
        if self._navigate is None:
            self._goals.publish(goal)
            return
        from nav2_msgs.action import NavigateToPose

        future = self._navigate.send_goal_async(NavigateToPose.Goal(pose=goal))
        rclpy.spin_until_future_complete(self, future, timeout_sec=5.0)
        self._handle = future.result() if future.done() else None

    def _stop(self) -> None:
        """Cancel what was sent; without an action, stand where we are."""
        if self._handle is not None:
            rclpy.spin_until_future_complete(self, self._handle.cancel_goal_async(), timeout_sec=5.0)
        elif self._navigate is None and self._place is not None:
            T = np.eye(4)
            T[:2, 3] = self._place
            self._send(T)


def occupancy_map(message: OccupancyGrid) -> OccupancyMap:
    """The map of a message. Raises ValueError if its origin is rotated or its data has another size."""
    info = message.info
    q = info.origin.orientation
    turned = (q.x, q.y, q.z, q.w) != (0, 0, 0, 0)
    if turned and not np.allclose(from_quaternion((q.x, q.y, q.z, q.w)), np.eye(4), atol=1e-6):
        raise ValueError("its origin is rotated, which is not supported")
    if len(message.data) != info.width * info.height:
        raise ValueError(f"it has {len(message.data)} cells, its size is {info.width}x{info.height}")
    occupancy = np.array(message.data, dtype=np.int8).reshape(info.height, info.width)
    return OccupancyMap(occupancy, info.resolution, (info.origin.position.x, info.origin.position.y))


def _navigate_client(node: Node) -> Any:
    """Client of Nav2's action, or None where nav2_msgs is not installed or nobody serves it within two seconds."""
    try:
        from nav2_msgs.action import NavigateToPose
    except ImportError:
        return None
    from rclpy.action import ActionClient

    client = ActionClient(node, NavigateToPose, "navigate_to_pose")
    return client if client.wait_for_server(2.0) else None


def main() -> int:
    """Returns 0 if the robot is there, 1 if not, 2 for wrong usage."""
    rclpy.init(args=sys.argv)
    words = remove_ros_args(sys.argv)[1:]
    if not words:
        print('usage: ros2 run roboref_ros go_to "the red chair" [--ros-args -p distance:=0.8 ...]', file=sys.stderr)
        return 2
    node = GoTo()
    try:
        decision = node.run(" ".join(words))
    except KeyboardInterrupt:
        return 1
    finally:
        node.close()
        rclpy.try_shutdown()
    print(f"{decision.step.value}: {decision.text}")
    return 0 if decision.step is Step.ARRIVED else 1
