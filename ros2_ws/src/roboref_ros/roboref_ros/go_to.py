"""`ros2 run roboref_ros go_to "the red chair"`: asks where it is, sends goals, asks again on the way, and stops."""

from __future__ import annotations

import signal
import sys
import threading
import time
from dataclasses import fields, replace
from types import FrameType
from typing import Any

import numpy as np
import rclpy
from nav_msgs.msg import OccupancyGrid
from rclpy.exceptions import InvalidParameterTypeException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from roboref_core.approach import Eye, OccupancyMap, facing
from roboref_core.geometry.pose import from_quaternion, inverse
from roboref_core.pursuit import Decision, End, GoToConfig, Pursuit, Step
from roboref_core.referring.query import Query
from roboref_msgs.msg import ReferenceView

from roboref_ros import mistyped
from roboref_ros.clients import ReferClient
from roboref_ros.conversions import answer_from_message, camera_from_info, pose_from_message
from roboref_ros.goals import goals_for
from roboref_ros.starting import complaint, initialise, words

# Longest wait for one answer on the way, and for a goal to be taken back at the end [s].
_ANSWER_SECONDS, _STOP_SECONDS = 10.0, 1.0


class GoTo(Node):
    """Asks and drives.

    Where the robot is comes from the node itself: the camera pose of its newest view, which is in the frame of its
    answers. Parameters: the fields of GoToConfig, `frame` (of goals and answers), `node` (that is asked), and
    `camera_ahead`, how far the camera sits before the robot's centre [m].
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("go_to", **kwargs)
        values = {field.name: self.declare_parameter(field.name, field.default).value for field in fields(GoToConfig)}
        self._config = GoToConfig(**values)
        self._frame: str = self.declare_parameter("frame", "map").value
        self._camera_ahead: float = self.declare_parameter("camera_ahead", 0.0).value
        asked: str = self.declare_parameter("node", "/roboref").value
        for text in mistyped.unknown(self):
            self.get_logger().warning(text)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self)
        self._client = ReferClient(self, asked)
        self._base: np.ndarray | None = None
        self._eye: Eye | None = None
        self._grid: OccupancyMap | None = None
        self._refused = ""
        self._cancelled = threading.Event()
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.create_subscription(ReferenceView, f"{asked}/view", self._on_view, latched)
        self.create_subscription(OccupancyGrid, "map", self._on_map, latched)
        self._goals = goals_for(self, self._executor.spin_until_future_complete)

    def run(self, question: str | Query) -> Decision:
        """Until the robot is there, the target is lost, or time is up; unless it is there, our goal is taken back.

        Args:
            question: words, or a query with marks; its frame and memory are ours.
        """
        decision = Decision.failed(End.INTERRUPTED, "interrupted")
        query = question if isinstance(question, Query) else Query(question)
        try:
            decision = self._drive(replace(query, target_frame=self._frame, search_memory=True))
        finally:
            if decision.step is not Step.ARRIVED:
                self._take_back()
        return decision

    def cancel(self) -> None:
        """End ``run`` from another thread, with the robot's goal taken back at once."""
        self._cancelled.set()
        self._take_back()

    def close(self) -> None:
        self._client.close()
        self._executor.shutdown()
        self.destroy_node()

    def _drive(self, query: Query) -> Decision:
        pursuit, end = Pursuit(self._config), time.monotonic() + self._config.timeout
        decision = Decision(Step.WAIT, text="no view of the node with a camera pose")
        while (left := end - time.monotonic()) > 0:
            self._spin(min(self._config.ask_every, left))
            if self._cancelled.is_set():
                return Decision.failed(End.INTERRUPTED, "interrupted")
            if self._refused:
                return Decision.failed(End.NOT_DRIVEN, self._refused)
            if self._base is None:
                continue
            try:
                answer = self._client.refer(query, min(_ANSWER_SECONDS, left))
            except TimeoutError as error:
                return Decision.failed(End.NO_ANSWER, str(error))
            if self._cancelled.is_set():
                return Decision.failed(End.INTERRUPTED, "interrupted")
            self._spin(0.0)  # where the robot is now, not before the answer
            decision = pursuit.on_answer(answer_from_message(answer), self._base, self._grid, self._eye)
            self.get_logger().info(f"{decision.step.value}: {decision.text}")
            if decision.step in (Step.ARRIVED, Step.FAILED):
                return decision
            if decision.T_map_goal is not None:
                self._goals.send(decision.T_map_goal, self._frame)
            if problem := self._goals.problem():
                return Decision.failed(End.NOT_DRIVEN, problem)
        return Decision.failed(End.TIMEOUT, f"not there after {self._config.timeout:g} s; last: {decision.text}")

    def _take_back(self) -> None:
        self._goals.take_back(self._base, self._frame)

    def _spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while True:
            self._executor.spin_once(max(0.0, end - time.monotonic()))
            if self._cancelled.is_set() or time.monotonic() >= end:
                return

    def _on_view(self, view: ReferenceView) -> None:
        if not view.has_camera_pose:
            return
        frame = view.camera_pose.header.frame_id
        if frame == self._frame:
            self._base = base_of(view, self._camera_ahead)
            self._eye = eye_of(view, self._base)
        else:
            self._refused = f"camera poses are in {frame!r}, goals in {self._frame!r}: set the parameter frame"

    def _on_map(self, message: OccupancyGrid) -> None:
        try:
            self._grid = occupancy_map(message)
        except ValueError as error:
            self.get_logger().error(f"map: {error}: driving without it")


_USAGE = """usage: ros2 run roboref_ros go_to WORDS [--ros-args -p distance:=0.8 -p node:=/roboref ...]

Asks the node where it is, drives there through Nav2 (or /goal_pose), and asks again on the way.

  ros2 run roboref_ros go_to "the red chair"
"""


def base_of(view: ReferenceView, camera_ahead: float = 0.0) -> np.ndarray:
    """4x4 of the robot's base on the floor, in the frame of a view's camera pose: below the camera, facing as it looks.

    Args:
        camera_ahead: how far the camera sits before the robot's centre [m].
    """
    T = pose_from_message(view.camera_pose.pose)
    ahead = T[:2, 2] / max(float(np.linalg.norm(T[:2, 2])), 1e-9)
    centre = T[:2, 3] - camera_ahead * ahead
    return facing(centre, centre + ahead)


def eye_of(view: ReferenceView, T_map_base: np.ndarray) -> Eye | None:
    """The camera on the robot; None for a view without usable intrinsics.

    Args:
        T_map_base: 4x4 of the base, in the frame of the view's camera pose.
    """
    try:
        camera = camera_from_info(view.camera_info)
    except ValueError:
        return None
    return Eye(camera, inverse(T_map_base) @ pose_from_message(view.camera_pose.pose))


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


def main() -> int:
    """Returns 0 if the robot is there, 1 if not, 2 for wrong usage."""
    given = words("go_to", _USAGE)
    if isinstance(given, int):
        return given
    if not given:
        print(_USAGE, end="", file=sys.stderr)
        return 2
    # Without rclpy's own handlers, which would end the context before the goal is taken back.
    if text := initialise():
        print(f"go_to: {text}", file=sys.stderr)
        return 2
    try:
        node = GoTo()
    except (InvalidParameterTypeException, RuntimeError) as error:
        if not (text := complaint(error)):
            raise
        print(f"go_to: {text}", file=sys.stderr)
        rclpy.try_shutdown()
        return 2
    ended = threading.Event()
    decisions: list[Decision] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        ended.set()

    def run() -> None:
        try:
            decisions.append(node.run(" ".join(given)))
        finally:
            ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    thread = threading.Thread(target=run, name="go_to")
    thread.start()
    # A signal's handler runs in this thread, which waits for nothing else.
    ended.wait()
    if not decisions:
        node.cancel()
        thread.join(_STOP_SECONDS + _ANSWER_SECONDS)
    node.close()
    rclpy.try_shutdown()
    decision = decisions[0] if decisions else Decision.failed(End.INTERRUPTED, "interrupted")
    print(f"{decision.step.value}: {decision.text}")
    return 0 if decision.step is Step.ARRIVED else 1
