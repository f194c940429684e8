"""Publishers of a bag's topics and of /clock."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, HistoryPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import Qos, QosTime
from rosgraph_msgs.msg import Clock

from sim.bags.player_bag import Bag, BagMessage
from sim.bags.player_options import PlayOptions
from sim.bags.qos import played_qos, read_overrides

_CLOCK = "/clock"
_POLL_S = 0.02
# Time to see publishers of /clock that were there before us.
_CLOCK_DISCOVERY_S = 1.0
# A writer knows of a reader a little before the reader knows of the writer, and what it sends between is lost.
_SETTLE_S = 0.3


class AnotherClock(RuntimeError):
    """Somebody else publishes /clock: two players would make time jump to and fro."""


class NoSubscriber(RuntimeError):
    """Nobody listens to a topic that somebody was expected to listen to."""


class BagPublisher:
    """Publishes messages of a bag, byte by byte as recorded, and /clock.

    A recorded /clock is not played beside the player's own. Topics that cannot be played are named in the log.

    Attributes:
        topics: names (as recorded) of what is published.

    Raises:
        AnotherClock: another node publishes /clock.
        ValueError: options name a topic that the bag does not have.
    """

    def __init__(self, node: Node, bag: Bag, options: PlayOptions):
        self._node, self._bag, self._options = node, bag, options
        unknown = {*options.topics, *options.remaps, *(options.wait_for or ())} - bag.topics.keys()
        if unknown:
            raise ValueError(f"{bag.path}: no topic {', '.join(sorted(unknown))}; it has {', '.join(bag.topics)}")
        self._overrides = read_overrides(options.qos_overrides) if options.qos_overrides else {}
        self._clock: Publisher | None = None
        if options.clock:
            if not options.share_clock:
                self.refuse_other_clocks(_CLOCK_DISCOVERY_S)
            self._clock = node.create_publisher(Clock, _CLOCK, QoSProfile(depth=10))
        self._publishers = self._create_publishers()
        self.topics = tuple(self._publishers)

    def send(self, message: BagMessage) -> None:
        self._publishers[message.topic].publish(bytes(message.data))

    def tick(self, time_ns: int) -> None:
        """Publish a time on /clock."""
        if self._clock is not None:
            message = Clock()
            message.clock.sec, message.clock.nanosec = divmod(time_ns, 10**9)
            self._clock.publish(message)

    def heard(self) -> list[str]:
        """Topics (as recorded) that somebody subscribes to."""
        return [name for name, publisher in self._publishers.items() if publisher.get_subscription_count()]

    def subscribers(self) -> str:
        """How many subscribers each topic has, for messages."""
        return ", ".join(f"{self.target(n)} {p.get_subscription_count()}" for n, p in self._publishers.items())

    def wait_for_subscribers(self, wanted: list[tuple[str, ...]], stopped: Callable[[], bool]) -> None:
        """Return when somebody listens to one topic of each group, or when ``stopped``.

        Raises NoSubscriber naming the groups still unheard after ``discovery_seconds``, and AnotherClock if another
        player came meanwhile.
        """
        seconds = self._options.discovery_seconds
        deadline = time.monotonic() + seconds
        while unheard := [group for group in wanted if not set(group).intersection(self.heard())]:
            if stopped():
                return
            if time.monotonic() > deadline:
                raise NoSubscriber(
                    f"after {seconds:g} s nobody subscribes to "
                    f"{', '.join(' or '.join(map(self.target, group)) for group in unheard)}: is the node running, "
                    "with these topics, in the same ROS_DOMAIN_ID?"
                )
            time.sleep(_POLL_S)
        if self._clock is not None and not self._options.share_clock:
            self.refuse_other_clocks(0)
        time.sleep(_SETTLE_S)

    def refuse_other_clocks(self, seconds: float) -> None:
        """Raise AnotherClock if somebody else publishes /clock, or is seen to within ``seconds``."""
        deadline = time.monotonic() + seconds
        while True:
            infos = self._node.get_publishers_info_by_topic(_CLOCK)
            if len(infos) > (self._clock is not None):
                names = {f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in infos}
                others = names - {self._node.get_fully_qualified_name()} or names
                raise AnotherClock(
                    f"/clock is published already, by another player or a simulator ({', '.join(sorted(others))}): "
                    "stop it, use another ROS_DOMAIN_ID, or play without clock"
                )
            if time.monotonic() >= deadline:
                return
            time.sleep(_POLL_S)

    def target(self, topic: str) -> str:
        """The topic that a recorded one is published on."""
        return self._options.remaps.get(topic, topic)

    def _create_publishers(self) -> dict[str, Publisher]:
        log = self._node.get_logger()
        for name, reason in self._bag.skipped.items():
            log.warning(f"{name} is not played: {reason}")
        publishers = {}
        for topic in self._bag.topics.values():
            if (self._options.topics and topic.name not in self._options.topics) or not topic.count:
                continue
            if self.target(topic.name) == _CLOCK and self._clock is not None:
                log.info(f"{topic.name} of the bag is not played: the player publishes /clock itself")
                continue
            try:
                message_type = _message_type(topic.type)
            except ValueError as error:
                log.warning(f"{topic.name} is not played: {error}")
                continue
            profile = self._overrides.get(topic.name) or played_qos(topic)
            publishers[topic.name] = self._node.create_publisher(
                message_type, self.target(topic.name), _as_rclpy(profile)
            )
        return publishers


def _message_type(name: str) -> Any:
    """The class of a message type, also by its name of ROS 1 and of early ROS 2 (`std_msgs/String`).

    Raises ValueError: not the name of a message type, or not installed.
    """
    parts = name.split("/")
    if len(parts) not in (2, 3) or not all(part.isidentifier() for part in parts):
        raise ValueError(f"{name!r} is not the name of a message type, as std_msgs/msg/String is")
    package, kind = parts[0], parts[1] if len(parts) == 3 else "msg"
    try:
        return getattr(importlib.import_module(f"{package}.{kind}"), parts[-1])
    except (ImportError, AttributeError):
        raise ValueError(f"{name} is not installed here") from None


def _as_rclpy(qos: Qos) -> QoSProfile:
    def duration(time_: QosTime) -> Duration:
        return Duration(seconds=time_.sec, nanoseconds=time_.nsec)

    # By name: the numbers of rosbags and rclpy need not agree.
    return QoSProfile(
        history=HistoryPolicy[qos.history.name],
        depth=qos.depth,
        reliability=ReliabilityPolicy[qos.reliability.name],
        durability=DurabilityPolicy[qos.durability.name],
        deadline=duration(qos.deadline),
        lifespan=duration(qos.lifespan),
        liveliness=LivelinessPolicy[qos.liveliness.name],
        liveliness_lease_duration=duration(qos.liveliness_lease_duration),
        avoid_ros_namespace_conventions=qos.avoid_ros_namespace_conventions,
    )
