"""Measures an image topic as its messages come."""

from __future__ import annotations

from collections import deque

from roboref_core.views.view_buffer import SECOND

_RECENT = 60


class StreamMeter:
    """Counts, times and stamps of one image topic.

    Attributes:
        count: images received.
        outliers: images whose stamps were outliers.
        stamps: stamps of the last images [ns], oldest first.
    """

    def __init__(self) -> None:
        self.count = 0
        self.outliers = 0
        self.stamps: deque[int] = deque(maxlen=_RECENT)
        self._arrivals: deque[float] = deque(maxlen=30)
        self._delay_ns = 0

    def add(self, stamp_ns: int, arrival: float, clock_ns: int) -> None:
        """Args: arrival: steady [s]; clock_ns: the node's clock then."""
        self.count += 1
        self.stamps.append(stamp_ns)
        self._arrivals.append(arrival)
        self._delay_ns = clock_ns - stamp_ns

    def clear(self) -> None:
        """The clock jumped: old stamps say nothing of new ones."""
        self.stamps.clear()

    @property
    def rate(self) -> float:
        """[Hz]"""
        arrivals = list(self._arrivals)
        if len(arrivals) < 2 or arrivals[-1] <= arrivals[0]:
            return float("nan")
        return (len(arrivals) - 1) / (arrivals[-1] - arrivals[0])

    @property
    def delay(self) -> float:
        """Clock minus stamp of the newest image when it came [s]."""
        return self._delay_ns / SECOND

    def silence(self, now: float) -> float | None:
        """Time since the last image [s]."""
        return now - self._arrivals[-1] if self._arrivals else None


def nearest_gap(first: StreamMeter, second: StreamMeter) -> float | None:
    """Least difference between stamps of the last images of two topics [s]."""
    return min((abs(a - b) / SECOND for a in list(first.stamps) for b in list(second.stamps)), default=None)
