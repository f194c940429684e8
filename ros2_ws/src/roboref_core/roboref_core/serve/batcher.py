"""One thread owns the models; questions that are waiting together are answered together."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from roboref_core.models.vision_language_model import Generation, Prompt, VisionLanguageModel

# How long the first prompt of a batch waits for others [s].
_WINDOW = 0.002


@dataclass(frozen=True)
class _Question:
    vlm: VisionLanguageModel
    prompt: Prompt
    future: Future[Generation]
    submitted: float


class Batcher:
    """Feeds models from many threads. Models are used in the batcher's own thread only, one at a time.

    Args:
        max_batch: most prompts answered in one call.
        on_batch: told the size and the seconds of each call of the model.
    """

    def __init__(
        self,
        max_batch: int = 8,
        on_batch: Callable[[int, float], None] = lambda size, seconds: None,
    ):
        self._max_batch, self._on_batch = max_batch, on_batch
        self._waiting: queue.Queue[_Question | None] = queue.Queue()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def submit(self, vlm: VisionLanguageModel, prompt: Prompt) -> Future[Generation]:
        """The Generation to come; its timings gain "queue" [s]. A cancelled future is not answered any more."""
        future: Future[Generation] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            self._waiting.put(_Question(vlm, prompt, future, time.perf_counter()))
        return future

    def close(self) -> None:
        """Take nothing more, answer what was taken, and stop."""
        with self._lock:
            self._closed = True
            self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next_batch():
            running = [question for question in batch if question.future.set_running_or_notify_cancel()]
            while running:
                vlm = running[0].vlm
                self._answer(vlm, [question for question in running if question.vlm is vlm])
                running = [question for question in running if question.vlm is not vlm]

    def _next_batch(self) -> list[_Question]:
        """At least one question, or nothing when it is time to stop."""
        question = self._waiting.get()
        batch = []
        deadline = time.perf_counter() + _WINDOW
        while question is not None:
            batch.append(question)
            if len(batch) == self._max_batch:
                return batch
            try:
                question = self._waiting.get(timeout=max(0.0, deadline - time.perf_counter()))
            except queue.Empty:
                return batch
        if batch:
            self._waiting.put(None)  # stop next time
        return batch

    def _answer(self, vlm: VisionLanguageModel, batch: Sequence[_Question]) -> None:
        start = time.perf_counter()
        try:
            generations = vlm.generate_batch([question.prompt for question in batch])
            if len(generations) != len(batch):
                raise RuntimeError(f"the model gave {len(generations)} answers to {len(batch)} prompts")
        except Exception as error:  # whatever a model raises belongs to its askers, not to this thread
            if len(batch) == 1:
                batch[0].future.set_exception(error)
            else:
                # One bad prompt must not cost the others their answers.
                for question in batch:
                    self._answer(vlm, [question])
            return
        self._on_batch(len(batch), time.perf_counter() - start)
        for question, generation in zip(batch, generations, strict=True):
            timings = {**generation.timings, "queue": start - question.submitted}
            question.future.set_result(replace(generation, timings=timings))
