"""Colour and depth images paired by stamp: exact, or the nearest within a tolerance."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from typing import Any, NamedTuple

COLOR, DEPTH = 0, 1


class _Waiting(NamedTuple):
    stamp_ns: int
    arrival: float
    item: Any


class StampPairer:
    """Pairs the messages of two streams, in constant time per message: the queues are bounded.

    Equal stamps pair at once. Unequal ones pair if each is the other's nearest within the tolerance, and
    only when no nearer partner can be expected: a later message of the earlier one's stream has come, or
    ``slop_ns`` has passed since the second of them arrived. Without that wait one lost image would pair
    every later one with its neighbour's, for good. Messages may come out of order within ``max_backwards_ns``.

    Args:
        slop_ns: largest difference of stamps [ns]; 0: equal stamps only.
        queue_size: most messages of a stream that wait for a partner.
        max_backwards_ns: a message further than this behind a newer one waits no longer [ns].

    Attributes:
        paired: number of pairs made.
        dropped: [colour, depth] messages that found no partner.
    """

    def __init__(self, slop_ns: int, queue_size: int, max_backwards_ns: int):
        if slop_ns < 0 or queue_size < 1 or max_backwards_ns < 0:
            raise ValueError(
                f"expected slop_ns >= 0, queue_size >= 1, max_backwards_ns >= 0, found {slop_ns}, {queue_size}, "
                f"{max_backwards_ns}"
            )
        self.slop_ns = slop_ns
        self.queue_size = queue_size
        self.max_backwards_ns = max_backwards_ns
        self.paired = 0
        self.dropped = [0, 0]
        self._waiting: tuple[list[_Waiting], list[_Waiting]] = ([], [])
        self._newest: list[int | None] = [None, None]

    def add(self, stream: int, stamp_ns: int, item: Any, now: float) -> list[tuple[Any, Any]]:
        """Take a message; returns the (colour, depth) pairs that are certain now, oldest first.

        Args:
            stream: COLOR or DEPTH.
            now: steady time [s].
        """
        newest = self._newest[stream]
        self._newest[stream] = stamp_ns if newest is None else max(newest, stamp_ns)
        for side, queue in enumerate(self._waiting):
            while queue and queue[0].stamp_ns < stamp_ns - self.max_backwards_ns - self.slop_ns:
                self._drop(side)
        queue = self._waiting[stream]
        place = bisect.bisect_left(queue, stamp_ns, key=_stamp)
        if place < len(queue) and queue[place].stamp_ns == stamp_ns:
            self.dropped[stream] += 1
            queue[place] = _Waiting(stamp_ns, now, item)
        else:
            queue.insert(place, _Waiting(stamp_ns, now, item))
        pairs = self.poll(now)
        if len(queue) > self.queue_size:
            self._drop(stream)
        return pairs

    def poll(self, now: float) -> list[tuple[Any, Any]]:
        """Pairs that became certain because time passed, oldest first."""
        certain = [match for match in self._matches() if self._is_certain(*match, now)]
        for color, depth in certain:
            self._waiting[COLOR].remove(color)
            self._waiting[DEPTH].remove(depth)
        self.paired += len(certain)
        return [(color.item, depth.item) for color, depth in certain]

    def next_deadline(self) -> float | None:
        """Steady time [s] at which ``poll`` will give a pair if nothing arrives before; None: never."""
        return min((self._deadline(*match) for match in self._matches()), default=None)

    def clear(self) -> None:
        """Drop what waits, and forget what was the newest."""
        for stream, queue in enumerate(self._waiting):
            self.dropped[stream] += len(queue)
            queue.clear()
        self._newest = [None, None]

    @property
    def waiting(self) -> tuple[int, int]:
        """Colour and depth messages that wait for a partner."""
        return len(self._waiting[COLOR]), len(self._waiting[DEPTH])

    def _matches(self) -> Iterator[tuple[_Waiting, _Waiting]]:
        """(colour, depth) that are each other's nearest within the tolerance."""
        for color in self._waiting[COLOR]:
            depth = _nearest(self._waiting[DEPTH], color.stamp_ns)
            if depth is None or abs(depth.stamp_ns - color.stamp_ns) > self.slop_ns:
                continue
            if _nearest(self._waiting[COLOR], depth.stamp_ns) is color:
                yield color, depth

    def _is_certain(self, color: _Waiting, depth: _Waiting, now: float) -> bool:
        if color.stamp_ns == depth.stamp_ns:
            return True
        earlier_stream = COLOR if color.stamp_ns < depth.stamp_ns else DEPTH
        earlier = min(color.stamp_ns, depth.stamp_ns)
        newest = self._newest[earlier_stream]
        return (newest is not None and newest > earlier) or now >= self._deadline(color, depth)

    def _deadline(self, color: _Waiting, depth: _Waiting) -> float:
        return max(color.arrival, depth.arrival) + self.slop_ns * 1e-9

    def _drop(self, stream: int) -> None:
        self._waiting[stream].pop(0)
        self.dropped[stream] += 1


def _stamp(waiting: _Waiting) -> int:
    return waiting.stamp_ns


def _nearest(queue: list[_Waiting], stamp_ns: int) -> _Waiting | None:
    """The message nearest to a stamp, the earlier of two equally near; ``queue`` is sorted."""
    place = bisect.bisect_left(queue, stamp_ns, key=_stamp)
    around = queue[max(place - 1, 0) : place + 1]
    return min(around, key=lambda waiting: abs(waiting.stamp_ns - stamp_ns), default=None)
