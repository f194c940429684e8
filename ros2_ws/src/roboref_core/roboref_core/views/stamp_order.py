"""The one detector of clock jumps: which stamps of a stream are in order, which are outliers, and when time jumped."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Sorted(Generic[Item]):
    """What a new message brings.

    Attributes:
        jumped: the clock of the stamps jumped: what was known before does not go with what follows.
        accepted: (stamp [ns], message) to use now, in order of arrival.
        rejected: messages whose stamps turned out to be outliers.
    """

    jumped: bool = False
    accepted: list[tuple[int, Item]] = field(default_factory=list)
    rejected: list[Item] = field(default_factory=list)


class StampOrder(Generic[Item]):
    """Tells an outlier from a clock jump by what follows.

    A stamp is in order if it lies at most ``window_ns`` behind the newest one, and at most that plus the time
    passed ahead of it. Any other one waits. If ``confirm`` different stamps in a row agree with each other but not
    with the newest, time has jumped and all of them are accepted; if a stamp in order comes before, they are outliers.

    Args:
        window_ns: how far stamps may come out of order [ns].
        confirm: different stamps that make a jump; more than the images of one frame have.
    """

    def __init__(self, window_ns: int, confirm: int = 3):
        if window_ns < 0 or confirm < 1:
            raise ValueError(f"expected window_ns >= 0 and confirm >= 1, found {window_ns} and {confirm}")
        self.window_ns = window_ns
        self.confirm = confirm
        self._newest_ns: int | None = None
        self._arrival_ns = 0
        self._held: list[tuple[int, Item]] = []

    @property
    def waiting(self) -> bool:
        """Whether messages wait for a decision."""
        return bool(self._held)

    def add(self, stamp_ns: int, item: Item, now_ns: int) -> Sorted[Item]:
        """Sort a message in.

        Args:
            now_ns: time of arrival, in the clock that the stamps are meant to follow [ns].
        """
        if self._newest_ns is None or self._in_order(stamp_ns, now_ns):
            rejected = self._release()
            self._accept(stamp_ns, now_ns)
            return Sorted(accepted=[(stamp_ns, item)], rejected=[held for _, held in rejected])
        outliers = self._release() if self._held and stamp_ns < self._held[-1][0] - self.window_ns else []
        self._held.append((stamp_ns, item))
        rejected_items = [held for _, held in outliers]
        if len({stamp for stamp, _ in self._held}) < self.confirm:
            return Sorted(rejected=rejected_items)
        accepted = self._release()
        self._newest_ns = None
        for stamp, _ in accepted:
            self._accept(stamp, now_ns)
        return Sorted(True, accepted, rejected_items)

    def poll(self, now_ns: int) -> Sorted[Item]:
        """Accept what waits if its stamps are in order by now: the clock may arrive after the message."""
        if not self._held or not self._in_order(self._held[0][0], now_ns):
            return Sorted()
        accepted = self._release()
        for stamp, _ in accepted:
            self._accept(stamp, now_ns)
        return Sorted(accepted=accepted)

    def clear(self) -> list[Item]:
        """The next stamp is in order whatever it is. Returns what has waited."""
        self._newest_ns = None
        return [held for _, held in self._release()]

    def _in_order(self, stamp_ns: int, now_ns: int) -> bool:
        assert self._newest_ns is not None
        passed = max(now_ns - self._arrival_ns, 0)
        return -self.window_ns <= stamp_ns - self._newest_ns <= self.window_ns + passed

    def _accept(self, stamp_ns: int, now_ns: int) -> None:
        self._newest_ns = stamp_ns if self._newest_ns is None else max(self._newest_ns, stamp_ns)
        self._arrival_ns = now_ns

    def _release(self) -> list[tuple[int, Item]]:
        held, self._held = self._held, []
        return held
