"""The same questions as an action: progress, cancel at any moment, and what a new goal does to the earlier ones."""

from __future__ import annotations

from rclpy.action import ActionServer, CancelResponse, GoalResponse
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
from roboref_ros.services.inquiry import Inquiry
from roboref_ros.services.questions import Questions

_FEEDBACK_PERIOD = 0.2


class ReferAction:
    """``~/refer_point`` as an action. A goal that is cancelled is answered CANCELED at once, in every state.

    Unlike the service it waits for a view if there is none to search yet. The parameter ``action.preemption`` says
    what a new goal does while others are under way: ``queue`` puts it behind them, ``newest`` ends them (aborted, with
    the code CANCELED), ``reject`` refuses it.
    """

    def __init__(self, node: Node, questions: Questions):
        self._node = node
        self._questions = questions
        self._running: dict[bytes, tuple[ServerGoalHandle, Inquiry]] = {}
        group = ReentrantCallbackGroup()
        self._server = ActionServer(
            node,
            ReferPoint,
            "~/refer_point",
            self._execute,
            callback_group=group,
            goal_callback=self._decide,
            handle_accepted_callback=self._accept,
            cancel_callback=self._cancel,
            goal_service_qos_profile=burst_profile(),
            result_service_qos_profile=burst_profile(),
            cancel_service_qos_profile=burst_profile(),
        )
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(_FEEDBACK_PERIOD, self._report_all, callback_group=group, clock=steady)

    @property
    def _preemption(self) -> str:
        return str(self._node.get_parameter("action.preemption").value)

    def _decide(self, _: ReferPoint.Goal) -> GoalResponse:
        return GoalResponse.REJECT if self._preemption == "reject" and self._running else GoalResponse.ACCEPT

    def _accept(self, goal: ServerGoalHandle) -> None:
        if self._preemption == "newest":
            for _, earlier in list(self._running.values()):
                earlier.end(ReferError(ErrorCode.CANCELED, "a newer goal took its place"))
        inquiry = Inquiry(waits_for_view=True, on_stage=lambda: self._report(goal, inquiry))
        self._running[_key(goal)] = goal, inquiry
        goal.execute()

    async def _execute(self, goal: ServerGoalHandle) -> ReferPoint.Result:
        _, inquiry = self._running[_key(goal)]
        answer = await self._questions.reply(goal.request.query, inquiry)
        self._running.pop(_key(goal), None)
        with unless_ending(self._node):
            if answer.error_code == ErrorCode.CANCELED and goal.is_cancel_requested:
                goal.canceled()
            elif answer.status == Status.ERROR:
                goal.abort()
            else:
                goal.succeed()
        return ReferPoint.Result(answer=answer)

    def _cancel(self, goal: ServerGoalHandle) -> CancelResponse:
        running = self._running.get(_key(goal))
        if running is not None:
            running[1].end(ReferError(ErrorCode.CANCELED, "the asker cancelled the question"))
        return CancelResponse.ACCEPT

    def _report_all(self) -> None:
        for goal, inquiry in list(self._running.values()):
            self._report(goal, inquiry)

    def _report(self, goal: ServerGoalHandle, inquiry: Inquiry) -> None:
        feedback = ReferPoint.Feedback(
            state=int(inquiry.stage),
            queue_position=self._questions.queue_position(inquiry) or 0,
            elapsed_time=to_duration(inquiry.elapsed),
        )
        with unless_ending(self._node):
            if goal.is_active:
                goal.publish_feedback(feedback)


def _key(goal: ServerGoalHandle) -> bytes:
    return bytes(goal.goal_id.uuid)
