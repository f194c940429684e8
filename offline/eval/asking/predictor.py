"""What answers samples: the interface of a predictor, and how one is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

import tyro
from roboref_core.models.options import ModelOptions, backend_flag
from roboref_core.models.registry import BACKENDS
from roboref_core.models.vision_language_model import Generation, Prompt

from offline.eval.records.samples import Sample

BASELINES = ("image_centre", "random_prior", "never_visible")


@dataclass(frozen=True)
class Question:
    """A sample as it is put to a predictor.

    Attributes:
        sample: as its file has it.
        text: the prompt, which a grid's instruction may have been added to.
        prepare: makes the Prompt; reads its pictures, so only who needs pixels calls it.
    """

    sample: Sample
    text: str
    prepare: Callable[[Sample, str], Prompt]

    @cached_property
    def prompt(self) -> Prompt:
        return self.prepare(self.sample, self.text)


class Predictor(Protocol):
    """Answers questions.

    Attributes:
        name: for tables.
        identity: JSON-ready; what its answers depend on beside the question. Equal identities may share a file.
        needs_pictures: whether it looks at the pictures.
        uses_depth: whether it looks at depth pictures.
        workers: batches that may be under way at once.
    """

    name: str
    needs_pictures: bool
    uses_depth: bool
    workers: int

    @property
    def identity(self) -> dict: ...

    def predict(self, questions: Sequence[Question]) -> list[Generation]:
        """One Generation per question, in order. Raises ReferError."""


if TYPE_CHECKING:
    Backend = str
else:
    Backend = Literal[(*BACKENDS, *BASELINES)]
_MODELS = f"Model: {', '.join(BACKENDS)}; or a baseline: {', '.join(BASELINES)}, and reprojection by --scenes."


@dataclass(frozen=True)
class ModelConfig(ModelOptions):
    """Which model answers, or which baseline."""

    backend: Annotated[Backend, backend_flag(_MODELS)] = tyro.MISSING
    workers: int = 4
    """Batches under way at once per server. A model that runs here takes one at a time."""
    name: str = ""
    """In tables and file names, instead of the model's own."""
    scenes: Path | None = None
    """Folder with the posed RGB-D scenes, by scene_id: for reprojection (as the model or as a baseline) and fused."""
    prior: Path | None = None
    """random_prior: samples whose objects' sizes it draws from, instead of those asked."""
