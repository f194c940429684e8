"""Which sample comes when: a pure function of seed, stage and epoch.

The order does not depend on the number of processes or on the batch size. So where a run stands is one number, the
samples consumed of the stage, and it can go on with another number of processes or another batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from roboref_core.seeds import rng_of

Sample = TypeVar("Sample")


@dataclass(frozen=True)
class Source:
    """A data set as the order sees it.

    Attributes:
        name: of the data set.
        lengths: rough length of each sample, in any unit.
        weight, share: see ``registry.Term``.
    """

    name: str
    lengths: tuple[int, ...]
    weight: float = 1.0
    share: float = 1.0

    def __post_init__(self):
        if not self.lengths:
            raise ValueError(f"data set {self.name} holds no samples")


class Order:
    """The samples of one stage, as (data set, index), for ever.

    Args:
        sources: the stage's data sets; a small one is repeated by its weight and never vanishes.
        window: samples that are shuffled, then sorted by length.
        group: samples of like length that stay together.
    Attributes:
        sources: by name.
        epoch_size: samples of one epoch.
    """

    def __init__(self, sources: Sequence[Source], seed: int, stage: str, window: int = 512, group: int = 16):
        self.sources = sorted(sources, key=lambda source: source.name)
        self._seed, self._stage = seed, stage
        self._window, self._group = window, group
        self.epoch_size = sum(_draws(source) for source in self.sources)
        self._made: tuple[int, np.ndarray] | None = None

    def samples(self, consumed: int) -> Iterator[tuple[str, int]]:
        """From the sample after the first ``consumed`` ones on, without end."""
        epoch, offset = divmod(consumed, self.epoch_size)
        while True:
            for source, index in self._epoch(epoch)[offset:]:
                yield self.sources[source].name, int(index)
            epoch, offset = epoch + 1, 0

    def substitute(self, name: str, index: int, attempt: int) -> int:
        """The index that takes the place of an unusable sample of the same data set."""
        source = next(source for source in self.sources if source.name == name)
        subset = self._subset(source)
        return int(subset[rng_of(self._seed, self._stage, "substitute", name, index, attempt).integers(len(subset))])

    def _epoch(self, epoch: int) -> np.ndarray:
        """(epoch_size, 2) int64: source, index."""
        if self._made is not None and self._made[0] == epoch:
            return self._made[1]
        drawn = np.concatenate([self._draw(number, epoch) for number in range(len(self.sources))])
        rng = rng_of(self._seed, self._stage, "epoch", epoch)
        drawn = drawn[rng.permutation(len(drawn))]
        pieces = []
        for start in range(0, len(drawn), self._window):
            window = drawn[start : start + self._window]
            lengths = [self.sources[source].lengths[index] for source, index in window]
            window = window[np.argsort(lengths, kind="stable")]
            groups = [window[i : i + self._group] for i in range(0, len(window), self._group)]
            pieces += [groups[i] for i in rng.permutation(len(groups))]
        self._made = epoch, np.concatenate(pieces)
        return self._made[1]

    def _draw(self, number: int, epoch: int) -> np.ndarray:
        source = self.sources[number]
        subset = self._subset(source)
        copies, rest = divmod(_draws(source), len(subset))
        rng = rng_of(self._seed, self._stage, "draw", source.name, epoch)
        indices = np.concatenate([np.tile(subset, copies), rng.permutation(subset)[:rest]])
        return np.stack([np.full(len(indices), number), indices], axis=1)

    def _subset(self, source: Source) -> np.ndarray:
        count = _subset_size(source)
        if count == len(source.lengths):
            return np.arange(count)
        # The stage is left out: the same quarter in every stage.
        return np.sort(rng_of(self._seed, "share", source.name).permutation(len(source.lengths))[:count])


def _subset_size(source: Source) -> int:
    return max(1, round(len(source.lengths) * source.share))


def _draws(source: Source) -> int:
    return max(1, round(_subset_size(source) * source.weight))


def split(samples: Sequence[Sample], rank: int, world: int, micro: int) -> list[list[Sample]]:
    """A rank's micro-batches of one global batch, all of ``micro`` samples.

    Raises ValueError if the batch does not divide evenly: ranks must make the same number of passes over the same
    number of rows, or they wait for each other for ever.
    """
    if len(samples) % (world * micro):
        raise ValueError(f"a batch of {len(samples)} does not divide into {world} ranks of micro-batches of {micro}")
    passes = len(samples) // (world * micro)
    return [list(samples[(p * world + rank) * micro :][:micro]) for p in range(passes)]
