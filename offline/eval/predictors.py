"""What answers samples: vision-language models from the registry, and baselines (see ``baselines``)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from roboref_core.models.base import Generation, Prompt, VisionLanguageModel
from roboref_core.models.registry import load_vlm, parse_options

from offline.eval.samples import Sample

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


class ModelPredictor:
    """Vision-language models that are one and the same: usually one, or one per server."""

    needs_pictures = True

    def __init__(self, models: Sequence[VisionLanguageModel], name: str, identity: dict, workers: int):
        self._free = list(models) * workers
        self.name, self.identity, self.workers = name, identity, len(self._free)
        self.uses_depth = models[0].uses_depth

    def predict(self, questions: Sequence[Question]) -> list[Generation]:
        model = self._free.pop()  # never empty: no more than ``workers`` calls are under way
        try:
            return model.generate_batch([question.prompt for question in questions])
        finally:
            self._free.append(model)


def load_predictor(config: ModelConfig, samples: Sequence[Sample]) -> Predictor:
    """The predictor for ``samples``. Raises ValueError for what is lacking, ImportError as the registry."""
    if config.model in BASELINES or config.model == "reprojection":
        from offline.eval import baselines

        if config.model == "reprojection":
            if config.scenes is None:
                raise ValueError("reprojection needs the posed RGB-D scenes: --scenes FOLDER")
            return baselines.Reprojection(config.scenes)
        return baselines.make(config.model, samples, config.prior)
    options = parse_options(config.options)
    if len(config.url) > 1 and config.path:
        raise ValueError("give a path or servers, not both")
    models = [
        load_vlm(config.model, config.path, url, config.device, config.dtype, **options)
        for url in config.url or ("",)
    ]
    name = config.name or models[0].name
    # Numbers differ between kinds of device, not between devices of a kind.
    kind = config.device.partition(":")[0]
    identity = {"backend": config.model, "name": name, "options": options, "dtype": config.dtype, "device": kind}
    if config.path:
        identity["checkpoint"] = checkpoint_hash(Path(config.path))
    elif not config.name:
        identity["url"] = list(config.url)
    return ModelPredictor(models, name, identity, config.workers if config.url else 1)


def checkpoint_hash(folder: Path) -> str:
    """SHA-256 over a checkpoint's files, names and contents; sub-folders of training state (checkpoint-N) apart."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder)
        if any(part.startswith((".", "checkpoint-")) for part in name.parts):
            continue
        with open(path, "rb") as file:
            digest.update(f"{name.as_posix()}\n{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()[:16]
