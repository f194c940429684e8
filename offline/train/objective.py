"""What a step learns from its batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from offline.train.dataset import TrainBatch
from offline.train.ranks import Ranks

Loss = Callable[..., torch.Tensor]


@dataclass(frozen=True, eq=False)
class Update:
    """One step of the optimizer.

    Attributes:
        batches: its micro-batches, as the family's loss takes them.
        num_items: what the loss is divided by: of the update, over all ranks.
        loss: in place of the family's, called with family, model, batch and num_items.
    """

    batches: Sequence[Any]
    num_items: torch.Tensor
    loss: Loss | None = None


class Objective(ABC):
    """Makes updates of the micro-batches of a step."""

    @abstractmethod
    def updates(self, batches: Sequence[TrainBatch], step: int) -> Iterator[Update]:
        """The updates of a step, in order; each is made before the next is asked for.

        Args:
            step: steps done before.
        """

    def figures(self) -> dict[str, float]:
        """Means since the last call, over all ranks. All ranks must call it."""
        return {}


class Supervised(Objective):
    """Cross-entropy per label token over the whole global step: one update."""

    def __init__(self, ranks: Ranks):
        self._ranks = ranks

    def updates(self, batches: Sequence[TrainBatch], step: int) -> Iterator[Update]:
        count = torch.tensor(sum(batch.supervised for batch in batches), device=self._ranks.device)
        yield Update([batch.batch for batch in batches], self._ranks.sum(count))
