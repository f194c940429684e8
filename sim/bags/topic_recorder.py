"""Topics of a running system into an MCAP bag, as they come."""

from __future__ import annotations

import fnmatch
import importlib
import shutil
import struct
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import Connection
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from sim.bags.message_types import InstalledTypes
from sim.bags.qos import offered_qos

_DEPTH = 100
_LOOK_EVERY = 0.5
# It ends before the disk is full [bytes].
_FREE_BYTES = 2**30
# Messages that came before the clock ran, which are kept until it does.
_MAX_EARLY = 10_000
_IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
_STAMP = struct.Struct("<iI")


class TopicRecorder:
    """Subscribes to what is published, now and later, and writes it.

    Subscriptions ask for no more than all publishers of a topic offer, as rosbag2's do. A message is recorded at the
    node's time: with use_sim_time that of /clock, and what comes before the clock runs at its first time.

    Attributes:
        counts: messages written by topic.
        problem: why it cannot go on, "" as long as it can.
        left_out: topics whose type is not installed, and why.

    Args:
        node: gives graph and time; spun by the caller, in one thread.
        writer: an open bag.
        topics: patterns of the shell, such as "/roboref/*".
        image_rate: most images a second and topic, by their stamps; None: all.
    """

    def __init__(self, node: Node, writer: Writer, topics: Sequence[str] = ("*",), image_rate: float | None = None):
        self._node, self._writer, self._patterns = node, writer, topics
        self._image_period = None if image_rate is None else round(1e9 / image_rate)
        self._types = InstalledTypes()
        self._connections: dict[str, Connection] = {}
        self._slots: dict[str, int] = {}
        self._early: list[tuple[str, bytes]] = []
        self.counts: Counter[str] = Counter()
        self.left_out: dict[str, str] = {}
        self.problem = ""
        self._look()
        # By the wall, since the clock of a simulation may stand.
        self._timer = node.create_timer(_LOOK_EVERY, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def finish(self) -> None:
        """Write what still waits for the clock."""
        self._write_early(self._node.get_clock().now().nanoseconds)

    def _look(self) -> None:
        """Subscribe to topics that are new."""
        free = shutil.disk_usage(self._writer.path).free
        if free < _FREE_BYTES:
            self.problem = f"{self._writer.path}: only {free / 2**20:.0f} MiB are free, {_FREE_BYTES >> 20} are kept"
        for topic, types in self._node.get_topic_names_and_types():
            known = topic in self._connections or topic in self.left_out
            # What belongs to an action is hidden, as for rosbag2.
            if "/_" in topic or "/msg/" not in types[0]:
                continue
            if not known and any(fnmatch.fnmatchcase(topic, pattern) for pattern in self._patterns):
                publishers = self._node.get_publishers_info_by_topic(topic)
                if publishers:
                    self._subscribe(topic, types[0], [publisher.qos_profile for publisher in publishers])

    def _subscribe(self, topic: str, name: str, offered: Sequence[QoSProfile]) -> None:
        try:
            self._types.learn(name)
            package, _, kind = name.partition("/msg/")
            message_type = getattr(importlib.import_module(f"{package}.msg"), kind)
        except (ValueError, ImportError, AttributeError) as error:
            self.left_out[topic] = str(error)
            self._node.get_logger().warning(f"{topic} is left out: {error}")
            return
        latched = all(qos.durability == DurabilityPolicy.TRANSIENT_LOCAL for qos in offered)
        reliable = all(qos.reliability == ReliabilityPolicy.RELIABLE for qos in offered)
        self._connections[topic] = self._writer.add_connection(
            topic,
            name,
            typestore=self._types.store,
            offered_qos_profiles=[offered_qos(latched, _DEPTH if latched else 10)],
        )
        qos = QoSProfile(
            depth=_DEPTH,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        )
        self._node.create_subscription(message_type, topic, partial(self._on_message, topic), qos, raw=True)

    def _on_message(self, topic: str, cdr: bytes) -> None:
        if not self._wanted(topic, cdr):
            return
        now = self._node.get_clock().now().nanoseconds
        if now:
            self._write_early(now)
            self._write(topic, now, cdr)
        elif len(self._early) < _MAX_EARLY:
            self._early.append((topic, cdr))
        else:
            self.problem = f"{_MAX_EARLY} messages came, and nobody publishes /clock"

    def _write_early(self, now: int) -> None:
        early, self._early = self._early, []
        for topic, cdr in early:
            self._write(topic, now, cdr)

    def _write(self, topic: str, time_ns: int, cdr: bytes) -> None:
        self._writer.write(self._connections[topic], time_ns, cdr)
        self.counts[topic] += 1

    def _wanted(self, topic: str, cdr: bytes) -> bool:
        """Whether an image is the first of its slot of time; everything else is."""
        if self._image_period is None or self._connections[topic].msgtype not in _IMAGES:
            return True
        # An image begins with its header's stamp, after the four bytes that say how it is encoded.
        seconds, nanoseconds = _STAMP.unpack_from(cdr, 4)
        slot = (seconds * 10**9 + nanoseconds) // self._image_period
        first = self._slots.get(topic) != slot
        self._slots[topic] = slot
        return first


def open_writer(path: Path, compression: str) -> Writer:
    """An MCAP bag to write, not open yet. Args: compression: "none" or "zstd", of chunks."""
    writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
    if compression == "zstd":
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    return writer
