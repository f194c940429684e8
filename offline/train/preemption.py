"""SIGUSR2, SIGTERM or SIGINT on any rank: all ranks agree at the end of the step to save and stop."""

from __future__ import annotations

import signal
import sys
from types import TracebackType
from typing import Any

import torch
from torch import distributed

SIGNALS = (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """As a context: remembers that one of SIGNALS came. A second SIGINT (Ctrl-C) ends the process at once."""

    def __init__(self) -> None:
        self.received = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        if number == signal.SIGINT:
            if self.received:
                raise KeyboardInterrupt
            print("stopping after this step, and saving; once more to stop at once", file=sys.stderr)
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
