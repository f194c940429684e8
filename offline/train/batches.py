"""This rank's micro-batches of a segment, from a position on, and the quarantine of unusable samples."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from torch.utils.data import DataLoader, Dataset

from offline.train.checkpoints import Position
from offline.train.dataset import Item, TrainBatch, TrainData, collator
from offline.train.order import split
from offline.train.plan import Plan, Segment
from offline.train.preemption import ignore_in_worker
from offline.train.ranks import Ranks
from offline.train.run_folder import QUARANTINE

# Below this many samples, a share of unusable ones says nothing.
_FEW = 10
Key = tuple[int, str, int]


class SegmentBatches:
    """The micro-batches of each step, one list a step.

    Args:
        data: by stage index, of all stages.
        position: of the first step.
    """

    def __init__(self, plan: Plan, segment: Segment, data: Mapping[int, TrainData], position: Position, ranks: Ranks):
        self._passes = plan.batch // (ranks.world * plan.micro_batch)
        self._loader = DataLoader(
            _ByStage(data),
            batch_sampler=_Keys(plan, segment, data, position, ranks),
            collate_fn=collator(data[segment.stages[0]].reader),
            num_workers=plan.workers,
            worker_init_fn=ignore_in_worker,
        )

    def __iter__(self) -> Iterator[list[TrainBatch]]:
        batches = iter(self._loader)
        while step := list(islice(batches, self._passes)):
            yield step


class Quarantine:
    """Counts and writes down unusable samples; ends the run when they are too many.

    Attributes:
        count: of unusable samples so far.
    """

    def __init__(self, run: Path, limit: float):
        self._file, self._limit = run / QUARANTINE, limit
        self._seen = self.count = 0

    def add(self, batches: Sequence[TrainBatch], step: int) -> None:
        """Raises ValueError when the share of unusable samples is above the limit."""
        problems = [problem for batch in batches for problem in batch.problems]
        self._seen += sum(batch.samples for batch in batches)
        self.count += len(problems)
        if not problems:
            return
        with open(self._file, "a", encoding="utf-8") as file:
            file.writelines(json.dumps({"step": step, "problem": problem}) + "\n" for problem in problems)
        if self.count > max(_FEW, self._seen) * self._limit:
            raise ValueError(
                f"{self.count} unusable samples among {self._seen} on this rank, max_corrupt is {self._limit}; "
                f"the last: {problems[-1]} (all: {self._file})"
            )


class _ByStage(Dataset[Item]):
    """Samples by (stage, data set, index)."""

    def __init__(self, data: Mapping[int, TrainData]):
        self._data = data

    def __getitem__(self, key: Key) -> Item:
        stage, name, index = key
        return self._data[stage][name, index]


class _Keys:
    """The keys of this rank's micro-batches, from the position to the segment's end."""

    def __init__(self, plan: Plan, segment: Segment, data: Mapping[int, TrainData], position: Position, ranks: Ranks):
        self._plan, self._segment, self._data, self._position, self._ranks = plan, segment, data, position, ranks

    def __iter__(self) -> Iterator[list[Key]]:
        plan, position = self._plan, self._position
        stage = -1
        samples: Iterator[tuple[str, int]] = iter(())
        while position.step < self._segment.end:
            if position.stage != stage:
                stage = position.stage
                samples = self._data[stage].order.samples(position.consumed)
            keys = [(stage, *next(samples)) for _ in range(plan.batch)]
            yield from split(keys, self._ranks.rank, self._ranks.world, plan.micro_batch)
            position = position.after(plan.batch)
