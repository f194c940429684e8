"""One question under way: where it is, and the way to end it."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from roboref_core.errors import ReferError
from roboref_core.models.cancellation import Cancellation
from roboref_core.referring.answer import Answer
from roboref_core.referring.frames import FrameLookup
from roboref_core.referring.query import Query
from roboref_core.referring.stage import Stage
from roboref_msgs.msg import ReferAnswer

from roboref_ros.services.futures import complete


@dataclass(frozen=True)
class Outcome:
    """An answered question, its answer as a message, and the transforms by which it was answered."""

    query: Query
    answer: Answer
    message: ReferAnswer
    frames: FrameLookup | None = None


class Inquiry:
    """Made when a question arrives, done when its asker has the answer or waits no longer.

    Args:
        waits_for_view: where no view can be searched yet, one is waited for; otherwise that is the answer.
        on_stage: called when a new stage begins, in whichever thread.

    Attributes:
        future: future of the outcome; whatever ends it, its deadline included, stops the model.
        cancellation: what the model looks at.
        stage: where it is.
    """

    def __init__(self, waits_for_view: bool = False, on_stage: Callable[[], None] = lambda: None):
        self.waits_for_view = waits_for_view
        self.future: Future[Outcome] = Future()
        self.cancellation = Cancellation()
        self.stage = Stage.QUEUED
        self._on_stage = on_stage
        self._started = time.monotonic()
        self.future.add_done_callback(lambda _: self.cancellation.cancel())

    @property
    def elapsed(self) -> float:
        """[s]"""
        return time.monotonic() - self._started

    def reach(self, stage: Stage) -> None:
        """A new stage begins; nobody is told of it once the question has ended."""
        self.stage = stage
        if not self.future.done():
            self._on_stage()

    def end(self, error: ReferError) -> bool:
        """End the wait with an error. Returns whether it had not ended before."""
        return complete(self.future, exception=error)
