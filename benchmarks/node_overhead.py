"""Overhead of the node per question beyond the model's own time, p50 and p95, against a bare rclpy service.

The bare service runs in a process of its own and returns the very answer that the node gave; questions go
alternately to both. Once with the camera at rest, once while it publishes 640x480 RGB-D at 30 Hz.
"""

from __future__ import annotations

import base64
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True)
class OverheadConfig:
    """Overhead of the node per question."""

    questions: int = 300
    """To each of the two, in each of the two settings."""
    interval: float = 0.05
    """Seconds between questions."""


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


def round_trip(client: ReferClient, query: Query) -> tuple[float, ReferAnswer]:
    started = time.perf_counter()
    answer = client.refer(query, timeout=30)
    return time.perf_counter() - started, answer


def compare(config: OverheadConfig, node: ReferClient, bare: ReferClient) -> tuple[np.ndarray, np.ndarray]:
    """Round trips beyond the model's time of the node, and round trips of the bare service [s]."""
    query = Query("that", regions=(MarkedPoint((300.0, 200.0)),), max_view_age=1e6)
    ours, theirs = [], []
    for _ in range(config.questions):
        duration, answer = round_trip(node, query)
        if answer.status != Status.FOUND:
            raise RuntimeError(f"question not answered: {answer.error_code} {answer.error_msg}")
        ours.append(duration - stamp_ns(answer.inference_time) * 1e-9)
        theirs.append(round_trip(bare, query)[0])
        time.sleep(config.interval)
    return np.array(ours), np.array(theirs)


def measure(config: OverheadConfig) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rclpy.init()
    asker = rclpy.create_node("asker")
    node, bare = ReferClient(asker), ReferClient(asker, BARE)
    results = {}
    log = Path(tempfile.mkdtemp()) / "node.log"
    with NodeProcess({"pose.source": "pose"}, {}, log) as process:
        if not node.wait(30):
            raise TimeoutError(f"the node's service did not appear; its log: {log}")
        # A few views to ask about.
        _rgbd_camera.sent(_rgbd_camera.start(1.0, 30.0))
        process.check()
        query = Query("that", regions=(MarkedPoint((300.0, 200.0)),), max_view_age=1e6)
        _, answer = round_trip(node, query)
        reply = base64.b64encode(serialize_message(answer)).decode()
        code = "import sys; from benchmarks.node_overhead import bare_service; bare_service(sys.argv[1])"
        baseline = subprocess.Popen([sys.executable, "-c", code, reply], start_new_session=True)
        if not bare.wait(30):
            raise TimeoutError("the bare service did not appear")
        for client in (node, bare):
            for _ in range(10):
                round_trip(client, query)
        results["camera at rest"] = compare(config, node, bare)
        camera = _rgbd_camera.start(config.questions * (config.interval + 0.05) + 5, 30.0)
        time.sleep(2)
        results["camera at 30 Hz"] = compare(config, node, bare)
        camera.terminate()
        camera.communicate()
        baseline.send_signal(signal.SIGINT)
        baseline.wait(10)
    for client in (node, bare):
        client.close()
    rclpy.shutdown()
    return results


def main() -> int:
    config = tyro.cli(OverheadConfig, description=__doc__)
    columns = ("p50", "p95", "bare p50", "bare p95", "above p50", "above p95")
    widths = [max(len(column) + 2, 9) for column in columns]
    print(f"{'[ms]':18}" + "".join(f"{column:>{width}}" for column, width in zip(columns, widths, strict=True)))
    for setting, (ours, theirs) in measure(config).items():
        (p50, p95), (bare50, bare95) = (np.percentile(times * 1000, (50, 95)) for times in (ours, theirs))
        row = (p50, p95, bare50, bare95, p50 - bare50, p95 - bare95)
        print(f"{setting:18}" + "".join(f"{value:>{width}.2f}" for value, width in zip(row, widths, strict=True)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
