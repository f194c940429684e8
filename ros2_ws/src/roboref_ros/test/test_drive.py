"""Driving over DDS: something that answers, something that follows goals, and `go_to` between them."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("roboref_msgs", reason="ros2_ws is not built: make setup")

import rclpy
from action_msgs.msg import GoalStatus
from geometry_msgs.msg import PoseStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from roboref_core.geometry.pose import look_at
from roboref_core.pursuit import End, Step
from roboref_msgs.msg import ReferAnswer, ReferenceView, ReferredTarget
from roboref_msgs.srv import ReferPoint
from roboref_ros.conversions import pose_to_message
from roboref_ros.go_to import GoTo
from roboref_ros.goals import ActionGoals


class World:
    """A robot that drives to /goal_pose at 1.5 m/s, and a node that says where the thing seems to be from there.

    Args:
        seems: (2,) of the robot -> (2,) of the thing, or None where it is not seen.
    """

    def __init__(self, domain: int, seems, frame: str = "map"):
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("roboref", context=self.context)
        self.place, self.goals, self._seems, self._frame = np.zeros(2), [], seems, frame
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._views = self.node.create_publisher(ReferenceView, "/roboref/view", latched)
        self.node.create_service(ReferPoint, "/roboref/refer_point", self._answer)
        self.node.create_subscription(PoseStamped, "/goal_pose", self._on_goal, 10)
        self.node.create_timer(0.05, self._move)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def _on_goal(self, goal: PoseStamped) -> None:
        self.goals.append(np.array([goal.pose.position.x, goal.pose.position.y]))

    def _move(self) -> None:
        if self.goals:
            way = self.goals[-1] - self.place
            self.place = self.place + way * min(1.0, 0.075 / max(float(np.linalg.norm(way)), 1e-9))
        view = ReferenceView(view_id="v", has_camera_pose=True)
        view.camera_pose.header.frame_id = self._frame
        T = look_at((*self.place, 1.0), (self.place[0] + 1.0, self.place[1], 0.8))
        view.camera_pose.pose = pose_to_message(T)
        self._views.publish(view)

    def _answer(self, _, response):
        thing = self._seems(self.place)
        response.answer.status = ReferAnswer.STATUS_NOT_VISIBLE
        if thing is not None:
            target = ReferredTarget(depth_source=ReferredTarget.DEPTH_SENSOR)
            target.position.x, target.position.y = map(float, thing)
            target.header.frame_id = self._frame
            response.answer.status, response.answer.targets = ReferAnswer.STATUS_FOUND, [target]
        return response

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join(5.0)
        self.node.destroy_node()
        self.context.shutdown()


@pytest.fixture
def drive(domain):
    """Runs go_to in a world; (decision, world)."""
    opened = []

    def run(seems, frame="map", during=None, **parameters):
        world = World(domain, seems, frame)
        values = {"ask_every": 0.2, "timeout": 25.0, "lost_after": 3, "look_around": 2} | parameters
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        node = GoTo(context=world.context, parameter_overrides=overrides)
        opened.extend([node, world])
        if during is not None:
            threading.Thread(target=during, args=(node, world), daemon=True).start()
        return node.run("the chair"), world

    yield run
    for each in opened:
        each.close()


def test_it_arrives_at_the_stated_distance(drive):
    decision, world = drive(lambda place: (3.0, 1.0), distance=0.8)
    assert decision.step is Step.ARRIVED, decision.text
    assert abs(np.linalg.norm(world.place - (3.0, 1.0)) - 0.8) < 0.3
    assert len(world.goals) == 1


def test_a_better_look_on_the_way_corrects_it(drive):
    decision, world = drive(lambda place: (3.0, 1.0) if place[0] < 1.0 else (3.4, 0.4))
    assert decision.step is Step.ARRIVED, decision.text
    assert len(world.goals) == 2
    assert abs(np.linalg.norm(world.place - (3.4, 0.4)) - 0.8) < 0.3


def test_what_is_gone_on_the_way_is_lost_and_the_robot_stands(drive):
    decision, world = drive(lambda place: (3.0, 1.0) if place[0] < 0.8 else None)
    assert decision.end is End.LOST and decision.text.startswith("lost after 5 questions")
    time.sleep(0.5)
    stopped = world.place.copy()
    time.sleep(0.5)
    assert np.linalg.norm(world.place - stopped) < 0.01
    assert np.linalg.norm(world.place - (3.0, 1.0)) > 1.0


def test_interrupted_the_goal_is_taken_back(drive):
    def interrupt(node, world):
        while not world.goals:
            time.sleep(0.02)
        time.sleep(0.5)
        node.cancel()

    decision, world = drive(lambda place: (6.0, 0.0), during=interrupt)
    assert decision.end is End.INTERRUPTED
    time.sleep(0.5)
    assert np.linalg.norm(world.place - (6.0, 0.0)) > 3.0


def test_a_place_in_another_frame_is_refused(drive):
    decision, world = drive(lambda place: (3.0, 1.0), frame="odom")
    assert decision.end is End.NOT_DRIVEN and "'odom'" in decision.text and "'map'" in decision.text
    assert not world.goals


class Navigation:
    """Stands for an action client: takes goals or not, and ends them as it is told."""

    def __init__(self, accepted: bool = True):
        self.cancelled, self.result = 0, Future()
        self._accepted = accepted

    def send_goal_async(self, goal) -> Future:
        def cancel():
            self.cancelled += 1

        handle = SimpleNamespace(
            accepted=self._accepted, get_result_async=lambda: self.result, cancel_goal_async=cancel
        )
        taken = Future()
        taken.set_result(handle)
        return taken


@pytest.fixture
def action():
    clock = SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=0))
    node = SimpleNamespace(get_clock=lambda: clock)
    return lambda client: ActionGoals(node, client, lambda pose: pose, lambda future, seconds: None)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (GoalStatus.STATUS_ABORTED, "the navigation aborted the goal"),
        (GoalStatus.STATUS_CANCELED, "the navigation cancelled the goal"),
        (GoalStatus.STATUS_SUCCEEDED, ""),
    ],
)
def test_how_a_goal_of_the_action_ends_is_read(action, status, text):
    client = Navigation()
    goals = action(client)
    goals.send(np.eye(4), "map")
    assert goals.problem() == ""
    client.result.set_result(SimpleNamespace(status=status))
    assert goals.problem() == text
    goals.take_back(None, "map")
    assert client.cancelled == 0


def test_a_goal_that_is_rejected_or_under_way(action):
    rejected = action(Navigation(accepted=False))
    rejected.send(np.eye(4), "map")
    assert rejected.problem() == "the navigation rejected the goal"
    rejected.take_back(None, "map")
    client = Navigation()
    goals = action(client)
    goals.send(np.eye(4), "map")
    goals.take_back(None, "map")
    assert client.cancelled == 1
