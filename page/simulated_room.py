"""A simulated room as the page sees it: what stands in it, and changes of it. A real robot has none."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String


class SimulatedRoom:
    """Listens to /room/objects and /room/kinds, and asks for changes on /room/change.

    Attributes:
        objects: id, label, colour and position of the room's things; None as long as no simulation tells of a room.
        kinds: what can be brought in.
    """

    def __init__(self, node: Node):
        self._node = node
        self.objects: list[dict[str, Any]] | None = None
        self.kinds: list[str] = []
        self._waiting: dict[str, tuple[asyncio.AbstractEventLoop, asyncio.Future[str]]] = {}
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        node.create_subscription(String, "/room/objects", self._on_objects, latched)
        node.create_subscription(String, "/room/kinds", self._on_kinds, latched)
        self._answers = node.create_subscription(String, "/room/answer", self._on_answer, 10)
        self._changes = node.create_publisher(String, "/room/change", 10)

    async def change(self, change: dict[str, Any], timeout: float = 10.0) -> None:
        """Change the room. Raises ValueError if it was refused and TimeoutError if nothing was heard."""
        text = json.dumps(change)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[str] = loop.create_future()
        self._waiting[text] = loop, done
        try:
            async with asyncio.timeout(timeout):
                # What is published before the other side is matched is lost, and so is its answer.
                while not (self._changes.get_subscription_count() and self._answers.get_publisher_count()):
                    await asyncio.sleep(0.02)
                self._changes.publish(String(data=text))
                refused = await done
        except TimeoutError:
            raise TimeoutError(f"no word on /room/answer within {timeout:g} s") from None
        finally:
            self._waiting.pop(text, None)
        if refused:
            raise ValueError(refused)

    def _on_objects(self, message: String) -> None:
        self.objects = self._parsed(message, "/room/objects", self.objects)

    def _on_kinds(self, message: String) -> None:
        self.kinds = self._parsed(message, "/room/kinds", self.kinds)

    def _on_answer(self, message: String) -> None:
        answer = self._parsed(message, "/room/answer", {})
        waiting = self._waiting.get(str(answer.get("change")))
        if waiting is not None:
            loop, done = waiting
            loop.call_soon_threadsafe(_settle, done, str(answer.get("refused")))

    def _parsed(self, message: String, topic: str, otherwise: Any) -> Any:
        """A message's JSON, or, with a word in the log, ``otherwise``."""
        try:
            return json.loads(message.data)
        except (ValueError, RecursionError) as error:
            self._node.get_logger().warning(f"{topic}: {error}", throttle_duration_sec=5.0)
            return otherwise


def _settle(done: asyncio.Future[str], refused: str) -> None:
    if not done.done():
        done.set_result(refused)
