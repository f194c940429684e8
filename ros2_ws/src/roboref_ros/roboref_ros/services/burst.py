"""Quality of service of the node's services: a burst of clients is queued, not lost."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

_DEPTH = 1000
"""Calls that the middleware keeps until the node takes them. Its default is 10, and the rest is lost unnoticed."""


def burst_profile() -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=_DEPTH,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.VOLATILE,
    )
