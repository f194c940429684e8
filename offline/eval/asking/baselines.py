"""What needs no model: the floor (centre, chance, always refusing) and the geometry that a model must beat."""

from __future__ import annotations

import hashlib
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from roboref_core.errors import ErrorCode, ReferError
from roboref_core.geometry.camera import pixel_to_normalised
from roboref_core.models.model_answer import Outcome
from roboref_core.models.reprojection import ReprojectionModel
from roboref_core.models.vision_language_model import Generation
from roboref_core.prompting.answer_text import format_answer
from roboref_core.prompting.prompt import Form

from offline.data_engine.five_frames import mask_box
from offline.eval.asking.marked_scenes import MarkedScenes
from offline.eval.asking.predictor import BASELINES, Question
from offline.eval.records.answers import Answer, Answers
from offline.eval.records.predictions import digest
from offline.eval.records.samples import Sample, read_samples, side_by_side
from offline.files import read_mask

# Masks from which the prior of sizes is taken: enough for its shape, at a bounded cost.
_PRIOR_MASKS = 500


def make(name: str, samples: Sequence[Sample], prior: Path | None = None) -> Baseline:
    """One of ``predictors.BASELINES``.

    Args:
        samples: what will be asked.
        prior: file of samples whose objects' sizes the random baseline draws from; None: those asked.
    """
    if name == "random_prior":
        return RandomInSizePrior(object_sizes(samples if prior is None else read_samples(prior).samples))
    return {"image_centre": ImageCentre, "never_visible": NeverVisible}[name]()


def floor(samples: Sequence[Sample]) -> list[Answers]:
    """The answers of every baseline that needs no geometry, for comparison in any table."""
    return [answers(make(name, samples), samples) for name in BASELINES]


def answers(baseline: Baseline, samples: Sequence[Sample]) -> Answers:
    """The answers of a baseline, made on the spot; what it cannot answer is missing."""
    found = Answers.blank(baseline.name, len(samples))
    for i, sample in enumerate(samples):
        try:
            point = _in_form(sample, baseline.point(sample))
        except ReferError:
            found.notes.add("no prediction", sample.id)
            continue
        if point is None:
            found.answer[i] = Answer.NOT_VISIBLE
        else:
            found.answer[i], found.point[i] = Answer.POINT, point
    return found


def object_sizes(samples: Sequence[Sample]) -> np.ndarray:
    """``sizes_of`` up to 500 of the samples' masks, evenly chosen; those that cannot be read are left out here."""
    masks = list(dict.fromkeys(sample.mask for sample in samples if sample.mask is not None))
    chosen = [masks[k] for k in np.linspace(0, len(masks) - 1, min(len(masks), _PRIOR_MASKS)).astype(int)]
    return sizes_of(_readable(chosen))


def sizes_of(masks: Iterable[np.ndarray]) -> np.ndarray:
    """(M, 2) width and height of each mask's tight box as shares of the picture's; (1, 2) zeros if there is none."""
    sizes = []
    for mask in masks:
        if mask.any():
            u0, v0, u1, v1 = mask_box(mask)
            sizes.append(((u1 - u0 + 1) / mask.shape[1], (v1 - v0 + 1) / mask.shape[0]))
    # Where nothing is known of sizes, points are drawn over the whole picture.
    return np.array(sizes or [(0.0, 0.0)])


def _readable(paths: Iterable[Path]) -> Iterator[np.ndarray]:
    for path in paths:
        try:
            yield read_mask(path)
        except ValueError:
            continue  # scoring counts and names it


class Baseline(ABC):
    """Answers from the sample alone; subclasses say where in the queried picture."""

    name = ""
    needs_pictures = uses_depth = False
    workers = 1

    @property
    def identity(self) -> dict:
        return {"baseline": self.name}

    def predict(self, questions: Sequence[Question]) -> list[Generation]:
        return [_generation(question.sample, self.point(question.sample)) for question in questions]

    @abstractmethod
    def point(self, sample: Sample) -> tuple[float, float] | None:
        """(x, y) in [0, 1] of the queried picture, or None for NOT_VISIBLE."""


class ImageCentre(Baseline):
    """Always the middle of the queried picture."""

    name = "image_centre"

    def point(self, sample: Sample) -> tuple[float, float]:
        return 0.5, 0.5


class NeverVisible(Baseline):
    """Always NOT_VISIBLE."""

    name = "never_visible"

    def point(self, sample: Sample) -> None:
        return None


class RandomInSizePrior(Baseline):
    """The middle of a box of a typical object's size, put anywhere in the picture; the same for the same sample.

    Args:
        sizes: (M, 2) of ``object_sizes``.
    """

    name = "random_prior"

    def __init__(self, sizes: np.ndarray):
        self._sizes = sizes.tolist()

    @property
    def identity(self) -> dict:
        return {"baseline": self.name, "seed": 0, "sizes": digest(self._sizes)}

    def point(self, sample: Sample) -> tuple[float, float]:
        # A generator of its own for each sample would cost more than the rest of its scoring.
        drawn = hashlib.sha256(f"random baseline 0 {sample.id}".encode()).digest()
        which, x, y = (number / 2**64 for number in struct.unpack("<3Q", drawn[:24]))
        width, height = self._sizes[int(which * len(self._sizes))]
        return width / 2 + x * (1 - width), height / 2 + y * (1 - height)


class Reprojection(Baseline):
    """Carries the mark by depth and pose, where the scenes that the samples come from are at hand.

    It does not see the pictures: what was moved or painted out it points at all the same. In the picture of another
    scene it answers NOT_VISIBLE, as its mark has no place there.

    Args:
        scenes: folder in which each scene lies under its scene_id.
    """

    name = "reprojection"

    def __init__(self, scenes: Path):
        self._scenes = MarkedScenes(scenes)
        self._model = ReprojectionModel()

    def point(self, sample: Sample) -> tuple[float, float] | None:
        """Raises ReferError: INVALID_QUERY for samples without a mark, or whose frames the scenes lack."""
        request = self._scenes.request(sample)
        if request is None:
            return None
        found = self._model.predict(request)
        if found.outcome is not Outcome.VISIBLE:
            return None
        camera = request.view.camera
        x, y = pixel_to_normalised(found.points[0], camera.width, camera.height)
        return float(np.clip(x, 0.0, 1.0)), float(np.clip(y, 0.0, 1.0))


def _generation(sample: Sample, point: tuple[float, float] | None) -> Generation:
    xy = _in_form(sample, point)
    if xy is None:
        return Generation(format_answer(None), Outcome.NOT_VISIBLE)
    return Generation(format_answer([xy]), Outcome.VISIBLE, np.array([xy]))


def _in_form(sample: Sample, point: tuple[float, float] | None) -> tuple[float, float] | None:
    """A place in the queried picture in the coordinates of the sample's answers."""
    if point is None or sample.form is Form.MULTI:
        return point
    try:
        x, y = side_by_side(sample).right_to_whole(np.array(point))
    except ValueError as error:
        raise ReferError(ErrorCode.INVALID_QUERY, str(error)) from error
    return float(x), float(y)
