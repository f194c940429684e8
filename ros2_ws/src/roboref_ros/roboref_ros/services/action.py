"""The same questions as an action: progress, and cancel at any moment."""

from __future__ import annotations

import time
from concurrent.futures import Future
from typing import Any

from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from roboref_core.errors import ErrorCode, ReferError
from roboref_core.referring.answer import Status
from roboref_msgs.action import ReferPoint

from roboref_ros.conversions import to_duration
from roboref_ros.ending import unless_ending
from roboref_ros.services.burst import burst_profile
from roboref_ros.services.futures import complete
from roboref_ros.services.questions import Questions

_FEEDBACK_PERIOD = 0.2


class ReferAction:
    """``~/refer_point`` as an action. A goal that is cancelled is answered CANCELED at once, queued or running.

    A model that runs then goes on until it ends or its deadline comes; its answer is dropped.
    """

    def __init__(self, node: Node, questions: Questions):
        self._node = node
        self._questions = questions
        self._running: dict[bytes, tuple[ServerGoalHandle, Future[Any], float]] = {}
        group = ReentrantCallbackGroup()
        self._server = ActionServer(
            node,
            ReferPoint,
            "~/refer_point",
            self._execute,
            callback_group=group,
            cancel_callback=self._cancel,
            goal_service_qos_profile=burst_profile(),
            result_service_qos_profile=burst_profile(),
            cancel_service_qos_profile=burst_profile(),
        )
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(_FEEDBACK_PERIOD, self._report, callback_group=group, clock=steady)

    async def _execute(self, goal: ServerGoalHandle) -> ReferPoint.Result:
        key, started = bytes(goal.goal_id.uuid), time.monotonic()

        def on_queued(future: Future[Any]) -> None:
            self._running[key] = (goal, future, started)
            if goal.is_cancel_requested:
                _fail(future)

        answer = await self._questions.reply(goal.request.query, on_queued)
        self._running.pop(key, None)
        with unless_ending(self._node):
            if answer.error_code == ErrorCode.CANCELED and goal.is_cancel_requested:
                goal.canceled()
            elif answer.status == Status.ERROR:
                goal.abort()
            else:
                goal.succeed()
        return ReferPoint.Result(answer=answer)

    def _cancel(self, goal: ServerGoalHandle) -> CancelResponse:
        running = self._running.get(bytes(goal.goal_id.uuid))
        if running is not None:
            _fail(running[1])
        return CancelResponse.ACCEPT

    def _report(self) -> None:
        for goal, future, started in list(self._running.values()):
            position = self._questions.queue_position(future)
            feedback = ReferPoint.Feedback(
                state=ReferPoint.Feedback.INFERRING if position is None else ReferPoint.Feedback.QUEUED,
                queue_position=position or 0,
                elapsed_time=to_duration(time.monotonic() - started),
            )
            with unless_ending(self._node):
                if goal.is_active:
                    goal.publish_feedback(feedback)


def _fail(future: Future[Any]) -> None:
    complete(future, exception=ReferError(ErrorCode.CANCELED, "the asker cancelled the question"))
