"""One thread that owns the model, behind a bounded queue."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from roboref_ros.futures import complete


@dataclass(frozen=True)
class _Job:
    run: Callable[[float], Any]
    submitted: float
    future: Future


class Worker:
    """Runs jobs one after the other in a thread of its own.

    Args:
        queue_size: most jobs that wait while one runs.
    """

    def __init__(self, queue_size: int):
        if queue_size < 1:
            raise ValueError(f"the worker's queue must hold at least 1 job, found {queue_size}")
        self._jobs: queue.Queue[_Job | None] = queue.Queue(queue_size)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    def submit(self, run: Callable[[float], Any]) -> Future:
        """Queue a job; it is given the time it waited [s], and its future what it returns or raises.

        A job whose future is done before its turn (its deadline came) is passed over. Raises queue.Full.
        """
        job = _Job(run, time.monotonic(), Future())
        self._jobs.put_nowait(job)
        return job.future

    def close(self, timeout: float) -> bool:
        """Stop after the running job, without the waiting ones. Returns whether the thread ended in time [s]."""
        self._closed.set()
        try:
            self._jobs.put_nowait(None)
        except queue.Full:
            pass  # The thread is awake already, and looks whether it is to stop after every job.
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._closed.is_set():
            job = self._jobs.get()
            if job is None or job.future.done():
                continue
            try:
                result = job.run(time.monotonic() - job.submitted)
            except Exception as error:  # Belongs to whoever waits for the future.
                complete(job.future, exception=error)
            else:
                complete(job.future, result)
