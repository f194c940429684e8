"""Ingest of 640x480 RGB-D at 30 Hz while questions are asked: CPU share of the node and pairs dropped.

Baseline in the same run: a process that subscribes to the same topics through rclpy and only counts.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
import tyro
from rclpy.executors import ExternalShutdownException
from rclpy.qos import qos_profile_sensor_data
from roboref_core.referring.answer import Status
from roboref_core.referring.query import MarkedPoint, Query
from roboref_msgs.msg import ReferenceView
from roboref_ros.clients import ReferClient
from roboref_ros.conversions import stamp_ns

from benchmarks import _rgbd_camera
from offline.eval.replay.playing.node_process import NodeProcess

TAKEN, BARE = "node", "bare subscriber"


@dataclass(frozen=True)
class IngestConfig:
    """Ingest of 640x480 RGB-D while questions are asked."""

    seconds: float = 60.0
    """How long the camera runs."""
    rate: float = 30.0
    """Its images per second."""
    question_interval: float = 0.5
    """Seconds between questions."""


def bare_subscriber() -> None:
    """Count what arrives of the camera's topics until SIGINT; print stamps of complete pairs and the CPU share."""
    rclpy.init()
    node = rclpy.create_node("bare_subscriber")
    arrived: Counter[int] = Counter()
    first: list[float] = []
    last: list[float] = []

    def count(message: Any) -> None:
        arrived[stamp_ns(message.header.stamp)] += 1
        last[:] = time.monotonic(), time.process_time()
        first[:] = first or last

    def ignore(_: Any) -> None:
        pass

    for topic, kind in _rgbd_camera.TOPICS.items():
        receive = count if topic.endswith("image_raw") else ignore
        node.create_subscription(kind, topic, receive, qos_profile_sensor_data)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pairs = sorted(stamp for stamp, count in arrived.items() if count == 2)
        share = (last[1] - first[1]) / (last[0] - first[0]) if pairs else 0.0
        print(json.dumps({"pairs": pairs, "share": share}))


def ask(client: ReferClient) -> float:
    """One question about a mark on the wall; the time it took [s]."""
    started = time.perf_counter()
    answer = client.refer(Query("that", regions=(MarkedPoint((300.0, 200.0)),)))
    if answer.status != Status.FOUND:
        raise RuntimeError(f"question not answered: status {answer.status}, {answer.error_code} {answer.error_msg}")
    return time.perf_counter() - started


def measure(config: IngestConfig) -> dict:
    rclpy.init()
    observer = rclpy.create_node("observer")
    taken: list[int] = []

    def take(view: ReferenceView) -> None:
        taken.append(stamp_ns(view.header.stamp))

    observer.create_subscription(ReferenceView, "/roboref/view", take, 100)
    client = ReferClient(observer)
    bare = subprocess.Popen(
        [sys.executable, "-c", "from benchmarks.ingest import bare_subscriber; bare_subscriber()"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    times = []
    log = Path(tempfile.mkdtemp()) / "node.log"
    with NodeProcess({"pose.source": "pose"}, {}, log) as node:
        if not client.wait(30):
            raise TimeoutError(f"the node's service did not appear; its log: {log}")
        camera = _rgbd_camera.start(config.seconds, config.rate, subscribers=2)
        while not taken:
            node.check()
            rclpy.spin_once(observer, timeout_sec=0.1)
        begin, cpu = time.monotonic(), node.cpu_seconds()
        next_question = begin
        while camera.poll() is None:
            rclpy.spin_once(observer, timeout_sec=0.01)
            if time.monotonic() >= next_question and time.monotonic() - begin < config.seconds - 1:
                times.append(ask(client))
                next_question += config.question_interval
        node_share = (node.cpu_seconds() - cpu) / (time.monotonic() - begin)
        until = time.monotonic() + 1
        while time.monotonic() < until:
            rclpy.spin_once(observer, timeout_sec=0.05)
    sent = _rgbd_camera.sent(camera)
    bare.send_signal(signal.SIGINT)
    counted = json.loads(bare.communicate(timeout=30)[0])
    client.close()
    rclpy.shutdown()
    # Discovery: what was sent before the first one arrived is not lost, nobody was listening yet.
    return {
        "questions": times,
        TAKEN: dropped(sent, taken) | {"share": node_share},
        BARE: dropped(sent, counted["pairs"]) | {"share": counted["share"]},
    }


def dropped(sent: list[int], arrived: list[int]) -> dict:
    """Of the pairs sent since the first that arrived, how many did not."""
    first = min(arrived, default=None)
    since = [stamp for stamp in sent if first is not None and stamp >= first]
    return {"sent": len(since), "dropped": len(set(since) - set(arrived)), "before discovery": len(sent) - len(since)}


def main() -> int:
    config = tyro.cli(IngestConfig, description=__doc__)
    result = measure(config)
    cores = os.cpu_count()
    print(f"640x480 rgb8 + 16UC1, camera infos, poses at {config.rate:g} Hz for {config.seconds:g} s, {cores} cores")
    print(f"{'':18}{'pairs sent':>12}{'dropped':>10}{'CPU [core]':>12}")
    for who in (TAKEN, BARE):
        row = result[who]
        print(f"{who:18}{row['sent']:>12}{row['dropped']:>10}{row['share']:>12.3f}")
    questions = sorted(result["questions"])
    median = questions[len(questions) // 2] * 1000
    print(f"{len(questions)} questions meanwhile, median {median:.1f} ms, longest {questions[-1] * 1000:.1f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
