"""What answers samples: vision-language models from the registry, and baselines (see ``baselines``)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from roboref_core.models.registry import FUSED, parse_options
from roboref_core.models.vision_language_model import Generation, VisionLanguageModel

from offline.eval.asking.predictor import BASELINES, ModelConfig, Predictor, Question
from offline.eval.records.samples import Sample


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
    if config.backend in (*BASELINES, "reprojection"):
        from offline.eval.asking import baselines

        if config.backend == "reprojection":
            if config.scenes is None:
                raise ValueError("reprojection needs the posed RGB-D scenes: --scenes FOLDER")
            return baselines.Reprojection(config.scenes)
        return baselines.make(config.backend, samples, config.prior)
    if len(config.url) > 1 and config.path:
        raise ValueError("give a path or servers, not both")
    models = [replace(config, url=(url,)).load_vlm() for url in config.url or ("",)]
    name = config.name or models[0].name
    # Numbers differ between kinds of device, not between devices of a kind.
    kind = config.device.partition(":")[0]
    identity = {
        "backend": config.backend,
        "name": name,
        "options": parse_options(config.options),
        "dtype": config.dtype,
        "device": kind,
    }
    if config.path:
        identity["checkpoint"] = checkpoint_hash(Path(config.path))
    elif not config.name:
        identity["url"] = list(config.url)
    predictor = ModelPredictor(models, name, identity, config.workers if config.url else 1)
    if config.backend != FUSED:
        return predictor
    from offline.eval.asking.fused import FusedPredictor

    if config.scenes is None:
        raise ValueError("fused needs the posed RGB-D scenes: --scenes FOLDER")
    return FusedPredictor(predictor, config.scenes)


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
