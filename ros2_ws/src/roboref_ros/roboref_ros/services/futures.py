"""Futures between threads: completed once, failed at a deadline in steady time, awaited in a callback."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable
from concurrent.futures import Future, InvalidStateError
from typing import Any, cast

import rclpy.task
from rclpy.node import Node


def complete(future: Future[Any], result: Any = None, exception: BaseException | None = None) -> bool:
    """Give a future its outcome unless it has one. Returns whether it was the first."""
    try:
        future.set_result(result) if exception is None else future.set_exception(exception)
    except InvalidStateError:
        return False
    return True


def awaitable(future: Future[Any], node: Node) -> Awaitable[Any]:
    """What a callback of ``node`` can await: gets the outcome of ``future``, from whichever thread it comes.

    The callback belongs in a reentrant callback group: while it awaits, a mutually exclusive one is blocked.
    """
    awaited = rclpy.task.Future()

    def done(_: Future[Any]) -> None:
        error = future.exception()
        if error is None:
            awaited.set_result(future.result())
        else:
            awaited.set_exception(error)
        # The executor resumes the callback at its next turn, which nothing else would bring about.
        if node.executor is not None:
            node.executor.wake()

    future.add_done_callback(done)
    return cast(Awaitable[Any], awaited)


class Deadlines:
    """One thread that gives every watched future a TimeoutError when its time has come."""

    def __init__(self) -> None:
        self._watched: dict[Future[Any], tuple[float, str]] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """Futures that are watched now."""
        return len(self._watched)

    def watch(self, future: Future[Any], deadline: float, message: str) -> None:
        """Fail ``future`` with TimeoutError(message) at ``deadline`` (time.monotonic(), [s]) unless it is done."""
        with self._changed:
            self._watched[future] = (deadline, message)
            self._changed.notify()
        # An answer, with the images of its view, must not live on until its deadline.
        future.add_done_callback(self._forget)

    def close(self) -> None:
        """Stop; what is still watched fails at once."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _forget(self, future: Future[Any]) -> None:
        with self._changed:
            self._watched.pop(future, None)

    def _run(self) -> None:
        while True:
            with self._changed:
                now = time.monotonic()
                due = [
                    (future, message)
                    for future, (deadline, message) in self._watched.items()
                    if self._closed or deadline <= now
                ]
                if not due:
                    if self._closed:
                        return
                    first = min((deadline for deadline, _ in self._watched.values()), default=None)
                    self._changed.wait(None if first is None else min(first - now, threading.TIMEOUT_MAX))
                    continue
                for future, _ in due:
                    del self._watched[future]
            for future, message in due:
                # Outside the lock: the future's callbacks run here.
                complete(future, exception=TimeoutError(message))
