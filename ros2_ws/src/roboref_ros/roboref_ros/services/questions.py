"""The service that answers questions: conversion, queue, deadline, and what is published of every answer."""

from __future__ import annotations

import queue
import time
from concurrent.futures import Future
from dataclasses import dataclass, replace

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from roboref_core.errors import ErrorCode
from roboref_core.models.pointing_model import PointingModel
from roboref_core.referring import refer
from roboref_core.referring.answer import Answer
from roboref_core.referring.frames import FrameLookup
from roboref_core.referring.query import Query
from roboref_core.views.view_buffer import ViewBuffer
from roboref_msgs.msg import ReferAnswer
from roboref_msgs.srv import ReferPoint
from sensor_msgs.msg import Image
from visualization_msgs.msg import MarkerArray

from roboref_ros import parameters
from roboref_ros.conversions import answer_to_message, query_from_message
from roboref_ros.ending import unless_ending
from roboref_ros.intake.intake import Intake
from roboref_ros.services import visuals
from roboref_ros.services.futures import Deadlines, awaitable
from roboref_ros.services.worker import Worker

# A newest view this old is not a slow camera but another clock [s].
_OTHER_CLOCK = 86400.0


@dataclass(frozen=True)
class _Outcome:
    query: Query
    answer: Answer
    message: ReferAnswer


class Questions:
    """Answers ReferPoint calls on ``~/refer_point``, one after the other in the worker's thread.

    Every call is answered: what is refused here (malformed, queue full, deadline passed) with a code too.
    """

    def __init__(
        self,
        node: Node,
        buffer: ViewBuffer,
        intake: Intake,
        model: PointingModel,
        frames: FrameLookup | None,
        deadlines: Deadlines,
    ):
        self._node = node
        self._buffer = buffer
        self._intake = intake
        self._model = model
        self._frames = frames
        self._deadlines = deadlines
        self._worker = Worker(node.get_parameter("inference.queue_size").value)
        self._answers = node.create_publisher(ReferAnswer, "~/answer", 10)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._markers = node.create_publisher(MarkerArray, "~/markers", latched)
        self._debug_images = node.create_publisher(Image, "~/debug_image", 1)
        self._service = node.create_service(
            ReferPoint, "~/refer_point", self._serve, callback_group=ReentrantCallbackGroup()
        )

    def close(self, timeout: float) -> bool:
        """Stop answering. Returns whether the running question was finished in time [s]."""
        return self._worker.close(timeout)

    async def _serve(self, request: ReferPoint.Request, response: ReferPoint.Response) -> ReferPoint.Response:
        try:
            query = query_from_message(request.query)
        except ValueError as error:
            response.answer = self._refusal(ErrorCode.INVALID_QUERY, str(error))
        else:
            response.answer = await self._ask(query)
            self._answers.publish(response.answer)
        return response

    async def _ask(self, query: Query) -> ReferAnswer:
        asked, now_ns = time.monotonic(), self._node.get_clock().now().nanoseconds
        try:
            timeout = query.timeout or self._node.get_parameter("inference.timeout").value
            deadline = asked + timeout
            future = self._worker.submit(lambda waited: self._answer(query, now_ns, deadline, waited))
            outcome = awaitable(future, self._node)
            future.add_done_callback(self._show)
            self._deadlines.watch(future, deadline, f"no answer within {timeout:g} s")
            return (await outcome).message
        except queue.Full:
            size = self._node.get_parameter("inference.queue_size").value
            return self._refusal(ErrorCode.BUSY, f"{size} questions are waiting already")
        except TimeoutError as error:
            return self._refusal(ErrorCode.TIMEOUT, str(error))
        except Exception as error:  # Whoever asks gets an answer.
            self._node.get_logger().error(f"question failed: {type(error).__name__}: {error}")
            return self._refusal(ErrorCode.UNKNOWN, f"{type(error).__name__}: {error}")

    def _refusal(self, code: ErrorCode, text: str) -> ReferAnswer:
        return answer_to_message(Answer.error(code, text, model=self._model.name))

    def _answer(self, query: Query, now_ns: int, deadline: float, waited: float) -> _Outcome:
        config = parameters.refer_config(self._node)
        answer = refer.answer(query, self._buffer, self._model, config, self._frames, now_ns, deadline)
        answer = replace(self._explained(answer), queue_time=waited)
        pinned = answer.view is not None and self._buffer.is_pinned(answer.view.view_id)
        return _Outcome(query, answer, answer_to_message(answer, pinned))

    def _explained(self, answer: Answer) -> Answer:
        """Say why there is no view, or no pose, where the intake knows it."""
        if answer.error_code in (ErrorCode.NO_VIEW, ErrorCode.VIEW_STALE):
            problem = self._intake.problem
            code = problem.code if problem else answer.error_code
            reason = self._intake.diagnosis()
            if answer.view_age > _OTHER_CLOCK and not self._node.get_parameter("use_sim_time").value:
                reason = "stamps and clock differ by days: is this a bag? Set use_sim_time"
            return replace(answer, error_code=code, error_msg=f"{answer.error_msg}: {reason}")
        if answer.error_code == ErrorCode.TF_ERROR and self._intake.pose_problem:
            return replace(answer, error_msg=f"{answer.error_msg}: {self._intake.pose_problem}")
        return answer

    def _show(self, future: Future) -> None:
        """In the worker's thread, when the answer is on its way already."""
        if future.exception() is not None:
            return
        query, answer = future.result().query, future.result().answer
        try:
            with unless_ending(self._node):
                self._markers.publish(visuals.markers(answer, query.text))
                if answer.view is not None and self._debug_images.get_subscription_count():
                    self._debug_images.publish(visuals.debug_image(answer, query.text))
        except ValueError as error:
            self._node.get_logger().warning(f"answer not drawn: {error}", throttle_duration_sec=5.0)
