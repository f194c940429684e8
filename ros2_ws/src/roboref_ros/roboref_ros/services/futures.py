"""Futures between threads: completed once, failed at a deadline in steady time, awaited in a callback."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
import weakref
from concurrent.futures import Future, InvalidStateError

import rclpy.task
from rclpy.node import Node


def complete(future: Future, result=None, exception: BaseException | None = None) -> bool:
    """Give a future its outcome unless it has one. Returns whether it was the first."""
    try:
        future.set_result(result) if exception is None else future.set_exception(exception)
    except InvalidStateError:
        return False
    return True


def awaitable(future: Future, node: Node) -> rclpy.task.Future:
    """What a callback of ``node`` can await: gets the outcome of ``future``, from whichever thread it comes.

    The callback belongs in a reentrant callback group: while it awaits, a mutually exclusive one is blocked.
    """
    awaited = rclpy.task.Future()

    def done(_):
        error = future.exception()
        if error is None:
            awaited.set_result(future.result())
        else:
            awaited.set_exception(error)
        # The executor resumes the callback at its next turn, which nothing else would bring about.
        if node.executor is not None:
            node.executor.wake()

    future.add_done_callback(done)
    return awaited


class Deadlines:
    """One thread that gives every watched future a TimeoutError when its time has come."""

    def __init__(self):
        # Weak: an answer, with the images of its view, must not live on until its deadline.
        self._heap: list[tuple[float, int, weakref.ref[Future], str]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
        self._thread.start()

    def watch(self, future: Future, deadline: float, message: str) -> None:
        """Fail ``future`` with TimeoutError(message) at ``deadline`` (time.monotonic(), [s]) unless it is done."""
        with self._changed:
            heapq.heappush(self._heap, (deadline, next(self._order), weakref.ref(future), message))
            self._changed.notify()

    def close(self) -> None:
        """Stop; what is still watched fails at once."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._closed:
                    remaining = self._heap[0][0] - time.monotonic() if self._heap else None
                    if remaining is None or remaining > 0:
                        self._changed.wait(remaining)
                        continue
                elif not self._heap:
                    return
                _, _, watched, message = heapq.heappop(self._heap)
            future = watched()
            if future is not None:
                # Outside the lock: the future's callbacks run here.
                complete(future, exception=TimeoutError(message))
