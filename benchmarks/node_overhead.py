"""Overhead of the node per question beyond the model's own time, p50 and p95, against a bare rclpy service.

The bare service runs in a process of its own and returns the very answer that the node gave; questions go
alternately to both. Once with the camera at rest, once while it publishes 640x480 RGB-D at 30 Hz to the node, and once
while other clients ask both services too. Waiting for the answers to other clients' questions is not counted as
overhead of the node; it has a column of its own (queue).
"""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rclpy
import tyro
from rclpy.executors import ExternalShutdownException
from rclpy.serialization import deserialize_message, serialize_message
from roboref_core.referring.answer import Status
from roboref_core.referring.query import MarkedPoint, Query
from roboref_msgs.msg import ReferAnswer
from roboref_msgs.srv import ReferPoint
from roboref_ros.clients import ReferClient
from roboref_ros.conversions import stamp_ns

from benchmarks import _rgbd_camera
from offline.eval.replay.playing.node_process import NodeProcess

BARE = "bare"
# A machine that is busy loses answers [s].
_LOST = 10.0


@dataclass(frozen=True)
class OverheadConfig:
    """Overhead of the node per question."""

    questions: int = 300
    """To each of the two, in each of the two settings."""
    interval: float = 0.05
    """Seconds between questions."""
    clients: int = 20
    """That ask at the same time, in the last setting."""
    pause: float = 1.0
    """Seconds between the questions of each of the other clients."""


def bare_service(answer: str) -> None:
    """Answer every call with the given message (CDR, base64) until SIGINT."""
    message = deserialize_message(base64.b64decode(answer), ReferAnswer)

    def serve(_, response: ReferPoint.Response) -> ReferPoint.Response:
        response.answer = message
        return response

    rclpy.init()
    node = rclpy.create_node(BARE)
    node.create_service(ReferPoint, "~/refer_point", serve)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        return


def crowd(clients: int, pause: float) -> None:
    """Ask both services from so many clients, each in turn, until the process is ended."""
    rclpy.init()
    query = _query()

    def ask(index: int) -> None:
        own = rclpy.create_node(f"crowd_{index}")
        time.sleep(pause * index / clients)
        both = [ReferClient(own), ReferClient(own, BARE)]
        while True:
            for client in both:
                with suppress(TimeoutError):
                    client.refer(query, timeout=30)
            time.sleep(pause)

    for index in range(clients):
        threading.Thread(target=ask, args=(index,), daemon=True).start()
    signal.pause()


def _query() -> Query:
    return Query("that", regions=(MarkedPoint((300.0, 200.0)),), max_view_age=1e6)


def round_trip(client: ReferClient, query: Query) -> tuple[float, ReferAnswer]:
    started = time.perf_counter()
    answer = client.refer(query, timeout=_LOST)
    return time.perf_counter() - started, answer


class Times(NamedTuple):
    """Of many questions [s].

    Attributes:
        ours: round trips of the node, less queue and model.
        theirs: round trips of the bare service.
        queue: waits for the answers to others' questions.
        lost: questions without any answer within ``_LOST`` seconds: to the node, to the bare service.
    """

    ours: np.ndarray
    theirs: np.ndarray
    queue: np.ndarray
    lost: tuple[int, int]


def compare(config: OverheadConfig, node: ReferClient, bare: ReferClient) -> Times:
    query = _query()
    ours, theirs, queue = [], [], []
    lost = [0, 0]
    for _ in range(config.questions):
        try:
            duration, answer = round_trip(node, query)
            if answer.status != Status.FOUND:
                raise RuntimeError(f"question not answered: {answer.error_code} {answer.error_msg}")
            queue.append(stamp_ns(answer.queue_time) * 1e-9)
            ours.append(duration - stamp_ns(answer.inference_time) * 1e-9 - queue[-1])
        except TimeoutError:
            lost[0] += 1
        try:
            theirs.append(round_trip(bare, query)[0])
        except TimeoutError:
            lost[1] += 1
        time.sleep(config.interval)
    return Times(np.array(ours), np.array(theirs), np.array(queue), (lost[0], lost[1]))


def python(call: str, *arguments: str) -> subprocess.Popen:
    """A function of this module in a process of its own."""
    code = f"import sys; from benchmarks.node_overhead import {call.partition('(')[0]}; {call}"
    return subprocess.Popen([sys.executable, "-c", code, *arguments], start_new_session=True)


def measure(config: OverheadConfig) -> dict[str, Times]:
    rclpy.init()
    asker = rclpy.create_node("asker")
    node, bare = ReferClient(asker), ReferClient(asker, BARE)
    results = {}
    log = Path(tempfile.mkdtemp()) / "node.log"
    parameters = {"pose.source": "pose", "inference.queue_size": max(config.clients, 4)}
    with NodeProcess(parameters, {}, log) as process:
        if not node.wait(30):
            raise TimeoutError(f"the node's service did not appear; its log: {log}")
        # A few views to ask about.
        _rgbd_camera.sent(_rgbd_camera.start(1.0, 30.0))
        process.check()
        query = _query()
        _, answer = round_trip(node, query)
        reply = base64.b64encode(serialize_message(answer)).decode()
        baseline = python("bare_service(sys.argv[1])", reply)
        if not bare.wait(30):
            raise TimeoutError("the bare service did not appear")
        for client in (node, bare):
            for _ in range(10):
                round_trip(client, query)
        results["camera at rest"] = compare(config, node, bare)
        camera = _rgbd_camera.start(3600, 30.0)
        time.sleep(2)
        results["camera at 30 Hz"] = compare(config, node, bare)
        others = python(f"crowd({config.clients - 1}, {config.pause})")
        time.sleep(10)
        results[f"and {config.clients} clients"] = compare(config, node, bare)
        for started in (others, camera):
            started.kill()
            started.communicate()
        baseline.send_signal(signal.SIGINT)
        baseline.wait(10)
    for client in (node, bare):
        client.close()
    rclpy.shutdown()
    return results


def main() -> int:
    config = tyro.cli(OverheadConfig, description=__doc__)
    columns = ("p50", "p95", "bare p50", "bare p95", "above p50", "above p95", "ratio p95", "queue p95")
    widths = [max(len(column) + 2, 9) for column in columns]
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"{os.cpu_count()} cores{load} at the start")
    print(f"{'[ms]':18}" + "".join(f"{column:>{width}}" for column, width in zip(columns, widths, strict=True)))
    for setting, times in measure(config).items():
        (p50, p95), (bare50, bare95), (_, queue) = (np.percentile(values * 1000, (50, 95)) for values in times[:3])
        row = (p50, p95, bare50, bare95, p50 - bare50, p95 - bare95, p95 / bare95, queue)
        cells = "".join(f"{value:>{width}.2f}" for value, width in zip(row, widths, strict=True))
        print(f"{setting:18}{cells}" + (f"  lost: {times.lost[0]}, bare {times.lost[1]}" if any(times.lost) else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
