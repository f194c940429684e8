"""What was computed of pairs of images, which ends with the images."""

from __future__ import annotations

import threading
import weakref
from typing import Generic, TypeVar

from roboref_core.views.view import LazyImage, View

Value = TypeVar("Value")


class PairMemory(Generic[Value]):
    """One value per ordered pair of images. Safe from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: weakref.WeakKeyDictionary[LazyImage, weakref.WeakKeyDictionary[LazyImage, Value]] = (
            weakref.WeakKeyDictionary()
        )

    def get(self, first: View, second: View) -> Value | None:
        """None for a pair that has no value."""
        with self._lock:
            held = self._held.get(first.images)
            return None if held is None else held.get(second.images)

    def put(self, first: View, second: View, value: Value) -> None:
        with self._lock:
            self._held.setdefault(first.images, weakref.WeakKeyDictionary())[second.images] = value
