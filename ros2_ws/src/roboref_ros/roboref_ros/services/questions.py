"""The service that answers questions: conversion, queue, deadline, and what is published of every answer."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from roboref_core.errors import ErrorCode, ReferError
from roboref_core.models.pointing_model import PointingModel
from roboref_core.referring import refer
from roboref_core.referring.answer import Answer
from roboref_core.referring.frames import FrameLookup
from roboref_core.referring.query import Query, check_size
from roboref_core.referring.refer import Now
from roboref_core.views.view_buffer import ViewBuffer
from roboref_msgs.msg import ReferAnswer, ReferQuery
from roboref_msgs.srv import ReferPoint
from sensor_msgs.msg import Image
from visualization_msgs.msg import MarkerArray

from roboref_ros import parameters
from roboref_ros.conversions import answer_to_message, clean_text, query_from_message
from roboref_ros.ending import unless_ending
from roboref_ros.intake.intake import Intake
from roboref_ros.ros_time import is_simulated
from roboref_ros.services import visuals
from roboref_ros.services.burst import burst_profile
from roboref_ros.services.futures import Deadlines, awaitable
from roboref_ros.services.worker import Worker

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Outcome:
    query: Query
    answer: Answer
    message: ReferAnswer


class Questions:
    """Answers ReferPoint calls on ``~/refer_point``, one after the other in the worker's thread.

    Every call is answered: what is refused here (malformed, queue full, deadline passed) with a code too.

    Attributes:
        newest: the newest answer; None before the first.
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
        self.newest: Answer | None = None
        self._service = node.create_service(
            ReferPoint,
            "~/refer_point",
            self._serve,
            qos_profile=burst_profile(),
            callback_group=ReentrantCallbackGroup(),
        )

    def close(self, timeout: float) -> bool:
        """Stop answering. Returns whether the running question was finished in time [s]."""
        return self._worker.close(timeout)

    @property
    def waiting(self) -> int:
        """Questions that wait for their turn."""
        return self._worker.waiting

    async def _serve(self, request: ReferPoint.Request, response: ReferPoint.Response) -> ReferPoint.Response:
        response.answer = await self.reply(request.query)
        return response

    async def reply(
        self, message: ReferQuery, on_queued: Callable[[Future[Any]], None] = lambda _: None
    ) -> ReferAnswer:
        """The answer to a question, in a callback of the node. Whatever a client or a model sends, there is one.

        Args:
            on_queued: called with the future of the answer; who fails it with a ReferError ends the wait.
        """
        try:
            answer = await self._ask(query_from_message(message), on_queued)
            with unless_ending(self._node):
                self._answers.publish(answer)
            return answer
        except ReferError as error:
            return self._refusal(error.code, str(error))
        except ValueError as error:
            return self._refusal(ErrorCode.INVALID_QUERY, str(error))
        except Exception as error:
            _log.exception("question failed")
            return self._refusal(ErrorCode.UNKNOWN, f"{type(error).__name__}: {error}")

    def queue_position(self, future: Future[Any]) -> int | None:
        """Questions ahead of one that waits; None: it runs, or is done."""
        return self._worker.position(future)

    async def _ask(self, query: Query, on_queued: Callable[[Future[Any]], None]) -> ReferAnswer:
        """Raises ReferError: INVALID_QUERY, BUSY, TIMEOUT, CANCELED; and what the unforeseen raises."""
        check_size(query)
        timeout = query.timeout or self._node.get_parameter("inference.timeout").value
        deadline = time.monotonic() + timeout
        try:
            future = self._worker.submit(lambda waited: self._answer(query, deadline, waited))
        except queue.Full as error:
            size = self._node.get_parameter("inference.queue_size").value
            raise ReferError(ErrorCode.BUSY, f"{size} questions are waiting already") from error
        outcome = awaitable(future, self._node)
        future.add_done_callback(self._show)
        self._deadlines.watch(future, deadline, f"no answer within {timeout:g} s")
        on_queued(future)
        try:
            return (await outcome).message
        except TimeoutError as error:
            raise ReferError(ErrorCode.TIMEOUT, str(error)) from error

    def _refusal(self, code: ErrorCode, text: str) -> ReferAnswer:
        return answer_to_message(Answer.error(code, text, self._model.name))

    def _answer(self, query: Query, deadline: float, waited: float) -> _Outcome:
        config = parameters.refer_config(self._node)
        # A simulated clock may stand still, while a bag is paused: arrival times say nothing of it.
        now = Now(self._node.get_clock().now().nanoseconds, None if is_simulated(self._node) else time.monotonic())
        answer = refer.answer(query, self._buffer, self._model, config, self._frames, now, deadline)
        answer = replace(self._explained(answer), queue_time=waited)
        pinned = answer.view is not None and self._buffer.is_pinned(answer.view.view_id)
        self.newest = answer
        return _Outcome(query, answer, answer_to_message(answer, pinned))

    def _explained(self, answer: Answer) -> Answer:
        """Say why there is no view, or no pose, where the intake knows it."""
        if answer.error_code in (ErrorCode.NO_VIEW, ErrorCode.VIEW_STALE):
            diagnosis = self._intake.diagnosis(is_simulated(self._node))
            kept = diagnosis.code in (ErrorCode.NO_VIEW, ErrorCode.VIEW_STALE)
            code = answer.error_code if kept else diagnosis.code
            return replace(answer, error_code=code, error_msg=f"{answer.error_msg}: {diagnosis.text}")
        if answer.error_code == ErrorCode.TF_ERROR and self._intake.pose_problem:
            return replace(answer, error_msg=f"{answer.error_msg}: {self._intake.pose_problem}")
        return answer

    def _show(self, future: Future[_Outcome]) -> None:
        """In the worker's thread, when the answer is on its way already."""
        if future.exception() is not None:
            return
        query, answer = future.result().query, future.result().answer
        text = clean_text(query.text)
        try:
            with unless_ending(self._node):
                self._markers.publish(visuals.markers(answer, text))
                if answer.view is not None and self._debug_images.get_subscription_count():
                    self._debug_images.publish(visuals.debug_image(answer, answer.view, text))
        except Exception as error:
            _log.warning("answer not drawn: %s: %s", type(error).__name__, error)
