"""`roboref record`: what runs, into an MCAP bag."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import rclpy
import tyro
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from roboref_core.command_line import ExitStatus

from sim.bags.new_bag import new_bag
from sim.bags.topic_recorder import TopicRecorder, open_writer


@dataclass(frozen=True)
class RecordTopics:
    """Record topics of a running system as a rosbag2 of MCAP, until Ctrl-C: answers, markers, targets, images, poses.

    The bag appears whole or not at all; Foxglove, Lichtblick and Rerun open its .mcap file, `roboref sim play` and
    `ros2 bag play` the folder:

      roboref record bags/tuesday --topics '/roboref/*' '/camera/*' /camera_pose --image-rate 2
    """

    bag: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="BAG")]
    """The rosbag2 folder to make."""
    topics: tuple[str, ...] = ("*",)
    """Which topics, as patterns of the shell; all that are published, now or later."""
    image_rate: float | None = None
    """Most images a second and topic, by their stamps; default: all."""
    compression: Literal["none", "zstd"] = "none"
    """Compression of the chunks of the file."""
    use_sim_time: bool = False
    """Record at the time of /clock."""
    seconds: float | None = None
    """Stop after so long."""

    def __post_init__(self) -> None:
        for name in ("image_rate", "seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"--{name.replace('_', '-')} must be above 0, found {value}")

    def __call__(self) -> int:
        if self.bag.exists():
            raise ValueError(f"{self.bag} exists; choose another name")
        stopped: list[int] = []
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: stopped.append(number))
        end = None if self.seconds is None else time.monotonic() + self.seconds
        rclpy.init(args=[], signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
        overrides = [Parameter("use_sim_time", value=self.use_sim_time)]
        node = rclpy.create_node("roboref_recorder", parameter_overrides=overrides)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        try:
            with new_bag(self.bag, f"roboref record {self.bag}") as folder:
                with open_writer(folder, self.compression) as writer:
                    recorder = TopicRecorder(node, writer, self.topics, self.image_rate)
                    print(f"recording to {self.bag} (Ctrl-C ends it)", flush=True)
                    while not (stopped or recorder.problem or (end is not None and time.monotonic() >= end)):
                        executor.spin_once(timeout_sec=0.2)
                    recorder.finish()
                if not recorder.counts:
                    raise ValueError(f"nothing was published on {' '.join(self.topics)}: no bag was made")
        finally:
            executor.shutdown()
            node.destroy_node()
            rclpy.shutdown()
        for topic, count in sorted(recorder.counts.items()):
            print(f"  {topic}: {count}")
        if recorder.problem:
            print(f"{self.bag} ends early: {recorder.problem}")
            return ExitStatus.BAD
        return ExitStatus.DONE
