"""What answers samples: the interface of a predictor, and how one is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

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
    identity: dict
    needs_pictures: bool
    uses_depth: bool
    workers: int

    def predict(self, questions: Sequence[Question]) -> list[Generation]:
        """One Generation per question, in order. Raises ReferError."""


@dataclass(frozen=True)
class ModelConfig:
    """Which model answers.

    Attributes:
        model: roborefer, llava_onevision, hugging_face, openai, roborefer_http, roboref_http, or a baseline:
            image_centre, random_prior, never_visible, reprojection.
        path: checkpoint folder, for models that run here.
        url: server, for models behind HTTP. Several servers of one model share the work.
        device: auto, cpu, cuda, cuda:N.
        dtype: auto, float32, float16, bfloat16.
        options: the backend's own: --options convention=thousand model=qwen.
        workers: batches under way at once per server. A model that runs here takes one at a time.
        name: in tables and file names, instead of the model's own.
        scenes: folder with the posed RGB-D scenes, by scene_id: for reprojection, as the model or as a baseline.
        prior: random_prior: samples whose objects' sizes it draws from, instead of those asked.
    """

    model: str
    path: str = ""
    url: tuple[str, ...] = ()
    device: str = "auto"
    dtype: str = "auto"
    options: tuple[str, ...] = ()
    workers: int = 4
    name: str = ""
    scenes: Path | None = None
    prior: Path | None = None
