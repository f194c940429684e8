"""Samples to batches: lazily read pictures, the model's own preprocessing, and a quarantine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from roboref_core.models.roborefer.prompt_text import DEPTH, IMAGE, SENTINEL, VIDEO
from torch.utils.data import Dataset

from offline.data_engine.task_files import picture_path, pictures_of, read_samples
from offline.files import read_picture
from offline.train.dialogue import Turns, read_dialogue, remarks
from offline.train.families.base import Counts, Example, Reader
from offline.train.order import Order, Source
from offline.train.plan import Part
from offline.train.registry import Term
from offline.train.rft.rewards import read_task

# Substitutes tried for one unusable sample before the run gives up.
_ATTEMPTS = 20
# Rough cost of a picture in characters of text, for grouping by length.
_PICTURE_LENGTH = 1000
# Placeholders of pictures: a model that learned to write them would ask for pictures that are not there.
NEVER_LEARNED = (IMAGE, DEPTH, VIDEO, SENTINEL, "<video>")


@dataclass(frozen=True, eq=False)
class Item:
    """One usable example.

    Attributes:
        key: (data set, index) of the sample.
        problems: of the samples in whose place it stands, "file[index]: what is wrong".
    """

    example: Example
    counts: Counts
    key: tuple[str, int] = ("", -1)
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class TrainBatch:
    """A micro-batch, as the family's loss takes it, and what it holds, summed over its items (see ``Counts``).

    ``keys`` are those of its samples, row by row.
    """

    batch: Any
    samples: int
    supervised: int
    text: int
    visual: int
    tiles: Mapping[Part, int]
    problems: tuple[str, ...]
    keys: tuple[tuple[str, int], ...] = ()


class TrainData(Dataset[Item]):
    """The samples of one stage. Keys are (data set, index); records are in memory, pictures are read when asked for.

    Args:
        terms: of the stage's mixture.
        reader: of the model.
        seed, stage, window, group: of the order.
        rewarded: answers are rewarded by the samples: those that say too little for it are unusable.
    """

    def __init__(
        self,
        terms: Sequence[Term],
        reader: Reader,
        seed: int,
        stage: str,
        window: int,
        group: int,
        rewarded: bool = False,
    ):
        self.reader, self._rewarded = reader, rewarded
        self._terms = {term.name: term for term in terms}
        self._records = {term.name: list(read_samples(term.entry.json_file)) for term in terms}
        sources = [
            Source(name, tuple(_rough_length(sample) for _, sample in records), term.weight, term.share)
            for (name, records), term in zip(self._records.items(), terms, strict=True)
        ]
        vocabulary = reader.tokenizer.get_vocab()
        self._never_learned = {vocabulary[token] for token in NEVER_LEARNED if token in vocabulary}
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
        if self._rewarded:
            read_task(sample, self.root(key[0]), where)
        try:
            example = self.reader.encode(*_parts(sample, self._terms[key[0]]))
        except (ValueError, OSError, TypeError, KeyError) as error:
            raise ValueError(f"{where}: {error}") from error
        if held := sorted(set(example.labels.tolist()) & self._never_learned):
            token = self.reader.tokenizer.convert_ids_to_tokens(held[0])
            raise ValueError(f"{where}: {token} is among what would be learned")
        counts = self.reader.count(example)
        if not counts.supervised:
            raise ValueError(
                f"{where}: nothing to learn from: no answer within {self.reader.limit} of its "
                f"{counts.text + counts.visual} positions"
            )
        return Item(example, counts, key)

    def root(self, name: str) -> Path:
        """The folder that the relative picture paths of a data set are below."""
        return self._terms[name].entry.image_root

    def forms(self, name: str) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """The forms of all dialogues of a data set, by their texts alone: (refused, remarkable), each with places."""
        refused: dict[str, list[str]] = {}
        remarkable: dict[str, list[str]] = {}
        for where, sample in self._records[name]:
            try:
                if not isinstance(sample, dict):
                    raise ValueError(f"expected a sample, found {type(sample).__name__}")
                for remark in remarks(read_dialogue(sample, len(pictures_of(sample)))):
                    remarkable.setdefault(remark, []).append(where)
            except (ValueError, TypeError) as error:
                refused.setdefault(str(error), []).append(where)
        return refused, remarkable

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
            keys=tuple(item.key for item in items),
        )

    return join


def _parts(sample: dict[str, Any], term: Term) -> tuple[Turns, list[np.ndarray], list[Image.Image]]:
    """A sample's dialogue, pictures, and depth pictures if its data set has a depth root."""
    turns = read_dialogue(sample, len(pictures_of(sample)))
    images = [read_picture(picture_path(name, term.entry.image_root)) for name in pictures_of(sample)]
    depths = []
    if term.entry.depth_root is not None and images:
        # As in RefSpatial, depth pictures have their pictures' names unless they are named.
        names = pictures_of(sample, "depth") or pictures_of(sample)
        if len(names) != len(images):
            raise ValueError(f"expected one depth picture per image, found {len(names)} for {len(images)}")
        depths = [_read_depth(picture_path(name, term.entry.depth_root)) for name in names]
    return turns, images, depths


def _read_depth(path: Path) -> Image.Image:
    """As it is stored: 16-bit files must be refused, not squeezed."""
    with Image.open(path) as picture:
        picture.load()
        return picture


def _rough_length(sample: object) -> int:
    if not isinstance(sample, dict):
        return 0
    turns = sample.get("conversations")
    text = sum(len(str(turn)) for turn in turns) if isinstance(turns, list) else 0
    try:
        return text + _PICTURE_LENGTH * len(pictures_of(sample))
    except TypeError:
        return text
