"""Questions of one activation: the model, the thread that owns it, and what it answers from."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import replace

from rclpy.node import Node
from roboref_core.errors import ErrorCode, ReferError
from roboref_core.models.pointing_model import PointingModel
from roboref_core.referring import refer
from roboref_core.referring.answer import Answer
from roboref_core.referring.frames import FrameLookup
from roboref_core.referring.query import Query
from roboref_core.referring.refer import Now
from roboref_core.referring.stage import Stage
from roboref_core.views.view_buffer import ViewBuffer

from roboref_ros import parameters
from roboref_ros.conversions import answer_to_message
from roboref_ros.intake.intake import Intake
from roboref_ros.ros_time import is_simulated
from roboref_ros.services.inquiry import Inquiry, Outcome
from roboref_ros.services.pose_residuals import PoseResiduals
from roboref_ros.services.worker import Worker


class Answering:
    """Answers queries one after the other in the worker's thread.

    Args:
        frames: transforms between frames other than the views' world frame; None: there are none.

    Attributes:
        model_name: goes into every answer.
        newest: the newest answer; None before the first.
    """

    def __init__(
        self,
        node: Node,
        buffer: ViewBuffer,
        intake: Intake,
        model: PointingModel,
        frames: FrameLookup | None,
        residuals: PoseResiduals,
    ):
        self._node = node
        self._buffer = buffer
        self._intake = intake
        self._model: PointingModel | None = model
        self._frames = frames
        self._residuals = residuals
        self._queue_size = node.get_parameter("inference.queue_size").value
        self._worker = Worker(self._queue_size)
        self._lock = threading.Lock()
        self._without_view: dict[Inquiry, tuple[Query, float]] = {}
        self.model_name = model.name
        self.newest: Answer | None = None

    @property
    def waiting(self) -> int:
        """Questions that wait for their turn."""
        return self._worker.waiting

    def position(self, inquiry: Inquiry) -> int | None:
        """Questions ahead of one that waits for its turn; None: it does not."""
        return self._worker.position(inquiry.future)

    def submit(self, query: Query, deadline: float, inquiry: Inquiry) -> None:
        """Queue a question, or let it wait for a view first.

        Args:
            deadline: time.monotonic() after which nobody waits [s].
        Raises ReferError: BUSY, and NOT_ACTIVE after ``close``.
        """
        if not (inquiry.waits_for_view and self._lacks_view(query)):
            self._queue(query, deadline, inquiry)
            return
        inquiry.reach(Stage.WAITING_FOR_VIEW)
        with self._lock:
            self._without_view[inquiry] = query, deadline
        inquiry.future.add_done_callback(lambda _: self._forget(inquiry))
        # A view may have come since.
        self.on_view()

    def on_view(self) -> None:
        """A view is in the buffer: questions that waited for it are queued."""
        with self._lock:
            waiting = list(self._without_view.items())
        for inquiry, (query, deadline) in waiting:
            if self._lacks_view(query):
                continue
            if self._forget(inquiry):
                try:
                    inquiry.reach(Stage.QUEUED)
                    self._queue(query, deadline, inquiry)
                except ReferError as error:
                    inquiry.end(error)

    def why_no_view(self, query: Query) -> ReferError:
        """What a question that waited for a view in vain is answered."""
        error = self._no_view(query) or ReferError(ErrorCode.TIMEOUT, "a view came, but too late")
        answer = self._explained(Answer.error(error.code, str(error)))
        return ReferError(answer.error_code, answer.error_msg)

    def close(self, timeout: float) -> bool:
        """Fail all questions with CANCELED and let go of the model. Returns whether it had stopped in time [s]."""
        with self._lock:
            waiting = list(self._without_view)
        for inquiry in waiting:
            inquiry.end(ReferError(ErrorCode.CANCELED, "the node stops answering"))
        ended = self._worker.close(timeout)
        self._model = None
        return ended

    def _queue(self, query: Query, deadline: float, inquiry: Inquiry) -> None:
        try:
            self._worker.submit(lambda waited: self._answer(query, deadline, inquiry, waited), inquiry.future)
        except queue.Full as error:
            raise ReferError(ErrorCode.BUSY, f"{self._queue_size} questions are waiting already") from error

    def _forget(self, inquiry: Inquiry) -> bool:
        """Returns whether it was waiting for a view."""
        with self._lock:
            return self._without_view.pop(inquiry, None) is not None

    def _lacks_view(self, query: Query) -> bool:
        """Whether a view that comes later would help."""
        error = self._no_view(query)
        return error is not None and error.code in (ErrorCode.NO_VIEW, ErrorCode.VIEW_STALE)

    def _no_view(self, query: Query) -> ReferError | None:
        return refer.why_no_view(query, self._buffer, parameters.refer_config(self._node), self._now())

    def _now(self) -> Now:
        # A simulated clock may stand still, while a bag is paused: arrival times say nothing of it.
        return Now(self._node.get_clock().now().nanoseconds, None if is_simulated(self._node) else time.monotonic())

    def _answer(self, query: Query, deadline: float, inquiry: Inquiry, waited: float) -> Outcome:
        model = self._model
        if model is None:
            raise ReferError(ErrorCode.CANCELED, "the node stops answering")
        config = parameters.refer_config(self._node)
        answer = refer.answer(
            query,
            self._buffer,
            model,
            config,
            self._frames,
            self._now(),
            deadline,
            inquiry.cancellation,
            inquiry.reach,
            poses_disagree=self._residuals.newest.poses_disagree,
        )
        answer = replace(self._explained(answer), queue_time=waited)
        pinned = answer.view is not None and self._buffer.is_pinned(answer.view.view_id)
        self.newest = answer
        return Outcome(query, answer, answer_to_message(answer, pinned), self._frames)

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
