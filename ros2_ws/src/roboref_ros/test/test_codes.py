"""Every status and every error code of the message is produced by something, and each by what it stands for."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

pytest.importorskip("roboref_msgs", reason="ros2_ws is not built: make setup")

from fake_rgbd import AHEAD, pixel_of
from in_process import patient, raising, result_of, there
from rclpy.parameter import Parameter
from roboref_core.errors import ErrorCode
from roboref_core.models.model_answer import Outcome
from roboref_core.models.pointing_model import Prediction
from roboref_core.referring.answer import Status
from roboref_core.referring.query import MAX_TEXT, Query
from roboref_msgs.action import ReferPoint
from roboref_msgs.msg import ReferAnswer, ReferQuery
from roboref_ros.action_client import ActionClient
from roboref_ros.clients import ReferClient

RIVAL = np.array([0.9, 3.0, 1.3])


def two_places() -> Prediction:
    pixels = np.array([pixel_of(place, AHEAD) for place in (RIVAL, RIVAL - (1.5, 0, 0))])
    return Prediction("two", Outcome.VISIBLE, pixels, scores=np.array([0.9, 0.89]))


def ask(camera, text="it", **fields):
    return camera.client.refer(Query(text, **fields), timeout=20)


def spoiled(camera, name: str, **fields):
    messages = camera.messages(AHEAD, camera.stamp())
    for field, value in fields.items():
        setattr(messages[name], field, value)
    camera.publish(messages)
    return ask(camera, max_view_age=1e-6)


def from_the_future(camera, node, **_):
    assert node.set_parameters([Parameter("refer.max_future", value=0.01)])[0].successful

    def see_and_ask():
        camera.wait_for_view(camera.messages(AHEAD, camera.stamp() + 900_000_000))
        return ask(camera)

    return camera.eventually(see_and_ask, lambda answer: answer.error_code == ErrorCode.CLOCK_MISMATCH)


def cancelled(camera, **_):
    client = ActionClient(camera.node, ReferPoint, "/roboref/refer_point")
    assert client.wait_for_server(10)
    goal = result_of(client.send_goal_async(ReferPoint.Goal(query=ReferQuery(text="late"))))
    result_of(goal.cancel_goal_async())
    answer = result_of(goal.get_result_async()).result.answer
    client.destroy()
    return answer


def busy(camera, model, **_):
    """One runs, one waits, as many as the queue holds."""
    clients = [ReferClient(camera.node) for _ in range(2)]

    def insist(client):
        while client.refer(Query("held", timeout=20), timeout=25).error_code == ErrorCode.BUSY:
            time.sleep(0.1)

    threads = [threading.Thread(target=insist, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    assert model.running.acquire(timeout=10)
    answer = camera.eventually(lambda: ask(camera, "late", timeout=0.05), lambda a: a.error_code == ErrorCode.BUSY)
    model.held.set()
    for thread in threads:
        thread.join()
    for client in clients:
        client.close()
    return answer


def unforeseen(camera, node, **_):
    node._session.intake.diagnosis = raising(RuntimeError("unforeseen"))
    try:
        return ask(camera, max_view_age=1e-6)
    finally:
        del node._session.intake.diagnosis


def not_active(camera, node, **_):
    node.trigger_deactivate()
    try:
        return ask(camera)
    finally:
        node.trigger_activate()
        camera.wait_for_node()


CODES = {
    ErrorCode.UNKNOWN: unforeseen,
    ErrorCode.INVALID_QUERY: lambda camera, **_: ask(camera, "x" * (MAX_TEXT + 1)),
    ErrorCode.VIEW_NOT_FOUND: lambda camera, **_: ask(camera, view_id="nowhere"),
    ErrorCode.VIEW_STALE: lambda camera, **_: camera.eventually(
        lambda: ask(camera, max_view_age=1e-6), lambda a: a.error_code == ErrorCode.VIEW_STALE
    ),
    ErrorCode.CAMERA_INFO_INVALID: lambda camera, **_: camera.eventually(
        lambda: spoiled(camera, "color_info", distortion_model="fov", d=[0.1]),
        lambda a: a.error_code == ErrorCode.CAMERA_INFO_INVALID,
    ),
    ErrorCode.IMAGE_INVALID: lambda camera, **_: camera.eventually(
        lambda: spoiled(camera, "depth", encoding="8UC1"), lambda a: a.error_code == ErrorCode.IMAGE_INVALID
    ),
    ErrorCode.TF_ERROR: lambda camera, **_: ask(camera, target_frame="kitchen"),
    ErrorCode.BUSY: busy,
    ErrorCode.OUT_OF_MEMORY: lambda camera, **_: ask(camera, "memory"),
    ErrorCode.INFERENCE_FAILED: lambda camera, **_: ask(camera, "fail"),
    ErrorCode.UNPARSABLE_ANSWER: lambda camera, **_: ask(camera, "poem"),
    ErrorCode.TIMEOUT: lambda camera, **_: ask(camera, "late", timeout=0.1),
    ErrorCode.CANCELED: cancelled,
    ErrorCode.NOT_ACTIVE: not_active,
    ErrorCode.CLOCK_MISMATCH: from_the_future,
}
STATUSES = {
    Status.FOUND: lambda camera: ask(camera),
    Status.NOT_VISIBLE: lambda camera: ask(camera, "nothing"),
    Status.AMBIGUOUS: lambda camera: ask(camera, "two"),
    Status.ERROR: lambda camera: ask(camera, "fail"),
}


def test_every_code_and_every_status(domain, monkeypatch):
    with patient(domain, monkeypatch, **{"inference.queue_size": 1, "pose.timeout": 0.3}) as (model, node, camera):
        model.go.set()
        model.held = threading.Event()
        model.does |= {
            "late": lambda: (time.sleep(0.5), there())[1],
            "held": lambda: (model.held.wait(20), there())[1],
            "memory": raising(MemoryError("no memory left")),
            "poem": lambda: Prediction("roses are red", Outcome.UNPARSABLE, np.zeros((0, 2))),
            "nothing": lambda: Prediction("no", Outcome.NOT_VISIBLE, np.zeros((0, 2))),
            "two": two_places,
        }
        seen = {ErrorCode.NONE, ErrorCode.NO_VIEW}
        assert ask(camera).error_code == ErrorCode.NO_VIEW
        for status, produce in STATUSES.items():
            camera.see(AHEAD)
            answer = produce(camera)
            assert answer.status == status, (status, answer.status, answer.error_msg)
        camera.see(AHEAD, hole=(slice(None), slice(None)))
        assert ask(camera).status == Status.FOUND_WITHOUT_POSITION
        for code, produce in CODES.items():
            camera.see(AHEAD)
            while model.running.acquire(blocking=False):
                pass
            answer = produce(camera=camera, model=model, node=node)
            assert (answer.status, ErrorCode(answer.error_code)) == (Status.ERROR, code), answer.error_msg
            assert answer.error_msg
            seen.add(code)
    assert seen == set(ErrorCode)
    # Zero is what a message says that nobody filled: no answer ever.
    assert {*STATUSES, Status.FOUND_WITHOUT_POSITION} == set(Status) - {Status.UNKNOWN}
    assert ReferAnswer().status == Status.UNKNOWN
