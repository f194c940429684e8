"""The node while its model takes long: nobody waits longer than asked, and everything else goes on."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("roboref_msgs", reason="ros2_ws is not built: make setup")

import rclpy
import roboref_ros.node
from action_msgs.msg import GoalStatus
from fake_rgbd import AHEAD, WALL_POINT, FakeCamera, pixel_of
from geometry_msgs.msg import PoseStamped
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from roboref_core.errors import ErrorCode
from roboref_core.models.model_answer import Outcome
from roboref_core.models.pointing_model import Prediction
from roboref_core.referring.answer import Status
from roboref_core.referring.query import Query
from roboref_msgs.action import ReferPoint as ReferAction
from roboref_msgs.msg import ReferQuery
from roboref_msgs.srv import ListViews
from roboref_ros.clients import ReferClient
from sensor_msgs.msg import Image


class PatientModel:
    """Points at one pixel, when it is let."""

    name = "patient"

    def __init__(self):
        self.running = threading.Semaphore(0)
        self.go = threading.Event()

    def predict(self, request):
        self.running.release()
        assert self.go.wait(30)
        if request.text == "fail":
            raise RuntimeError("the model is broken")
        return Prediction("there", Outcome.VISIBLE, np.array([pixel_of(WALL_POINT, AHEAD)]))


@pytest.fixture
def setting(domain, monkeypatch):
    """The node in this process, with a model of ours, and a camera that has shown it a view."""
    model = PatientModel()
    monkeypatch.setattr(roboref_ros.node, "load_model", lambda *_: model)
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    overrides = {"pose.source": "pose", "inference.queue_size": 2, "refer.max_view_age": 1e6}
    node = roboref_ros.node.RoborefNode(
        context=context, parameter_overrides=[Parameter(name, value=value) for name, value in overrides.items()]
    )
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin)
    thread.start()
    topics = {name: f"/{name}/image_raw" for name in ("color", "depth")} | {"pose": "/pose"}
    topics |= {f"{name}_info": f"/{name}/camera_info" for name in ("color", "depth")}
    camera = FakeCamera(domain, topics, "/roboref", {"color": Image, "depth": Image, "pose": PoseStamped})
    camera.wait_for_node()
    camera.see(AHEAD)
    yield model, camera
    model.go.set()
    camera.close()
    executor.shutdown()
    thread.join()
    node.close()
    node.destroy_node()
    context.shutdown()


def test_a_deadline_is_kept_while_the_model_runs(setting):
    model, camera = setting
    started = time.monotonic()
    answer = camera.client.refer(Query("it", timeout=0.2))
    assert (answer.status, answer.error_code) == (Status.ERROR, ErrorCode.TIMEOUT)
    assert "0.2 s" in answer.error_msg
    assert time.monotonic() - started < 10
    model.go.set()
    answer = camera.client.refer(Query("it"))
    assert answer.status == Status.FOUND, "and the node answers again"
    p = answer.targets[0].position
    np.testing.assert_allclose((p.x, p.y, p.z), WALL_POINT, atol=0.001)


def ask_until_it_has_time(client: ReferClient):
    while (answer := client.refer(Query("it"))).error_code == ErrorCode.BUSY:
        time.sleep(0.01)
    return answer


def test_everything_else_goes_on(setting):
    """The executor takes images and serves views, and a full queue is refused at once."""
    model, camera = setting
    with ThreadPoolExecutor(3) as pool:
        clients = [ReferClient(camera.node) for _ in range(3)]
        assert all(client.wait(10) for client in clients)
        asked = [pool.submit(ask_until_it_has_time, client) for client in clients]
        assert model.running.acquire(timeout=10)
        view = camera.see(AHEAD)
        assert camera.call(ListViews, "list_views").views[0].view_id == view.view_id
        # One runs, two wait: the next must be told so, whenever those have come in.
        busy = camera.eventually(
            lambda: camera.client.refer(Query("one too many", timeout=0.1)),
            lambda answer: answer.error_code == ErrorCode.BUSY,
        )
        assert "waiting" in busy.error_msg
        model.go.set()
        answers = [future.result(30) for future in asked]
    for client in clients:
        client.close()
    assert {answer.status for answer in answers} == {Status.FOUND}
    assert max(answer.queue_time.sec + answer.queue_time.nanosec * 1e-9 for answer in answers) > 0


def test_a_model_that_fails_has_its_code_and_stays(setting):
    model, camera = setting
    model.go.set()
    answer = camera.client.refer(Query("fail"))
    assert (answer.status, answer.error_code) == (Status.ERROR, ErrorCode.INFERENCE_FAILED)
    assert "the model is broken" in answer.error_msg
    assert camera.client.refer(Query("it")).status == Status.FOUND


def test_a_question_from_a_callback_of_the_asking_node(setting):
    """Waiting in a callback for one's own executor is the classic deadlock."""
    model, camera = setting
    model.go.set()
    answers = []
    timer = camera.node.create_timer(0.01, lambda: (timer.cancel(), answers.append(camera.client.refer(Query("it")))))
    deadline = time.monotonic() + 20
    while not answers:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert answers[0].status == Status.FOUND


def test_nobody_there(domain):
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    node = rclpy.create_node("lonely", context=context)
    client = ReferClient(node, "/nobody")
    assert not client.wait(0.05)
    with pytest.raises(TimeoutError, match="/nobody/refer_point"):
        client.refer(Query("it"), timeout=0.1)
    client.close()
    node.destroy_node()
    context.shutdown()


@pytest.fixture
def action(setting):
    model, camera = setting
    client = ActionClient(camera.node, ReferAction, "/roboref/refer_point")
    assert client.wait_for_server(10)
    yield model, camera, client
    client.destroy()


def result_of(future, timeout: float = 10.0):
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    assert done.wait(timeout)
    return future.result()


def test_an_action_is_answered_as_the_service_is(action):
    model, _, client = action
    feedback = []
    goal = result_of(client.send_goal_async(ReferAction.Goal(query=ReferQuery(text="it")), feedback.append))
    assert goal.accepted
    deadline = time.monotonic() + 10
    while not feedback:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert feedback[-1].feedback.state == ReferAction.Feedback.INFERRING
    model.go.set()
    result = result_of(goal.get_result_async())
    assert (result.status, result.result.answer.status) == (GoalStatus.STATUS_SUCCEEDED, Status.FOUND)


def test_an_action_is_cancelled_while_it_runs_and_while_it_waits(action):
    model, camera, client = action
    goals = [
        result_of(client.send_goal_async(ReferAction.Goal(query=ReferQuery(text=text)))) for text in ("runs", "waits")
    ]
    assert model.running.acquire(timeout=10)
    for goal in reversed(goals):
        result_of(goal.cancel_goal_async())
        result = result_of(goal.get_result_async())
        assert (result.status, result.result.answer.error_code) == (GoalStatus.STATUS_CANCELED, ErrorCode.CANCELED)
    model.go.set()
    assert camera.client.refer(Query("it")).status == Status.FOUND, "and the node answers again"


def test_an_action_that_fails_is_aborted_with_the_code(action):
    model, _, client = action
    model.go.set()
    goal = result_of(client.send_goal_async(ReferAction.Goal(query=ReferQuery(text="fail"))))
    result = result_of(goal.get_result_async())
    assert (result.status, result.result.answer.error_code) == (
        GoalStatus.STATUS_ABORTED,
        ErrorCode.INFERENCE_FAILED,
    )
