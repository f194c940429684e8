"""How samples are put to a model: prompt, pictures, what may be added to them, and the key that tells them apart."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from roboref_core.models.vision_language_model import Prompt
from roboref_core.prompting.grid import Grid
from roboref_core.prompting.prompt import SUFFIX, Form

from offline.eval.asking.predictor import Predictor, Question
from offline.eval.asking.predictors import checkpoint_hash
from offline.eval.records.predictions import digest
from offline.eval.records.samples import Sample
from offline.files import read_picture

_ORDINALS = ("the image", "the second image")


@dataclass(frozen=True)
class ShowConfig:
    """How samples are shown to the model.

    Attributes:
        grid: draw a coordinate grid over the answered picture and explain it.
        grid_rows: cells of the grid from top to bottom.
        grid_columns: cells from left to right.
        depth: show depth pictures where the model takes them and the samples have them.
        depth_estimator: folder of a Depth-Anything-V2 checkpoint that makes the depth pictures that samples lack.
    """

    grid: bool = False
    grid_rows: int = 10
    grid_columns: int = 10
    depth: bool = True
    depth_estimator: str = ""


Shown = tuple[Sample, str, Question | None, str]


class Shower:
    """Makes a question of a sample: its text, its pictures, and the key of both under one model. Thread-safe.

    Attributes:
        settings: how pictures are shown, JSON-ready, for the record.
    """

    def __init__(self, show: ShowConfig, predictor: Predictor):
        self._grid = Grid(rows=show.grid_rows, columns=show.grid_columns) if show.grid else None
        self._depth = show.depth and predictor.uses_depth
        self._estimate, estimator = None, None
        if self._depth and show.depth_estimator:
            from roboref_core.models.depth_anything import DepthAnything  # needs PyTorch

            self._estimate = DepthAnything(show.depth_estimator).picture
            estimator = checkpoint_hash(Path(show.depth_estimator))
        self._needs_pictures = predictor.needs_pictures
        self._model = digest(predictor.identity)
        self._hashes: dict[Path, str] = {}
        self._lock = threading.Lock()
        grid = None if self._grid is None else asdict(self._grid)
        self.settings = {"grid": grid, "depth": self._depth, "depth_estimator": estimator}

    def show(self, sample: Sample) -> Shown:
        """(sample, key, question, error); key and question are empty for a sample that cannot be read."""
        depths = sample.depths if self._depth else ()
        try:
            text = with_grid(sample, self._grid)
            images = [self._hash(path) for path in sample.images]
            seen = [self._hash(path) for path in depths] or self.settings["depth_estimator"]
            key = digest([self._model, self.settings["grid"], text, images, seen])
            question = Question(sample, text, self._prompt)
            if self._needs_pictures:
                _ = question.prompt  # read here, in the loader's thread
        except (OSError, ValueError) as error:
            return sample, "", None, str(error)
        return sample, key, question, ""

    def _prompt(self, sample: Sample, text: str) -> Prompt:
        images = list(_read(sample.images))
        if self._grid is not None:
            images[-1] = self._grid.draw(images[-1])
        return Prompt(text, tuple(images), self._depths(sample))

    def _depths(self, sample: Sample) -> tuple[np.ndarray, ...]:
        if not self._depth:
            return ()
        if sample.depths or self._estimate is None:
            return _read(sample.depths)
        return tuple(self._estimate(image) for image in _read(sample.images))

    def _hash(self, path: Path) -> str:
        with self._lock:
            known = self._hashes.get(path)
        if known is None:
            with open(path, "rb") as file:
                known = hashlib.file_digest(file, "sha256").hexdigest()[:16]
            with self._lock:
                self._hashes[path] = known
        return known


def with_grid(sample: Sample, grid: Grid | None) -> str:
    """The sample's prompt, with the grid's instruction where ``roboref_core.prompting.prompt`` puts it."""
    if grid is None:
        return sample.prompt
    if sample.gridded:
        raise ValueError(f"sample {sample.id} has a grid in its picture already, no other can be drawn over it")
    if sample.form is Form.CONCAT:
        where = "the whole image"
    else:
        where = _ORDINALS[len(sample.images) - 1] if len(sample.images) <= 2 else "the last image"
    instruction = grid.instruction(where)
    if SUFFIX in sample.prompt:
        return sample.prompt.replace(SUFFIX, f"{instruction} {SUFFIX}")
    return f"{sample.prompt} {instruction}"


def _read(paths: Sequence[Path]) -> tuple[np.ndarray, ...]:
    return tuple(read_picture(path) for path in paths)
