"""The service that answers questions: conversion, deadline, and what is published of every answer."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from roboref_core.errors import ErrorCode, ReferError
from roboref_core.referring.answer import Answer
from roboref_core.referring.query import Query, check_size
from roboref_core.referring.stage import Stage
from roboref_msgs.msg import ReferAnswer, ReferQuery
from roboref_msgs.srv import ReferPoint
from sensor_msgs.msg import Image
from visualization_msgs.msg import MarkerArray

from roboref_ros.conversions import answer_to_message, clean_text, query_from_message
from roboref_ros.ending import unless_ending
from roboref_ros.services import visuals
from roboref_ros.services.answering import Answering
from roboref_ros.services.burst import burst_profile
from roboref_ros.services.futures import Deadlines, awaitable
from roboref_ros.services.inquiry import Inquiry, Outcome
from roboref_ros.services.targets import TargetTopics

_log = logging.getLogger(__name__)
NOT_ACTIVE = "the node is not active"


class Questions:
    """``~/refer_point``, as long as the node lives. Every call is answered, what is refused with a code too.

    Attributes:
        answering: who answers; None while the node is not active, and every call is answered NOT_ACTIVE.
    """

    def __init__(self, node: Node, deadlines: Deadlines):
        self._node = node
        self._deadlines = deadlines
        self.answering: Answering | None = None
        self._answers = node.create_publisher(ReferAnswer, "~/answer", 10)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._markers = node.create_publisher(MarkerArray, "~/markers", latched)
        self._targets = TargetTopics(node)
        self._debug_images = node.create_publisher(Image, "~/debug_image", 1)
        self._service = node.create_service(
            ReferPoint,
            "~/refer_point",
            self._serve,
            qos_profile=burst_profile(),
            callback_group=ReentrantCallbackGroup(),
        )

    async def _serve(self, request: ReferPoint.Request, response: ReferPoint.Response) -> ReferPoint.Response:
        response.answer = await self.reply(request.query)
        return response

    async def reply(self, message: ReferQuery, inquiry: Inquiry | None = None) -> ReferAnswer:
        """The answer to a question, in a callback of the node. Whatever a client or a model sends, there is one.

        Args:
            inquiry: to follow the question and to end it.
        """
        try:
            answer = await self._ask(query_from_message(message), inquiry or Inquiry())
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

    def queue_position(self, inquiry: Inquiry) -> int | None:
        """Questions ahead of one that waits for its turn; None: it does not."""
        answering = self.answering
        return None if answering is None else answering.position(inquiry)

    async def _ask(self, query: Query, inquiry: Inquiry) -> ReferAnswer:
        """Raises ReferError: NOT_ACTIVE, INVALID_QUERY, BUSY, TIMEOUT, CANCELED; and what the unforeseen raises."""
        answering, future = self.answering, inquiry.future
        if answering is None:
            raise ReferError(ErrorCode.NOT_ACTIVE, NOT_ACTIVE)
        check_size(query)
        timeout = query.timeout or self._node.get_parameter("inference.timeout").value
        deadline = time.monotonic() + timeout
        outcome = awaitable(future, self._node)
        future.add_done_callback(self._show)
        answering.submit(query, deadline, inquiry)
        self._deadlines.watch(future, deadline, f"no answer within {timeout:g} s")
        try:
            return (await outcome).message
        except TimeoutError as error:
            if inquiry.stage is Stage.WAITING_FOR_VIEW:
                raise answering.why_no_view(query) from error
            raise ReferError(ErrorCode.TIMEOUT, str(error)) from error

    def _refusal(self, code: ErrorCode, text: str) -> ReferAnswer:
        model = "" if self.answering is None else self.answering.model_name
        return answer_to_message(Answer.error(code, text, model))

    def _show(self, future: Future[Outcome]) -> None:
        """In the worker's thread, when the answer is on its way already."""
        if future.exception() is not None:
            return
        outcome = future.result()
        answer, text = outcome.answer, clean_text(outcome.query.text)
        try:
            with unless_ending(self._node):
                poses = self._targets.publish(answer, outcome.frames)
                self._markers.publish(visuals.markers(answer, text, poses))
                if answer.view is not None and self._debug_images.get_subscription_count():
                    self._debug_images.publish(visuals.debug_image(answer, answer.view, text))
        except Exception as error:
            _log.warning("answer not drawn: %s: %s", type(error).__name__, error)
