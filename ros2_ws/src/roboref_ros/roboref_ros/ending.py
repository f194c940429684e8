"""A signal ends the context of the node at any moment, also within a call of rclpy: that is an end, no failure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rclpy.executors import Executor, ExternalShutdownException
from rclpy.node import Node


@contextmanager
def unless_ending(node: Node) -> Iterator[None]:
    """Leave the block quietly if the node is ending."""
    try:
        yield
    except RuntimeError:  # rclpy's RCLError and InvalidHandle.
        if node.context.ok():
            raise


def spin(executor: Executor) -> None:
    """Execute callbacks until the executor or its context is shut down."""
    try:
        executor.spin()
    except ExternalShutdownException:
        return
    except RuntimeError:  # rclpy's, made between its look at the context and its use.
        if executor.context.ok():
            raise
