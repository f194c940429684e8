"""A wish to stop that reaches a running model from another thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from roboref_core.errors import ErrorCode, ReferError


class Cancellation:
    """Set once, by who no longer waits for an answer, and never taken back. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._called: list[Callable[[], object]] = []

    def cancel(self) -> None:
        """Interrupt what runs under ``calling``; ``check`` raises from now on."""
        with self._lock:
            self._cancelled = True
            called, self._called = self._called, []
        for callback in called:
            callback()

    def check(self) -> None:
        """Raises ReferError(CANCELED) once it is cancelled."""
        if self._cancelled:
            raise ReferError(ErrorCode.CANCELED, "the asker does not wait for the answer any more")

    @contextmanager
    def calling(self, callback: Callable[[], object]) -> Iterator[None]:
        """Within the block ``cancel`` calls ``callback``, in its own thread; at once if it came before."""
        with self._lock:
            late = self._cancelled
            if not late:
                self._called.append(callback)
        if late:
            callback()
        try:
            yield
        finally:
            with self._lock:
                if callback in self._called:
                    self._called.remove(callback)
