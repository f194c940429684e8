"""The node while its model takes long: nobody waits longer than asked, and everything else goes on."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("roboref_msgs", reason="ros2_ws is not built: make setup")

import rclpy
from fake_rgbd import AHEAD, WALL_POINT
from in_process import patient
from roboref_core.errors import ErrorCode
from roboref_core.referring.answer import Status
from roboref_core.referring.query import Query
from roboref_msgs.srv import ListViews
from roboref_ros.clients import ReferClient


@pytest.fixture
def setting(domain, monkeypatch):
    """The node in this process, with a model of ours, and a camera that has shown it a view."""
    with patient(domain, monkeypatch, **{"inference.queue_size": 2}) as (model, _, camera):
        camera.see(AHEAD)
        yield model, camera


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
