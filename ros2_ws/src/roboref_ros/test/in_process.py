"""The node in the test's own process, with a model of the test's, spun in a thread; and a camera beside it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import rclpy
import roboref_ros.session
from fake_rgbd import AHEAD, WALL_POINT, FakeCamera, pixel_of
from geometry_msgs.msg import PoseStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from roboref_core.models.model_answer import Outcome
from roboref_core.models.pointing_model import Prediction
from roboref_ros.node import RoborefNode
from sensor_msgs.msg import Image

TOPICS = {name: f"/{name}/image_raw" for name in ("color", "depth")} | {"pose": "/pose"}
TOPICS |= {f"{name}_info": f"/{name}/camera_info" for name in ("color", "depth")}
KINDS = {"color": Image, "depth": Image, "pose": PoseStamped}


class PatientModel:
    """Points at one pixel when it is let, or does what the text says it shall do.

    Attributes:
        running: released once for every question that it begins.
        go: set: it answers.
        ended: how each question ended, in their order: "answered", or the error's name.
    """

    name = "patient"

    def __init__(self):
        self.running = threading.Semaphore(0)
        self.go = threading.Event()
        self.ended = []
        self.does = {"fail": raising(RuntimeError("the model is broken"))}

    def predict(self, request):
        self.running.release()
        try:
            while not self.go.wait(0.01):
                if request.cancellation is not None:
                    request.cancellation.check()
            prediction = self.does.get(request.text, lambda: there())()
        except Exception as error:
            self.ended.append(type(error).__name__)
            raise
        self.ended.append("answered")
        return prediction


def there() -> Prediction:
    return Prediction("there", Outcome.VISIBLE, np.array([pixel_of(WALL_POINT, AHEAD)]))


def raising(error: BaseException):
    def fail(*_, **__):
        raise error

    return fail


@contextmanager
def spinning(domain: int, start: bool = True, camera=FakeCamera, name: str = "/roboref", **parameters) -> Iterator:
    """(node, camera). Args: start: as ``autostart`` does. name: of the node; its topics are in its namespace."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    overrides = {"pose.source": "pose", "refer.max_view_age": 1e6} | parameters
    space = name.rpartition("/")[0]
    node = RoborefNode(
        context=context,
        namespace=space,
        parameter_overrides=[Parameter(key, value=value) for key, value in overrides.items()],
    )
    if start:
        node.start()
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin)
    thread.start()
    beside = camera(domain, {key: space + topic for key, topic in TOPICS.items()}, name, KINDS)
    try:
        if start:
            beside.wait_for_node()
        else:
            assert beside.client.wait(30)
        yield node, beside
    finally:
        beside.close()
        executor.shutdown()
        thread.join()
        node.close()
        node.destroy_node()
        context.shutdown()


@contextmanager
def patient(domain: int, monkeypatch, **parameters) -> Iterator:
    """(model, node, camera) of a node with a PatientModel."""
    model = PatientModel()
    monkeypatch.setattr(roboref_ros.session, "load_model", lambda *_: model)
    with spinning(domain, **parameters) as (node, camera):
        try:
            yield model, node, camera
        finally:
            model.go.set()


def result_of(future, timeout: float = 20.0):
    """Of a future of rclpy, from a thread that does not spin."""
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    assert done.wait(timeout)
    return future.result()
