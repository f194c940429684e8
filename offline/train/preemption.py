"""SIGUSR2 or SIGTERM on any rank: all ranks agree at the end of the step to save and stop."""

from __future__ import annotations

import signal
from types import TracebackType

import torch
from torch import distributed

SIGNALS = (signal.SIGUSR2, signal.SIGTERM)


class StopRequest:
    """As a context: remembers that one of SIGNALS came."""

    def __init__(self):
        self.received = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopRequest:
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        self.received = True

    def agreed(self, device: torch.device) -> bool:
        """Whether any rank was asked to stop. All ranks must call it."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return self.received
        flag = torch.tensor(int(self.received), device=device)
        distributed.all_reduce(flag, op=distributed.ReduceOp.MAX)
        return bool(flag.item())


def ignore_in_worker(worker: int) -> None:
    """For a DataLoader's workers: Slurm signals every process, but the trainer decides when to stop."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
