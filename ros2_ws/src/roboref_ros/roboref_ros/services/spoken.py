"""Questions of people: a click in RViz or Foxglove, a line of text; answers as text."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
from geometry_msgs.msg import PointStamped
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from roboref_core.errors import ErrorCode
from roboref_core.referring.answer import Status
from roboref_msgs.msg import MarkedRegion, ReferAnswer, ReferQuery, ReferredTarget
from std_msgs.msg import String

from roboref_ros.conversions import clean_text, stamp_ns
from roboref_ros.ending import unless_ending
from roboref_ros.services.questions import Questions

_QUEUE = 10


class SpokenQuestions:
    """``~/ask`` takes a text, ``/clicked_point`` a place that the next texts may be about; ``~/say`` answers each.

    A clicked place is the mark of what is asked within ``ask.mark_lifetime``; an empty text asks about the mark alone.
    """

    def __init__(self, node: Node, questions: Questions):
        self._node = node
        self._questions = questions
        self._mark: tuple[MarkedRegion, float] | None = None
        # A terminal that is opened late still shows the newest one.
        self._say = node.create_publisher(
            String, "~/say", QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        )
        group = ReentrantCallbackGroup()
        ask: Any = self._ask  # rclpy awaits coroutines, which its types do not say
        self._subscriptions = [
            node.create_subscription(String, "~/ask", ask, _QUEUE, callback_group=group),
            node.create_subscription(PointStamped, "/clicked_point", self._click, _QUEUE, callback_group=group),
        ]

    def _click(self, message: PointStamped) -> None:
        p = message.point
        if not all(map(math.isfinite, (p.x, p.y, p.z))):
            self._publish(f"the clicked point is not finite: {p.x}, {p.y}, {p.z}")
            return
        region = MarkedRegion(type=MarkedRegion.TYPE_POSITION, position=message)
        self._mark = region, time.monotonic()
        self._publish(f"marked {_place(p.x, p.y, p.z, message.header.frame_id)}")

    async def _ask(self, message: String) -> None:
        regions = []
        if self._mark is not None:
            region, since = self._mark
            if time.monotonic() - since <= self._node.get_parameter("ask.mark_lifetime").value:
                regions = [region]
        query = ReferQuery(text=message.data, regions=regions, search_memory=True)
        answer = await self._questions.reply(query)
        now = self._node.get_clock().now().nanoseconds
        self._publish(in_words(message.data.strip() or "the marked place", answer, now))

    def _publish(self, text: str) -> None:
        with unless_ending(self._node):
            self._say.publish(String(data=clean_text(text)))


def in_words(asked: str, answer: ReferAnswer, now_ns: int) -> str:
    """An answer as one line for a person.

    Args:
        asked: how the person called it.
        now_ns: the present in the clock of the stamps [ns].
    """
    asked = asked[:200]
    if answer.status == Status.ERROR:
        return f"{asked}: {ErrorCode(answer.error_code).name}: {answer.error_msg}"
    if answer.status == Status.NOT_VISIBLE:
        if not answer.last_known:
            return f"{asked}: not visible"
        known = answer.last_known[0].target
        ago = max(0.0, (now_ns - stamp_ns(known.header.stamp)) * 1e-9)
        return f"{asked}: not visible now; {ago:.0f} s ago {_described(known)}"
    if answer.status == Status.FOUND:
        return f"{asked}: {_described(answer.targets[0])}"
    if answer.status == Status.AMBIGUOUS:
        places = "; or ".join(_described(target) for target in answer.targets)
        return f"{asked}: {len(answer.targets)} places fit: {places}"
    pixel = answer.targets[0].pixel
    return f"{asked}: seen at pixel ({pixel.u:.0f}, {pixel.v:.0f}), but there is no depth to tell where that is"


def _described(target: ReferredTarget) -> str:
    p = target.position
    text = _place(p.x, p.y, p.z, target.header.frame_id)
    if target.covariance_type == ReferredTarget.COVARIANCE_FULL:
        sigma = float(np.sqrt(np.linalg.eigvalsh(np.reshape(target.position_covariance, (3, 3)))[-1]))
        text += f", give or take {2 * sigma:.2f} m"
    return f"{text}, {target.depth:.1f} m before the camera"


def _place(x: float, y: float, z: float, frame: str) -> str:
    return f"at x {x:.2f}, y {y:.2f}, z {z:.2f} m in {frame or 'the fixed frame'}"
