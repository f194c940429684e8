"""Poses by stamp, and between stamps; never beyond them by more than a stated tolerance."""

from __future__ import annotations

import bisect
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from roboref_core.views.stamp_order import Sorted, StampOrder
from roboref_core.views.view_buffer import SECOND


class Bracket(NamedTuple):
    """The two entries around a stamp; one entry twice where a single one stands for it.

    Attributes:
        fraction: how far the stamp is from the first to the second, in [0, 1].
        gap: time between the two, or from the single one to the stamp [s].
        neighbour: the entry next to one of them, which tells how things moved there; None: there is none near.
        step: time from the second entry to ``neighbour``, or, negative, from the first one back to it [s].
    """

    before: Any
    after: Any
    fraction: float
    gap: float = 0.0
    neighbour: Any = None
    step: float = 0.0


class PoseHistory:
    """The newest stamped entries of a stream of poses, whatever they are. Thread-safe.

    A stamp that is an outlier is left out; a clock jump drops all older knowledge (see StampOrder).

    Args:
        tolerance_ns: the nearest entry stands for a stamp this close to it, if no two entries are around it [ns].
        max_gap_ns: between two entries further apart than this nothing is interpolated [ns].
        window_ns: how far stamps may come out of order [ns].
        clock: the present in the clock of the stamps [ns].
        size: most entries kept.
    """

    def __init__(self, tolerance_ns: int, max_gap_ns: int, window_ns: int, clock: Callable[[], int], size: int = 4096):
        self.tolerance_ns = tolerance_ns
        self.max_gap_ns = max_gap_ns
        self.size = size
        self._clock = clock
        self._lock = threading.Lock()
        self._order: StampOrder[Any] = StampOrder(window_ns)
        self._stamps: list[int] = []
        self._entries: list[Any] = []

    def add(self, stamp_ns: int, entry: Any) -> None:
        with self._lock:
            self._take(self._order.add(stamp_ns, entry, self._clock()))

    def _take(self, ordered: Sorted[Any]) -> None:
        if ordered.jumped:
            self._stamps.clear()
            self._entries.clear()
        for stamp_ns, entry in ordered.accepted:
            place = bisect.bisect_left(self._stamps, stamp_ns)
            if place < len(self._stamps) and self._stamps[place] == stamp_ns:
                self._entries[place] = entry
                continue
            self._stamps.insert(place, stamp_ns)
            self._entries.insert(place, entry)
            if len(self._stamps) > self.size:
                del self._stamps[0], self._entries[0]

    def at(self, stamp_ns: int, final: bool) -> Bracket | None:
        """The entries around a stamp; None if it is not known.

        Args:
            final: nothing more is waited for, so that the tolerance applies; before that a later entry
                may still come, which gives a better answer.
        """
        with self._lock:
            if self._order.waiting:
                self._take(self._order.poll(self._clock()))
            place = bisect.bisect_left(self._stamps, stamp_ns)
            near = range(max(place - 1, 0), min(place + 1, len(self._stamps)))
            if place < len(self._stamps) and self._stamps[place] == stamp_ns:
                return Bracket(self._entries[place], self._entries[place], 0.0)
            if len(near) == 2:
                before, after = (self._stamps[i] for i in near)
                if after - before <= self.max_gap_ns:
                    fraction = (stamp_ns - before) / (after - before)
                    return Bracket(
                        self._entries[near[0]],
                        self._entries[near[1]],
                        fraction,
                        (after - before) / SECOND,
                        *self._neighbour(near[0], near[1]),
                    )
            nearest = min(near, key=lambda i: abs(self._stamps[i] - stamp_ns), default=None)
            if final and nearest is not None and abs(self._stamps[nearest] - stamp_ns) <= self.tolerance_ns:
                entry, away = self._entries[nearest], abs(self._stamps[nearest] - stamp_ns) / SECOND
                return Bracket(entry, entry, 0.0, away, *self._neighbour(nearest, nearest))
            return None

    def _neighbour(self, first: int, second: int) -> tuple[Any, float]:
        """The entry before ``first``, or else after ``second``, and the time to it; within ``max_gap_ns``."""
        for end, other in ((first, first - 1), (second, second + 1)):
            if 0 <= other < len(self._stamps) and abs(self._stamps[other] - self._stamps[end]) <= self.max_gap_ns:
                return self._entries[other], (self._stamps[other] - self._stamps[end]) / SECOND
        return None, 0.0

    def describe(self, stamp_ns: int) -> str:
        """What there is around a stamp, for a person."""
        with self._lock:
            if not self._stamps:
                return "none has arrived"
            nearest = min(self._stamps, key=lambda stamp: abs(stamp - stamp_ns))
            place = "before" if nearest < stamp_ns else "after"
            return f"the nearest of {len(self._stamps)} lies {abs(nearest - stamp_ns) * 1e-9:.3f} s {place} it"

    def clear(self) -> None:
        with self._lock:
            self._order.clear()
            self._stamps.clear()
            self._entries.clear()
