"""Each answer against its truth: brought into the queried picture's coordinates, and looked up in the mask."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
from roboref_core.prompting.prompt import Form

from offline.eval.records.answers import Answers, Notes, read_answers
from offline.eval.records.outcomes import Decisions
from offline.eval.records.predictions import Predictions
from offline.eval.records.samples import Sample, side_by_side
from offline.eval.scoring.mask_hits import on_mask
from offline.files import picture_size, read_mask

# Masks per piece of work: handing over one at a time costs as much as decoding a small one.
_CHUNK = 32


@dataclass(frozen=True)
class Judged(Decisions):
    """Samples and what was answered, as columns of length N in the order of ``samples``.

    Attributes:
        samples: the questions.
        point: (N, 2) normalised in the queried picture; NaN without a point. May lie outside [0, 1] (concat). Where
            nothing is to be seen, there is no place to compare it with, and it is as answered.
        l2: distance from the true point [normalised units: anisotropic where the picture is not square];
            NaN unless visible and pointed at.
        l2_diagonal: the same in units of the picture's diagonal.
        p_visible: as the model said, NaN if it did not, or not a number in [0, 1].
        area: area of the mask as a share of the picture; NaN without a mask.
        problems: what was odd in the predictions or the masks: reason -> how often.
        examples: reason -> one case.
    """

    samples: tuple[Sample, ...]
    point: np.ndarray
    l2: np.ndarray
    l2_diagonal: np.ndarray
    p_visible: np.ndarray
    area: np.ndarray
    problems: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    @property
    def correct(self) -> np.ndarray:
        """The task is solved: T2A by the decision, every other task by a hit or a right refusal."""
        decision_only = np.array([sample.task == "t2a" for sample in self.samples], dtype=bool)
        return np.where(self.visible & ~decision_only, self.hit, self.right_decision)


def judge(samples: Sequence[Sample], answered: Predictions | Answers) -> Judged:
    """Judge one model; see ``judge_all``."""
    return judge_all(samples, [answered])[0]


def judge_all(samples: Sequence[Sample], answered: Sequence[Predictions | Answers]) -> list[Judged]:
    """Judge every sample under each of several models; each mask is decoded once for all of them.

    Args:
        answered: what each model answered: as in its file (see ``read_answers``), or as columns in the samples' order.
    """
    if any(sample.record is not None for sample in samples):
        raise ValueError("manipulation records have no mask to judge by: `roboref eval score` has their own metrics")
    read = [read_answers(samples, one) if isinstance(one, Predictions) else one for one in answered]
    points = np.stack([one.point for one in read], axis=1) if read else np.zeros((len(samples), 0, 2))
    places, notes = _locate(samples, points)
    return [
        Judged(
            samples=tuple(samples),
            visible=places.visible,
            answer=one.answer,
            hit=places.hit[:, k],
            has_mask=np.isfinite(places.area),
            point=places.point[:, k],
            l2=places.l2[:, k],
            l2_diagonal=places.l2_diagonal[:, k],
            p_visible=one.p_visible,
            area=places.area,
            problems=dict(one.notes.counts + notes.counts),
            examples=one.notes.examples | notes.examples,
        )
        for k, one in enumerate(read)
    ]


@dataclass
class _Places:
    """The columns of Judged that follow from places, for N samples and R models: (N, ...) or (N, R, ...)."""

    visible: np.ndarray
    area: np.ndarray
    point: np.ndarray
    hit: np.ndarray
    l2: np.ndarray
    l2_diagonal: np.ndarray


def _locate(samples: Sequence[Sample], points: np.ndarray) -> tuple[_Places, Notes]:
    """From (N, R, 2) points as answered. What is not visible has no mask, no hit and no distance."""
    n, r, _ = points.shape
    visible = np.array([sample.truth is not None for sample in samples], dtype=bool)
    hit, point, notes = np.zeros((n, r), dtype=bool), points.copy(), Notes()
    area, size = np.full(n, np.nan), np.full((n, 2), np.nan)
    truths = [sample.truth for sample in samples]
    by_picture: dict[tuple[Path | None, Path | None], list[int]] = defaultdict(list)
    for i in np.flatnonzero(visible).tolist():
        mask = samples[i].mask
        by_picture[mask, None if mask else samples[i].query].append(i)

    def work(chunk):
        return [(members, _look_up([samples[i] for i in members], points[members])) for members in chunk]

    groups = list(by_picture.values())
    chunks = [groups[k : k + _CHUNK] for k in range(0, len(groups), _CHUNK)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding leaves the interpreter to other threads
        for members, found in chain.from_iterable(pool.map(work, chunks)):
            hit[members], point[members], area[members], size[members] = found.hit, found.point, found.area, found.size
            for k, truth in found.truths.items():
                truths[members[k]] = truth
            for kind, example in found.notes:
                notes.add(kind, example)
    off = _offsets(point, truths)
    l2 = np.hypot(off[..., 0], off[..., 1])
    in_pixels = off * size[:, None]
    l2_diagonal = np.hypot(in_pixels[..., 0], in_pixels[..., 1]) / _diagonals(size)[:, None]
    return _Places(visible, area, point, hit, l2, l2_diagonal), notes


def _offsets(point: np.ndarray, truths: Sequence[Sequence[tuple[float, float]] | None]) -> np.ndarray:
    """(N, R, 2) from the nearest of each sample's right points, any of which will do; NaN without one."""
    off = point - np.array([(np.nan, np.nan) if truth is None else truth[0] for truth in truths]).reshape(-1, 1, 2)
    for i, truth in enumerate(truths):
        for other in () if truth is None else truth[1:]:
            nearer = np.hypot(*(point[i] - other).T) < np.hypot(*off[i].T)
            off[i][nearer] = (point[i] - other)[nearer]
    return off


def _diagonals(size: np.ndarray) -> np.ndarray:
    sizes, index = np.unique(size, axis=0, return_inverse=True)
    return np.array([math.hypot(*one) for one in sizes])[index.reshape(-1)]


@dataclass
class _Seen:
    """What a mask (or, without one, its picture) says about k samples that share it.

    Attributes:
        size: (width, height) of the queried picture; NaN if it cannot be told.
        area: area of the mask as a share of the picture; NaN without a usable mask.
        point: (k, R, 2) in the queried picture.
        hit: (k, R).
        truths: position among the k -> right points in the queried picture, where the sample has them elsewhere.
        notes: (kind, example) of what cannot be used.
    """

    size: tuple[float, float]
    area: float
    point: np.ndarray
    hit: np.ndarray
    truths: dict[int, np.ndarray]
    notes: list[tuple[str, str]]


def _look_up(samples: Sequence[Sample], point: np.ndarray) -> _Seen:
    """For samples that share their mask, and (k, R, 2) points as answered, which are changed."""
    notes: list[tuple[str, str]] = []
    truths: dict[int, np.ndarray] = {}
    mask, size = _mask_and_size(samples, notes)
    for k, sample in enumerate(samples):
        if sample.form is Form.CONCAT:
            try:
                layout = side_by_side(sample, size)
            except ValueError as error:
                notes.append(("side-by-side picture that cannot be used", str(error)))
                point[k] = np.nan
            else:
                point[k], truths[k] = layout.whole_to_right(point[k]), layout.whole_to_right(np.array(sample.truth))
    hit, area = np.zeros(point.shape[:2], dtype=bool), math.nan
    if mask is not None:
        hit = on_mask(mask, point * size)
        area = np.count_nonzero(mask) / mask.size
    return _Seen(size or (math.nan, math.nan), area, point, hit, truths, notes)


def _mask_and_size(
    samples: Sequence[Sample], notes: list[tuple[str, str]]
) -> tuple[np.ndarray | None, tuple[int, int] | None]:
    """(h, w) bool or None, and the queried picture's (width, height), or None if that cannot be read either."""
    path, query = samples[0].mask, samples[0].query
    try:
        if path is None:
            raise ValueError(f"{query}: no mask is stated, and none lies beside it")
        mask = read_mask(path)
        if mask.any():
            return mask, mask.shape[::-1]
        raise ValueError(f"{path}: the mask is empty")
    except ValueError as error:
        notes += [("visible, but no usable mask", str(error))] * len(samples)
    try:
        return None, picture_size(query)
    except ValueError as error:
        notes.append(("queried picture that cannot be read", str(error)))
        return None, None
