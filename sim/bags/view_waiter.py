"""Whether the node has taken a view."""

from __future__ import annotations

import threading
import time
from collections import deque

from rclpy.node import Node

from sim.bags.publishing import NoSubscriber

_POLL_S = 0.02


class ViewWaiter:
    """Whether the node has taken a view: it says so on its view topic (roboref_msgs/ReferenceView).

    Args:
        node: a node that spins in another thread.
        topic: the topic on which the node announces the views it took.
        timeout_seconds: how long a call waits at most.
    """

    def __init__(self, node: Node, topic: str = "/roboref/view", timeout_seconds: float = 5.0):
        from roboref_msgs.msg import ReferenceView

        self._timeout = timeout_seconds
        self._condition = threading.Condition()
        self._taken: deque[int] = deque(maxlen=1000)
        self._node, self._topic = node, topic
        self._subscription = node.create_subscription(ReferenceView, topic, self._on_view, 100)

    def wait_for_publisher(self, seconds: float) -> None:
        """Return when the node is there; NoSubscriber after ``seconds``."""
        deadline = time.monotonic() + seconds
        while not self._node.count_publishers(self._topic):
            if time.monotonic() > deadline:
                raise NoSubscriber(f"after {seconds:g} s nobody publishes {self._topic}: is the node running?")
            time.sleep(_POLL_S)

    def __call__(self, stamp_ns: int) -> bool:
        with self._condition:
            return self._condition.wait_for(lambda: stamp_ns in self._taken, self._timeout)

    def _on_view(self, view) -> None:
        stamp = view.header.stamp
        with self._condition:
            self._taken.append(stamp.sec * 10**9 + stamp.nanosec)
            self._condition.notify_all()
