"""Samples to batches: lazily read pictures, the model's own preprocessing, and a quarantine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from roboref_core.models.roborefer.prompt_text import DEPTH, IMAGE
from torch.utils.data import Dataset

from offline.data_engine.task_files import picture_path, pictures_of, read_samples
from offline.files import read_picture
from offline.train.families.base import Counts, Example, Reader
from offline.train.order import Order, Source
from offline.train.registry import Term

# Substitutes tried for one unusable sample before the run gives up.
_ATTEMPTS = 20
# Rough cost of a picture in characters of text, for grouping by length.
_PICTURE_LENGTH = 1000


@dataclass(frozen=True, eq=False)
class Item:
    """One usable example.

    Attributes:
        problems: of the samples in whose place it stands, "file[index]: what is wrong".
    """

    example: Example
    counts: Counts
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class TrainBatch:
    """A micro-batch, as the family's loss takes it, and what it holds, summed over its items (see ``Counts``)."""

    batch: Any
    samples: int
    supervised: int
    text: int
    visual: int
    tiles: Mapping[str, int]
    problems: tuple[str, ...]


class TrainData(Dataset):
    """The samples of one stage. Keys are (data set, index); records are in memory, pictures are read when asked for.

    Args:
        terms: of the stage's mixture.
        reader: of the model.
        seed, stage, window, group: of the order.
    """

    def __init__(self, terms: Sequence[Term], reader: Reader, seed: int, stage: str, window: int, group: int):
        self.reader = reader
        self._terms = {term.name: term for term in terms}
        self._records = {term.name: list(read_samples(term.entry.json_file)) for term in terms}
        sources = [
            Source(name, tuple(_rough_length(sample) for _, sample in records), term.weight, term.share)
            for (name, records), term in zip(self._records.items(), terms, strict=True)
        ]
        self.order = Order(sources, seed, stage, window, group)

    def sample(self, key: tuple[str, int]) -> tuple[str, object]:
        """The record of a key, and where it stands."""
        name, index = key
        return self._records[name][index]

    def item(self, key: tuple[str, int]) -> Item:
        """Raises ValueError naming file and place of an unusable sample."""
        where, sample = self.sample(key)
        if not isinstance(sample, dict):
            raise ValueError(f"{where}: expected a sample, found {type(sample).__name__}")
        try:
            example = self.reader.encode(*_parts(sample, self._terms[key[0]]))
        except (ValueError, OSError, TypeError, KeyError) as error:
            raise ValueError(f"{where}: {error}") from error
        counts = self.reader.count(example)
        if not counts.supervised:
            raise ValueError(
                f"{where}: nothing to learn from: no answer within {self.reader.limit} of its "
                f"{counts.text + counts.visual} positions"
            )
        return Item(example, counts)

    def __getitem__(self, key: tuple[str, int]) -> Item:
        """The key's example, or one in its place. The place's owner depends on nothing but seed and key."""
        problems: list[str] = []
        name, index = key
        for attempt in range(_ATTEMPTS):
            try:
                return replace(self.item((name, index)), problems=tuple(problems))
            except ValueError as error:
                problems.append(str(error))
                index = self.order.substitute(name, key[1], attempt)
        raise ValueError(f"data set {name}: {_ATTEMPTS} unusable samples in a row; the last: {problems[-1]}")


def collator(reader: Reader) -> Callable[[Sequence[Item]], TrainBatch]:
    """Joins items to a micro-batch."""

    def join(items: Sequence[Item]) -> TrainBatch:
        counts = [item.counts for item in items]
        return TrainBatch(
            batch=reader.collate([item.example for item in items]),
            samples=len(items),
            supervised=sum(count.supervised for count in counts),
            text=sum(count.text for count in counts),
            visual=sum(count.visual for count in counts),
            tiles=sum((Counter(count.tiles) for count in counts), Counter()),
            problems=tuple(problem for item in items for problem in item.problems),
        )

    return join


def _parts(sample: dict, term: Term) -> tuple[list[dict[str, str]], list[np.ndarray], list[Image.Image]]:
    """A sample's dialogue, pictures, and depth pictures if its data set has a depth root."""
    images = [read_picture(picture_path(name, term.entry.image_root)) for name in pictures_of(sample)]
    depths = []
    if term.entry.depth_root is not None and images:
        # As in RefSpatial, depth pictures have their pictures' names unless they are named.
        names = pictures_of(sample, "depth") or pictures_of(sample)
        if len(names) != len(images):
            raise ValueError(f"expected one depth picture per image, found {len(names)} for {len(images)}")
        depths = [_read_depth(picture_path(name, term.entry.depth_root)) for name in names]
    conversations = sample.get("conversations")
    if not (isinstance(conversations, list) and conversations and all(isinstance(t, dict) for t in conversations)):
        raise ValueError(f"expected conversations, found {conversations!r:.80}")
    _check_counts(conversations, len(images))
    return conversations, images, depths


def _read_depth(path: Path) -> Image.Image:
    """As it is stored: 16-bit files must be refused, not squeezed."""
    with Image.open(path) as picture:
        picture.load()
        return picture


def _check_counts(conversations: Sequence[dict], images: int) -> None:
    text = "".join(str(turn.get("value")) for turn in conversations if turn.get("from") == "human")
    for token in (IMAGE, DEPTH):
        if (stated := text.count(token)) not in (0, images):
            raise ValueError(f"the text has {stated} {token} for {images} pictures: it would train on the wrong ones")


def _rough_length(sample: object) -> int:
    if not isinstance(sample, dict):
        return 0
    turns = sample.get("conversations")
    text = sum(len(str(turn)) for turn in turns) if isinstance(turns, list) else 0
    try:
        return text + _PICTURE_LENGTH * len(pictures_of(sample))
    except TypeError:
        return text
