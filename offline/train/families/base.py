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
from roboref_core.prompting.conventions import Convention
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

if TYPE_CHECKING:
    from offline.train.plan import Part, Plan, Reinforcement


class Example(Protocol):
    """One dialogue with its pictures, as a family's reader makes and joins it.

    Attributes:
        input_ids, labels: (T,) int64; IGNORE where nothing is learned.
    """

    @property
    def input_ids(self) -> torch.Tensor: ...

    @property
    def labels(self) -> torch.Tensor: ...


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
    tiles: Mapping[Part, int]


class Reader(ABC):
    """Makes examples of dialogues. It travels to the workers of a DataLoader.

    Attributes:
        tokenizer: of the model.
        limit: positions that an example may take; what is beyond is cut.
    """

    limit: int

    if TYPE_CHECKING:

        @property
        def tokenizer(self) -> PreTrainedTokenizerBase: ...

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
    def count(self, example: Any) -> Counts: ...

    @abstractmethod
    def collate(self, examples: Sequence[Any]) -> Any:
        """The batch that the family's loss takes."""

    def problems(self, example: Any) -> list[str]:
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


class Policy(ABC):
    """A model that answers by chance, and whose answers' probabilities have gradients."""

    @abstractmethod
    def draw(self, batch: Any, rngs: Sequence[Sequence[np.random.Generator]]) -> list[list[tuple[int, ...]]]:
        """Token ids of answers to each question of a training batch, whose own answers are not looked at.

        Args:
            rngs: by question and answer.
        """

    @abstractmethod
    def log_probabilities(
        self, batch: Any, answers: Sequence[Sequence[Sequence[int]]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(N,) log-probabilities of every answer token, with gradients, and (N,) entropies of what it was drawn from.

        By question, answer and position; at the temperature, and among the tokens, that answers are drawn with.
        """

    @abstractmethod
    def text(self, tokens: Sequence[int]) -> str:
        """An answer's text, without the token that ends it."""


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
    def part_of(self, name: str) -> Part | None:
        """The part (see ``plan.PARTS``) that a tensor or module belongs to, in memory or in a file."""

    @abstractmethod
    def unused(self, model: Any) -> list[nn.Parameter]:
        """Tensors that the loss does not depend on."""

    @abstractmethod
    def language_model(self, model: Any) -> PreTrainedModel:
        """Where adapters go."""

    @abstractmethod
    def towers(self, model: Any) -> list[PreTrainedModel]: ...

    @abstractmethod
    def loss(self, model: Any, batch: Any, num_items: torch.Tensor | int) -> torch.Tensor:
        """Sum of the label tokens' cross-entropies over ``num_items``, the label tokens of the global step.

        Every call runs the same modules in the same order, whatever the batch holds: ranks whose batch has no
        pictures would otherwise leave the others waiting.
        """

    @abstractmethod
    def write(
        self, model: Any, state: Mapping[str, torch.Tensor], source: Path, target: Path, aspect: str | None
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
    def costs(self, model: Any) -> dict[Part, Cost]:
        """By part: "llm" and the towers."""

    def policy(self, model: Any, settings: Reinforcement) -> Policy:
        """A model as reinforcement fine-tuning asks it.

        Raises ValueError if there is none for this kind.
        """
        raise ValueError(f"reinforcement fine-tuning is for RoboRefer's checkpoints, not for {self.backend}'s")

    @abstractmethod
    def answer_options(self, convention: Convention) -> tuple[str, ...]:
        """Options of the backend for a model that was trained on answers of this convention.

        Raises ValueError if the backend cannot read them.
        """
