"""A bond with Nav2's lifecycle manager: each side learns when the other one's process has died."""

from __future__ import annotations

import importlib
from typing import Any

from rclpy.node import Node

# As Nav2's own nodes have it [s].
_HEARTBEAT_PERIOD, _HEARTBEAT_TIMEOUT = 0.1, 4.0


class Bond:
    """Started when it is made, on the topic ``bond`` and under the node's name, where Nav2's manager looks for it.

    Without a manager on the other side it ends by itself, and nothing else happens.

    Raises ImportError where bondpy is not installed.
    """

    def __init__(self, node: Node):
        bondpy: Any = importlib.import_module("bondpy.bondpy")
        self._node = node
        # By name: bondcpp takes the node last, bondpy first.
        self._bond = bondpy.Bond(node=node, topic="bond", bond_id=node.get_name())
        self._bond.heartbeat_period, self._bond.heartbeat_timeout = _HEARTBEAT_PERIOD, _HEARTBEAT_TIMEOUT
        self._bond.start()

    def shutdown(self) -> None:
        """Break it: the manager is told that this side ends in order. To be called while the context is valid."""
        self._bond.shutdown()
        # bondpy destroys both behind the node's back, which would keep them in its lists.
        self._node.destroy_subscription(self._bond.sub)
        self._node.destroy_publisher(self._bond.pub)


def make_bond(node: Node) -> Bond | None:
    """A bond, or None where bondpy is not installed."""
    try:
        return Bond(node)
    except ImportError:
        return None
