"""Whether the clock of a node is simulated."""

from __future__ import annotations

from rclpy.clock import ROSClock
from rclpy.node import Node


def is_simulated(node: Node) -> bool:
    """Whether the clock follows /clock: it may stand still, run at any rate and jump."""
    clock = node.get_clock()
    return isinstance(clock, ROSClock) and bool(clock.ros_time_is_active)
