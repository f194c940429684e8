"""For threads that outlive the signal that ends the node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rclpy.node import Node


@contextmanager
def unless_ending(node: Node) -> Iterator[None]:
    """Leave the block quietly if the node is ending: a signal ends its context at any moment, also within a call."""
    try:
        yield
    except RuntimeError:  # rclpy's RCLError and InvalidHandle.
        if node.context.ok():
            raise
