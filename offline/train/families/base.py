"""What the trainer asks of a kind of model; everything else is the same for all of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from PIL import Image
from roboref_core.models.roborefer.checkpoint.weights import StoredTensor
from roboref_core.prompting.prompt import Convention
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

if TYPE_CHECKING:
    from offline.train.plan import Plan


class Example(Protocol):
    """One dialogue with its pictures, as a family's reader makes and joins it.

    Attributes:
        input_ids, labels: (T,) int64; IGNORE where nothing is learned.
    """

    input_ids: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True)
class Counts:
    """What an example holds.

    Attributes:
        supervised: label tokens within the reader's limit.
        text, visual: positions of the model's input, with those beyond the limit.
        pictures: colour pictures.
        tiles: passes through each tower, by part.
    """

    supervised: int
    text: int
    visual: int
    pictures: int
    tiles: Mapping[str, int]


class Reader(ABC):
    """Makes examples of dialogues. It travels to the workers of a DataLoader.

    Attributes:
        tokenizer: of the model.
        limit: positions that an example may take; what is beyond is cut.
    """

    tokenizer: PreTrainedTokenizerBase
    limit: int

    @abstractmethod
    def encode(
        self,
        conversations: Sequence[dict[str, str]],
        images: Sequence[np.ndarray],
        depths: Sequence[Image.Image],
    ) -> Example:
        """A dialogue in LLaVA's form with (H, W, 3) uint8 RGB pictures and their depth pictures, if any.

        Raises ValueError saying what is wrong with it.
        """

    @abstractmethod
    def count(self, example: Example) -> Counts: ...

    @abstractmethod
    def collate(self, examples: Sequence[Example]) -> Any:
        """The batch that the family's loss takes."""

    def problems(self, example: Example) -> list[str]:
        """What is suspicious in the pictures of an example that can be trained on."""
        return []


@dataclass(frozen=True)
class Cost:
    """What the arithmetic of a stack of transformer layers depends on.

    Attributes:
        weights: of its layers.
        layers, hidden: their number and width.
        positions: that one tile has; 0 for a language model.
        head: weights of the output layer, which label tokens alone pass.
    """

    weights: int
    layers: int
    hidden: int
    positions: int = 0
    head: int = 0


class Family(ABC):
    """A kind of model.

    Attributes:
        backend: of ``roboref_core.models.registry``, that answers with its checkpoints.
    """

    backend: str

    @abstractmethod
    def reader(self, plan: Plan) -> Reader:
        """Raises ValueError for a checkpoint that cannot be read, or options that it does not have."""

    @abstractmethod
    def load(self, path: Path, dtype: torch.dtype, max_length: int | None) -> nn.Module:
        """A checkpoint for training. Raises ValueError naming what is wrong with it."""

    @abstractmethod
    def part_of(self, name: str) -> str | None:
        """The part (see ``plan.PARTS``) that a tensor or module belongs to, in memory or in a file."""

    @abstractmethod
    def unused(self, model: nn.Module) -> list[nn.Parameter]:
        """Tensors that the loss does not depend on."""

    @abstractmethod
    def language_model(self, model: nn.Module) -> PreTrainedModel:
        """Where adapters go."""

    @abstractmethod
    def towers(self, model: nn.Module) -> list[PreTrainedModel]: ...

    @abstractmethod
    def loss(self, model: nn.Module, batch: Any, num_items: torch.Tensor | int) -> torch.Tensor:
        """Sum of the label tokens' cross-entropies over ``num_items``, the label tokens of the global step.

        Every call runs the same modules in the same order, whatever the batch holds: ranks whose batch has no
        pictures would otherwise leave the others waiting.
        """

    @abstractmethod
    def write(
        self, model: nn.Module, state: Mapping[str, torch.Tensor], source: Path, target: Path, aspect: str | None
    ) -> None:
        """A state under the model's own names as a checkpoint in the layout of ``source``.

        Args:
            model: whose state it is; its configuration is used, not its tensors.
            source: base checkpoint.
            target: must not exist; is complete as soon as it does.
            aspect: image_aspect_ratio that it was trained with, if not the base checkpoint's.
        """

    @abstractmethod
    def publish(self, checkpoint: Path, base: Path, target: Path) -> None:
        """Writes a written checkpoint again, in the base checkpoint's precision."""

    @abstractmethod
    def stored(self, checkpoint: Path) -> dict[str, dict[str, StoredTensor]]:
        """Every tensor of a checkpoint, by part and name. Raises ValueError if it is not whole."""

    @abstractmethod
    def costs(self, model: nn.Module) -> dict[str, Cost]:
        """By part: "llm" and the towers."""

    @abstractmethod
    def answer_options(self, convention: Convention) -> tuple[str, ...]:
        """Options of the backend for a model that was trained on answers of this convention.

        Raises ValueError if the backend cannot read them.
        """
