"""One thread owns the model; questions that are waiting together are answered together."""
from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace

from roboref_core.models.base import Generation, Prompt, VisionLanguageModel


class Batcher:
    """Feeds a model from many threads.

    Args:
        vlm: used in the batcher's own thread only.
        max_batch: most prompts answered in one call.
        window: how long the first prompt of a batch waits for others [s].
        on_batch: told the size and the seconds of each call of the model.
    """

    def __init__(
        self,
        vlm: VisionLanguageModel,
        max_batch: int = 8,
        window: float = 0.002,
        on_batch: Callable[[int, float], None] = lambda size, seconds: None,
    ):
        self._vlm, self._max_batch, self._window, self._on_batch = vlm, max_batch, window, on_batch
        self._waiting: queue.Queue[tuple[Prompt, Future, float] | None] = queue.Queue()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def submit(self, prompt: Prompt) -> Future[Generation]:
        """The Generation to come; its timings gain "queue" [s]. A cancelled future is not answered any more."""
        future: Future[Generation] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            self._waiting.put((prompt, future, time.perf_counter()))
        return future

    def close(self) -> None:
        """Take nothing more, answer what was taken, and stop."""
        with self._lock:
            self._closed = True
            self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next_batch():
            running = [item for item in batch if item[1].set_running_or_notify_cancel()]
            if running:
                self._answer(running)

    def _next_batch(self) -> list[tuple[Prompt, Future, float]]:
        """At least one question, or nothing when it is time to stop."""
        item = self._waiting.get()
        batch = []
        deadline = time.perf_counter() + self._window
        while item is not None:
            batch.append(item)
            if len(batch) == self._max_batch:
                return batch
            try:
                item = self._waiting.get(timeout=max(0.0, deadline - time.perf_counter()))
            except queue.Empty:
                return batch
        if batch:
            self._waiting.put(None)  # stop next time
        return batch

    def _answer(self, batch: Sequence[tuple[Prompt, Future, float]]) -> None:
        start = time.perf_counter()
        try:
            generations = self._vlm.generate_batch([prompt for prompt, _, _ in batch])
            if len(generations) != len(batch):
                raise RuntimeError(f"the model gave {len(generations)} answers to {len(batch)} prompts")
        except Exception as error:  # whatever a model raises belongs to its askers, not to this thread
            if len(batch) == 1:
                batch[0][1].set_exception(error)
            else:
                # One bad prompt must not cost the others their answers.
                for item in batch:
                    self._answer([item])
            return
        self._on_batch(len(batch), time.perf_counter() - start)
        for (_, future, submitted), generation in zip(batch, generations, strict=True):
            future.set_result(replace(generation, timings={**generation.timings, "queue": start - submitted}))
