"""What the node says of its own state, on /diagnostics and latched on ~/status."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile

from roboref_ros.conversions import clean_text
from roboref_ros.ending import unless_ending

OK, WARN, ERROR = (DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR)
_PERIOD = 1.0


class Hysteresis:
    """A level that rises at once and falls after ``calm`` lower reports in a row."""

    def __init__(self, calm: int = 3):
        self._calm = calm
        self._level = OK
        self._lower = 0

    def level(self, reported: bytes) -> bytes:
        """The level to show."""
        if reported >= self._level:
            self._level, self._lower = reported, 0
        else:
            self._lower += 1
            if self._lower >= self._calm:
                self._level, self._lower = reported, 0
        return self._level


def status(level: bytes, message: str, values: dict[str, object]) -> DiagnosticStatus:
    """A status without a name; numbers are rounded, what is not finite is "unknown"."""
    return DiagnosticStatus(
        level=level,
        message=clean_text(message),
        values=[KeyValue(key=key, value=_shown(value)) for key, value in values.items()],
    )


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else "unknown"
    return clean_text(str(value))


class Diagnostics:
    """Publishes one status per part every second, steady time; the worst of them on ``~/status`` when it changes.

    Args:
        parts: name of a part -> what reports its state; None: there is nothing to report now.
    """

    def __init__(self, node: Node, parts: dict[str, Callable[[], DiagnosticStatus | None]]):
        self._node = node
        self._parts = parts
        self._hysteresis = {name: Hysteresis() for name in parts}
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._summary = node.create_publisher(DiagnosticStatus, "~/status", latched)
        self._last: DiagnosticStatus | None = None
        self._timer = node.create_timer(_PERIOD, self._update, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _update(self) -> None:
        name = self._node.get_fully_qualified_name().lstrip("/")
        statuses = []
        for part, report in self._parts.items():
            state = report()
            if state is None:
                self._hysteresis[part] = Hysteresis()
                continue
            reported = state.level
            state.level = self._hysteresis[part].level(reported)
            if state.level != reported:
                state.message = f"recovering: {state.message}"
            state.name, state.hardware_id = f"{name}: {part}", name
            statuses.append(state)
        array = DiagnosticArray(status=statuses)
        array.header.stamp = self._node.get_clock().now().to_msg()
        summary = worst(statuses)
        with unless_ending(self._node):
            self._publisher.publish(array)
            if self._last is None or (summary.level, summary.message) != (self._last.level, self._last.message):
                self._last = summary
                self._summary.publish(summary)


def worst(statuses: Sequence[DiagnosticStatus]) -> DiagnosticStatus:
    """The first status of the highest level."""
    return max(statuses, key=lambda state: state.level)
