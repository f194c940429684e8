"""Recorded views shown to the node again, in any order: the log-indexed world of a closed loop."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import takewhile

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from roboref_core.geometry.pose import from_quaternion
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from offline.eval.replay.playing.session import Arrival, ReplaySession

_TYPES = {
    "sensor_msgs/msg/Image": Image,
    "sensor_msgs/msg/CompressedImage": CompressedImage,
    "sensor_msgs/msg/CameraInfo": CameraInfo,
    "geometry_msgs/msg/PoseStamped": PoseStamped,
}
_PERIOD_NS = 10**8
_ATTEMPTS = 3
_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)


class LoggedViews:
    """Publishes views of a session's bag, each under a new stamp, so that time runs on though the order is free.

    Attributes:
        poses: (N, 4, 4) T_world_camera of each position of the scene as recorded; NaN where the bag has none.

    Args:
        session: gives bag and node.
        arrivals: the bag's views.
        count: N, of the scene.
    """

    def __init__(self, session: ReplaySession, arrivals: Sequence[Arrival], count: int):
        self._session = session
        self._arrivals = {arrival.position: arrival for arrival in arrivals}
        self._now_ns = session.bag.end_ns
        self._publishers = {
            topic.name: session.node.create_publisher(_TYPES[topic.type], topic.name, _QOS)
            for topic in session.bag.topics.values()
            if topic.type in _TYPES
        }
        self._clock = session.node.create_publisher(Clock, "/clock", 10)
        self.poses = np.full((count, 4, 4), np.nan)
        positions = {arrival.stamp_ns: arrival.position for arrival in arrivals}
        for message in session.bag.messages([n for n, p in self._publishers.items() if p.msg_type is PoseStamped]):
            recorded = deserialize_message(message.data, PoseStamped)
            p, q = recorded.pose.position, recorded.pose.orientation
            stamp = recorded.header.stamp
            position = positions[stamp.sec * 10**9 + stamp.nanosec]
            self.poses[position] = from_quaternion((q.x, q.y, q.z, q.w), (p.x, p.y, p.z))
        session.wait_until(
            lambda: all(publisher.get_subscription_count() for publisher in self._publishers.values()),
            "subscriptions of the node",
        )

    def show(self, position: int) -> int:
        """Publish a view until the node has taken it; returns its new stamp [ns].

        Raises RuntimeError naming the position if the node does not take it.
        """
        time_ns = self._arrivals[position].time_ns
        messages = takewhile(
            lambda message: message.time_ns == time_ns, self._session.bag.messages(self._publishers, time_ns)
        )
        self._now_ns += _PERIOD_NS
        stamp = divmod(self._now_ns, 10**9)
        restamped = [(message.topic, _restamped(message.data, *stamp)) for message in messages]
        clock = Clock()
        clock.clock.sec, clock.clock.nanosec = stamp
        for _ in range(_ATTEMPTS):
            self._clock.publish(clock)
            for topic, data in restamped:
                self._publishers[topic].publish(data)
            if self._session.wait_for_taken(self._now_ns):
                return self._now_ns
            self._session.check()
        raise RuntimeError(f"{self._session.bag.path}: the node did not take the view at position {position}")


def _restamped(cdr: bytes, sec: int, nanosec: int) -> bytes:
    """A message that begins with a std_msgs/Header, after CDR's 4-byte encapsulation, under another stamp."""
    data = bytearray(cdr)
    struct.pack_into("<iI" if cdr[1] & 1 else ">iI", data, 4, sec, nanosec)
    return bytes(data)
