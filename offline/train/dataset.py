"""Samples to batches: lazily read pictures, the native model's own preprocessing, and a quarantine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from roboref_core.models.roborefer.config import ModelConfig
from roboref_core.models.roborefer.model import RoboReferModel
from roboref_core.models.roborefer.prompt_text import DEPTH, IMAGE, PLACEHOLDERS
from roboref_core.models.roborefer.tiling import Tiles
from roboref_core.models.roborefer.training import IGNORE, Batch, Example, build_example, collate
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from offline.data_engine.files import read_picture
from offline.data_engine.task_files import picture_path, pictures_of, read_samples
from offline.train.order import Order, Source
from offline.train.registry import Term

# Substitutes tried for one unusable sample before the run gives up.
_ATTEMPTS = 20
# Rough cost of a picture in characters of text, for grouping by length.
_PICTURE_LENGTH = 1000


@dataclass(frozen=True)
class Reader:
    """What makes an Example of a sample, and measures it.

    Attributes:
        config, tokenizer: of the model.
        aspect: image_aspect_ratio in force.
        limit: positions that one example may take; what is beyond is cut.
        tile_tokens: positions that one tile of a kind takes, and those around each placeholder's.
    """

    config: ModelConfig
    tokenizer: PreTrainedTokenizerBase
    aspect: str
    limit: int
    tile_tokens: dict[str, tuple[int, int]]

    @classmethod
    def of(cls, model: RoboReferModel, aspect: str | None) -> Reader:
        """``model`` may lie on the meta device."""
        kinds = ("image", "depth") if model.config.uses_depth else ("image",)
        tokens = {kind: (model.tokens_of(kind, 1), sum(map(len, model.frame_ids(kind)))) for kind in kinds}
        tokenizer = model.tokenizer
        aspect = aspect or model.config.root.image_aspect_ratio
        return cls(model.config, tokenizer, aspect, tokenizer.model_max_length, tokens)

    def example(self, sample: dict, term: Term) -> Example:
        """Raises ValueError or OSError saying what is wrong with the sample."""
        images = [read_picture(picture_path(name, term.entry.image_root)) for name in pictures_of(sample)]
        depths = []
        if term.entry.depth_root is not None and images:
            names = pictures_of(sample, "depth")
            if len(names) != len(images):
                raise ValueError(f"expected one depth picture per image, found {len(names)} for {len(images)}")
            depths = [_read_depth(picture_path(name, term.entry.depth_root)) for name in names]
            if self.config.depth_projector is None:
                raise ValueError("depth pictures for a checkpoint without depth: leave depth_root out")
        conversations = sample.get("conversations")
        if not isinstance(conversations, list) or not conversations:
            raise ValueError(f"expected conversations, found {conversations!r:.80}")
        _check_counts(conversations, len(images))
        return build_example(conversations, images, depths, self.config, self.tokenizer, self.aspect)

    def visual_positions(self, example: Example) -> int:
        """Positions of the model's input that pictures take."""
        total = 0
        for kind, pictures in (("image", example.images), ("depth", example.depths)):
            for tiles in pictures:
                tile, frame = self.tile_tokens[kind]
                cells = self._cells(tiles)
                total += sum(cells) * tile + len(cells) * frame
        return total

    def text_positions(self, example: Example) -> int:
        placeholders = [self.tokenizer.convert_tokens_to_ids(token) for token in PLACEHOLDERS.values()]
        return int((~torch.isin(example.input_ids, torch.tensor(placeholders))).sum())

    def supervised(self, example: Example) -> int:
        """Label tokens that are left after the cut at ``limit``. Pictures come before every answer."""
        shift = self.visual_positions(example) + self.text_positions(example) - len(example.input_ids)
        return int((example.labels[1 : max(1, self.limit - shift)] != IGNORE).sum())

    def _cells(self, tiles: Tiles) -> list[int]:
        """Per placeholder, the tiles whose features take its place."""
        if tiles.block is None:
            return [1] * len(tiles.pixels)
        scales, index = self.config.root.s2_scales, self.config.root.s2_resize_output_to_scale_idx
        if index in (-1, len(scales) - 1):
            return [tiles.block[0] * tiles.block[1]]
        return [(scales[index] // scales[0]) ** 2]


@dataclass(frozen=True, eq=False)
class Item:
    """One usable example.

    Attributes:
        supervised, text, visual: label tokens; input positions of text and of pictures.
        problems: of the samples in whose place it stands, "file[index]: what is wrong".
    """

    example: Example
    supervised: int
    text: int
    visual: int
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class TrainBatch:
    """A micro-batch and what it holds, summed over its items."""

    batch: Batch
    samples: int
    supervised: int
    text: int
    visual: int
    problems: tuple[str, ...]


class TrainData(Dataset):
    """The samples of one stage. Keys are (data set, index); records are in memory, pictures are read when asked for.

    Args:
        terms: of the stage's mixture.
        seed, stage, window, group: of the order.
    """

    def __init__(self, terms: Sequence[Term], seed: int, stage: str, window: int, group: int):
        self._terms = {term.name: term for term in terms}
        self._records = {term.name: list(read_samples(term.entry.json_file)) for term in terms}
        sources = [
            Source(name, tuple(_rough_length(sample) for _, sample in records), term.weight, term.share)
            for (name, records), term in zip(self._records.items(), terms, strict=True)
        ]
        self.order = Order(sources, seed, stage, window, group)
        self.reader: Reader | None = None

    def sample(self, key: tuple[str, int]) -> tuple[str, object]:
        """The record of a key, and where it stands."""
        name, index = key
        return self._records[name][index]

    def example(self, key: tuple[str, int]) -> Example:
        """Raises ValueError naming file and place of an unusable sample."""
        where, sample = self.sample(key)
        if not isinstance(sample, dict):
            raise ValueError(f"{where}: expected a sample, found {type(sample).__name__}")
        try:
            example = self.reader.example(sample, self._terms[key[0]])
        except (ValueError, OSError, TypeError, KeyError) as error:
            raise ValueError(f"{where}: {error}") from error
        if not self.reader.supervised(example):
            positions = self.reader.visual_positions(example) + self.reader.text_positions(example)
            raise ValueError(
                f"{where}: nothing to learn from: no answer within {self.reader.limit} of its {positions} positions"
            )
        return example

    def __getitem__(self, key: tuple[str, int]) -> Item:
        """The key's example, or one in its place. The place's owner depends on nothing but seed and key."""
        problems: list[str] = []
        name, index = key
        for attempt in range(_ATTEMPTS):
            try:
                example = self.example((name, index))
            except ValueError as error:
                problems.append(str(error))
                index = self.order.substitute(name, key[1], attempt)
                continue
            reader = self.reader
            return Item(
                example, reader.supervised(example), reader.text_positions(example), reader.visual_positions(example),
                tuple(problems),
            )  # fmt: skip
        raise ValueError(f"data set {name}: {_ATTEMPTS} unusable samples in a row; the last: {problems[-1]}")


def collator(tokenizer: PreTrainedTokenizerBase, limit: int) -> Callable[[Sequence[Item]], TrainBatch]:
    """Joins items to a micro-batch."""

    def join(items: Sequence[Item]) -> TrainBatch:
        return TrainBatch(
            batch=collate([item.example for item in items], tokenizer, limit),
            samples=len(items),
            supervised=sum(item.supervised for item in items),
            text=sum(item.text for item in items),
            visual=sum(item.visual for item in items),
            problems=tuple(problem for item in items for problem in item.problems),
        )

    return join


def _read_depth(path) -> Image.Image:
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
