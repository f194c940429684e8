"""One thread that owns the model, behind a bounded queue."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from roboref_core.errors import ErrorCode, ReferError

from roboref_ros.services.futures import complete


@dataclass(frozen=True)
class _Job:
    run: Callable[[float], Any]
    submitted: float
    future: Future[Any]


class Worker:
    """Runs jobs one after the other in a thread of its own.

    Args:
        queue_size: most jobs that wait while one runs.
    """

    def __init__(self, queue_size: int):
        if queue_size < 1:
            raise ValueError(f"the worker's queue must hold at least 1 job, found {queue_size}")
        self._queue_size = queue_size
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._running: Future[Any] | None = None
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    def submit(self, run: Callable[[float], Any], future: Future[Any] | None = None) -> Future[Any]:
        """Queue a job; it is given the time it waited [s], and its future what it returns or raises.

        A job whose future is done before its turn (its deadline came) is passed over and takes no
        place. Raises queue.Full; ReferError(NOT_ACTIVE) after ``close``.
        """
        job = _Job(run, time.monotonic(), Future() if future is None else future)
        with self._changed:
            if self._closed:
                raise ReferError(ErrorCode.NOT_ACTIVE, "the node does not answer any more")
            self._jobs = deque(waiting for waiting in self._jobs if not waiting.future.done())
            if len(self._jobs) >= self._queue_size:
                raise queue.Full
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    @property
    def waiting(self) -> int:
        """Jobs that wait for their turn."""
        with self._changed:
            return sum(not job.future.done() for job in self._jobs)

    def position(self, future: Future[Any]) -> int | None:
        """Jobs that wait before this one; None if it waits no longer."""
        with self._changed:
            waiting = [job.future for job in self._jobs if not job.future.done()]
        return waiting.index(future) if future in waiting else None

    def close(self, timeout: float) -> bool:
        """Stop: the waiting jobs and the running one fail with CANCELED at once, though the latter goes on to its end.

        Returns whether the thread ended in time [s].
        """
        with self._changed:
            self._closed = True
            jobs, self._jobs = self._jobs, deque()
            futures = [job.future for job in jobs]
            if self._running is not None:
                futures.append(self._running)
            self._changed.notify()
        for future in futures:
            complete(future, exception=ReferError(ErrorCode.CANCELED, "the node stops answering"))
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._jobs) or self._closed)
                if self._closed:
                    return
                job = self._jobs.popleft()
                if job.future.done():
                    continue
                self._running = job.future
            try:
                result = job.run(time.monotonic() - job.submitted)
            except Exception as error:  # Belongs to the caller that waits for the future.
                complete(job.future, exception=error)
            else:
                complete(job.future, result)
                # Nothing is held while waiting for the next one: a result may have images.
                del result
            self._running = None
            del job
