"""A context that ends while an executor looks at it."""

from __future__ import annotations

import threading

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not in the environment: source setup/env.sh")

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from roboref_ros.ending import spin


@pytest.fixture
def executor(domain):
    context = Context()
    rclpy.init(context=context, args=[], domain_id=domain)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(rclpy.create_node("ending", context=context))
    yield executor
    context.try_shutdown()


def test_the_context_ends_before_it_is_used(executor, monkeypatch):
    """What a signal does between the look at the context and the making of a wait set: rclpy's own error."""
    look = executor._context.ok
    answers = iter([True])

    def ok() -> bool:
        if next(answers, False):
            executor.context.shutdown()
            return True
        return look()

    monkeypatch.setattr(executor._context, "ok", ok)
    spin(executor)


def test_the_context_ends_while_it_waits(executor):
    threading.Timer(0.2, executor.context.shutdown).start()
    spin(executor)


def test_errors_of_callbacks_are_raised(executor):
    def fail() -> None:
        raise RuntimeError("in a callback")

    executor.get_nodes()[0].create_timer(0.01, fail)
    with pytest.raises(RuntimeError, match="in a callback"):
        spin(executor)
