"""How far the surfaces of overlapping keyframes lie apart: whether odometry has gone bad, before anybody asks."""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.timer import Timer
from roboref_core.referring.pose_residual import PoseResidual, pose_residual
from roboref_core.views.view_buffer import ViewBuffer
from roboref_msgs import msg
from std_msgs.msg import Header

from roboref_ros.conversions import to_time
from roboref_ros.ending import unless_ending

_log = logging.getLogger(__name__)
_VIEWS = 8
"""Newest keyframes that are compared, each with the one before: odometry is judged by what it did lately."""


class PoseResiduals:
    """Compares the newest keyframes every ``period`` seconds (steady time) if there is a new one, in a thread of its
    own, and publishes what it finds, latched, on ``~/pose_residual``.

    Args:
        period: [s]; 0: never.

    Attributes:
        newest: the newest result; one without pairs before the first.
    """

    def __init__(self, node: Node, buffer: ViewBuffer, period: float):
        self._node = node
        self._buffer = buffer
        self.newest = PoseResidual()
        self._of = ""
        self._running: Future[None] | None = None
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pose residual")
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._publisher = node.create_publisher(msg.PoseResidual, "~/pose_residual", latched)
        self._timer: Timer | None = None
        if period > 0:
            clock = Clock(clock_type=ClockType.STEADY_TIME)
            self._timer = node.create_timer(period, self._start, clock=clock)

    def close(self) -> None:
        """End thread, timer and topic; the node may go on without them."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
        self._pool.shutdown(cancel_futures=True)
        self._node.destroy_publisher(self._publisher)

    def forget(self) -> None:
        """Forget what the views said of the poses, as the views are gone."""
        self.newest, self._of = PoseResidual(), ""

    def _start(self) -> None:
        if self._running is None or self._running.done():
            self._running = self._pool.submit(self._update)

    def _update(self) -> None:
        views = self._buffer.keyframes()[:_VIEWS]
        if not views or views[0].view_id == self._of:
            return
        self._of = views[0].view_id
        try:
            found = pose_residual(views)
        except Exception:  # The thread lives on, and the trouble has its traceback.
            _log.exception("pose residual failed")
            return
        self.newest = found
        header = Header(stamp=to_time(views[0].stamp_ns), frame_id=views[0].world_frame)
        with unless_ending(self._node):
            self._publisher.publish(residual_to_message(found, header))


def residual_to_message(residual: PoseResidual, header: Header) -> msg.PoseResidual:
    """``header``: capture time of the newest keyframe, and the frame of its pose."""
    return msg.PoseResidual(
        header=header,
        residual=residual.residual,
        expected=residual.expected,
        pairs=residual.pairs,
        poses_disagree=residual.poses_disagree,
    )
