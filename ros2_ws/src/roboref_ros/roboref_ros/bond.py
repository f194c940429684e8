"""A bond with Nav2's lifecycle manager: each side learns when the other one's process has died."""

from __future__ import annotations

import importlib
from typing import Any, Protocol

from rclpy.node import Node

# As Nav2's own nodes have it [s].
_HEARTBEAT_PERIOD, _HEARTBEAT_TIMEOUT = 0.1, 4.0


class Bond(Protocol):
    """Exists while the node is active."""

    def shutdown(self) -> None:
        """Break it: the manager is told that this side ends in order."""


def make_bond(node: Node) -> Bond | None:
    """A started bond on the topic ``bond`` under the node's name; None where bondpy is not installed.

    Without a manager on the other side it ends by itself, and nothing else happens.
    """
    try:
        bondpy: Any = importlib.import_module("bondpy.bondpy")
    except ImportError:
        return None
    bond = bondpy.Bond("bond", node.get_name(), node)
    bond.heartbeat_period, bond.heartbeat_timeout = _HEARTBEAT_PERIOD, _HEARTBEAT_TIMEOUT
    bond.start()
    return bond
