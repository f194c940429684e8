"""Questions as an action: progress, cancel in every state, preemption, slow clients, and codes as the service's."""

from __future__ import annotations

import threading
import time

import pytest

pytest.importorskip("roboref_msgs", reason="ros2_ws is not built: make setup")

from action_msgs.msg import GoalStatus
from fake_rgbd import AHEAD
from in_process import patient, result_of
from rclpy.parameter import Parameter
from roboref_core.errors import ErrorCode
from roboref_core.referring.answer import Status
from roboref_core.referring.query import Query
from roboref_core.referring.stage import Stage
from roboref_msgs.action import ReferPoint
from roboref_msgs.msg import ReferQuery
from roboref_ros.action_client import ActionClient
from roboref_ros.conversions import to_duration


def test_stages_are_the_messages():
    assert {stage.name: int(stage) for stage in Stage} == {
        name: getattr(ReferPoint.Feedback, name) for name in ("QUEUED", "WAITING_FOR_VIEW", "INFERRING", "LOCATING")
    }


class Asker:
    """Sends goals and keeps their feedback."""

    def __init__(self, camera):
        self._client = ActionClient(camera.node, ReferPoint, "/roboref/refer_point")
        assert self._client.wait_for_server(10)
        self._changed = threading.Condition()
        self.feedback = {}

    def send(self, text: str, **query):
        self.feedback[text] = []

        def on_feedback(message):
            with self._changed:
                self.feedback[text].append(message.feedback)
                self._changed.notify_all()

        goal = ReferPoint.Goal(query=ReferQuery(text=text, **query))
        return result_of(self._client.send_goal_async(goal, on_feedback))

    def wait_for(self, text: str, state: Stage, position: int = 0):
        with self._changed:
            assert self._changed.wait_for(
                lambda: any(f.state == state and f.queue_position == position for f in self.feedback[text]), 10
            ), (text, self.feedback[text])

    def close(self):
        self._client.destroy()


@pytest.fixture
def action(domain, monkeypatch):
    with patient(domain, monkeypatch) as (model, node, camera):
        asker = Asker(camera)
        yield model, node, camera, asker
        asker.close()


def end_of(goal):
    result = result_of(goal.get_result_async())
    return result.status, ErrorCode(result.result.answer.error_code), result.result.answer


def assert_cancelled(goal) -> None:
    result_of(goal.cancel_goal_async())
    status, code, _ = end_of(goal)
    assert (status, code) == (GoalStatus.STATUS_CANCELED, ErrorCode.CANCELED)


def test_every_stage_is_told_in_its_order(action):
    model, _, camera, asker = action
    first = asker.send("first")
    asker.wait_for("first", Stage.WAITING_FOR_VIEW)
    camera.see(AHEAD)
    assert model.running.acquire(timeout=10)
    asker.wait_for("first", Stage.INFERRING)
    for position, text in enumerate(("second", "third")):
        asker.send(text)
        asker.wait_for(text, Stage.QUEUED, position)
    model.go.set()
    status, code, answer = end_of(first)
    assert (status, code, answer.status) == (GoalStatus.STATUS_SUCCEEDED, ErrorCode.NONE, Status.FOUND)
    asker.wait_for("first", Stage.LOCATING)
    states = [feedback.state for feedback in asker.feedback["first"]]
    order = [state for i, state in enumerate(states) if i == 0 or state != states[i - 1]]
    assert order in (
        [Stage.WAITING_FOR_VIEW, Stage.QUEUED, Stage.INFERRING, Stage.LOCATING],
        [Stage.QUEUED, Stage.WAITING_FOR_VIEW, Stage.QUEUED, Stage.INFERRING, Stage.LOCATING],
    )


def test_cancel_in_every_state(action):
    """Waiting for a view, queued, running: the model is told, and the next one is answered."""
    model, _, camera, asker = action
    goal = asker.send("blind")
    asker.wait_for("blind", Stage.WAITING_FOR_VIEW)
    assert_cancelled(goal)
    camera.see(AHEAD)
    running, queued = asker.send("runs"), asker.send("waits")
    asker.wait_for("runs", Stage.INFERRING)
    asker.wait_for("waits", Stage.QUEUED)
    assert_cancelled(queued)
    assert_cancelled(running)
    deadline = time.monotonic() + 10
    while not model.ended:
        assert time.monotonic() < deadline, "the model goes on for nobody"
        time.sleep(0.01)
    assert model.ended == ["ReferError"], "the queued and the blind question never reached it"
    model.go.set()
    assert camera.client.refer(Query("it")).status == Status.FOUND


def test_a_view_that_never_comes_has_the_services_code(action):
    model, _, camera, asker = action
    model.go.set()
    _, code, answer = end_of(asker.send("it", timeout=to_duration(0.3)))
    assert code == ErrorCode.NO_VIEW and "/color/image_raw" in answer.error_msg
    assert camera.client.refer(Query("it")).error_code == ErrorCode.NO_VIEW, "which does not wait for one"


def test_an_action_that_fails_is_aborted_with_the_code(action):
    model, _, camera, asker = action
    camera.see(AHEAD)
    model.go.set()
    status, code, _ = end_of(asker.send("fail"))
    assert (status, code) == (GoalStatus.STATUS_ABORTED, ErrorCode.INFERENCE_FAILED)


def test_preemption(action):
    model, node, camera, asker = action
    camera.see(AHEAD)
    older = [asker.send("runs"), asker.send("waits")]
    asker.wait_for("runs", Stage.INFERRING)
    asker.wait_for("waits", Stage.QUEUED)
    assert node.set_parameters([Parameter("action.preemption", value="reject")])[0].successful
    assert not asker.send("no").accepted
    assert node.set_parameters([Parameter("action.preemption", value="newest")])[0].successful
    newest = asker.send("newest")
    for goal in older:
        status, code, answer = end_of(goal)
        assert (status, code) == (GoalStatus.STATUS_ABORTED, ErrorCode.CANCELED)
        assert "newer goal" in answer.error_msg
    model.go.set()
    assert end_of(newest)[0] == GoalStatus.STATUS_SUCCEEDED
    assert node.set_parameters([Parameter("action.preemption", value="reject")])[0].successful
    assert asker.send("it").accepted, "nothing is under way"
    assert not node.set_parameters([Parameter("action.preemption", value="oldest")])[0].successful


def test_a_goal_survives_a_client_that_asks_late(action):
    model, _, camera, asker = action
    camera.see(AHEAD)
    model.go.set()
    goal = asker.send("it")
    asker.wait_for("it", Stage.LOCATING)
    time.sleep(1.0)
    assert end_of(goal)[0] == GoalStatus.STATUS_SUCCEEDED


def test_the_client_tells_the_progress_and_returns_the_answer(domain, monkeypatch):
    with patient(domain, monkeypatch) as (model, _, camera):
        camera.see(AHEAD)
        states = []

        def on_progress(feedback) -> None:
            states.append(Stage(feedback.state))
            model.go.set()

        answer = camera.client.refer_with_progress(Query("that"), on_progress, timeout=20)
        assert answer.status == Status.FOUND, answer.error_msg
        assert Stage.INFERRING in states


def test_the_client_cancels_what_takes_too_long(domain, monkeypatch):
    with patient(domain, monkeypatch) as (model, _, camera):
        camera.see(AHEAD)
        with pytest.raises(TimeoutError, match="cancelled"):
            camera.client.refer_with_progress(Query("that"), lambda _: None, timeout=2)
        deadline = time.monotonic() + 10
        while not model.ended and time.monotonic() < deadline:
            time.sleep(0.02)
        assert model.ended == ["ReferError"]


class SlowToNote(dict):
    """Requests that are pending, of a client that takes its time between sending one and noting it."""

    def __contains__(self, key):
        time.sleep(0.3)
        return super().__contains__(key)


def test_a_response_that_arrives_before_its_request_is_noted_is_not_lost(domain, monkeypatch):
    with patient(domain, monkeypatch) as (model, _, camera):
        model.go.set()
        client = ActionClient(camera.node, ReferPoint, "/roboref/refer_point")
        assert client.wait_for_server(10)
        for kind in ("goal", "result", "cancel"):
            setattr(client, f"_pending_{kind}_requests", SlowToNote())
        handle = result_of(client.send_goal_async(ReferPoint.Goal(query=ReferQuery(text="it"))))
        assert handle.accepted
        result_of(handle.cancel_goal_async())
        result_of(handle.get_result_async())
        client.destroy()
