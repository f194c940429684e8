"""An action client that may be used from any thread."""

from __future__ import annotations

import threading
from typing import Any

import rclpy.action
from rclpy.task import Future


class ActionClient(rclpy.action.ActionClient):
    """rclpy's, whose responses are not lost when another thread spins.

    Jazzy's rclpy notes a request as pending only after it was sent: a response that an executor takes in between is
    dropped as unexpected, and its future never ends. Here a response waits until its request is noted.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self._sending = threading.RLock()
        super().__init__(*args, **options)

    def send_goal_async(self, *args: Any, **options: Any) -> Future:
        with self._sending:
            return super().send_goal_async(*args, **options)

    def _cancel_goal_async(self, goal_handle: Any) -> Future:
        with self._sending:
            return super()._cancel_goal_async(goal_handle)

    def _get_result_async(self, goal_handle: Any) -> Future:
        with self._sending:
            return super()._get_result_async(goal_handle)

    async def execute(self, taken_data: Any) -> None:
        with self._sending:
            pass  # What was being sent when this was taken is noted now.
        await super().execute(taken_data)
