"""Each prediction against its truth: parsed, brought into the queried picture's coordinates, looked up in the mask."""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import chain
from pathlib import Path

import numpy as np
from roboref_core.answer_text import NotVisible, Point, parse
from roboref_core.prompt import Form

from offline.data_engine.files import read_mask
from offline.eval.predictions import Predictions, digest
from offline.eval.samples import Sample, picture_size, side_by_side

# Masks per piece of work: handing over one at a time costs as much as decoding a small one.
_CHUNK = 32


class Answer(IntEnum):
    """What came back for a sample. MISSING: nothing (or only an answer to an older prompt)."""

    POINT = 0
    NOT_VISIBLE = 1
    UNPARSABLE = 2
    MISSING = 3


@dataclass(frozen=True)
class Judged:
    """Samples and what was answered, as columns of length N in the order of ``samples``.

    Attributes:
        samples: the questions.
        visible: truth: the object is to be seen.
        answer: ``Answer`` codes.
        hit: the point lies in mask > 0 (of the right half, in the concat form).
        has_mask: hit can be decided: the object is visible and its mask was read.
        point: (N, 2) normalised in the queried picture; NaN without a point. May lie outside [0, 1] (concat).
        l2: distance from the true point [normalised units: anisotropic where the picture is not square];
            NaN unless visible and pointed at.
        l2_diagonal: the same in units of the picture's diagonal.
        p_visible: as the model said, NaN if it did not, or not a number in [0, 1].
        area: of the mask as a share of the picture; NaN without a mask.
        problems: what was odd in the predictions or the masks: reason -> how often.
        examples: reason -> one case.
    """

    samples: tuple[Sample, ...]
    visible: np.ndarray
    answer: np.ndarray
    hit: np.ndarray
    has_mask: np.ndarray
    point: np.ndarray
    l2: np.ndarray
    l2_diagonal: np.ndarray
    p_visible: np.ndarray
    area: np.ndarray
    problems: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    @property
    def pointed(self) -> np.ndarray:
        return self.answer == Answer.POINT

    @property
    def refused(self) -> np.ndarray:
        return self.answer == Answer.NOT_VISIBLE

    @property
    def right_decision(self) -> np.ndarray:
        """Pointed where visible, refused where not; unparsable and missing answers are neither."""
        return np.where(self.visible, self.pointed, self.refused)

    @property
    def correct(self) -> np.ndarray:
        """The task is solved: T2A by the decision, every other task by a hit or a right refusal."""
        decision_only = np.array([sample.task == "t2a" for sample in self.samples], dtype=bool)
        return np.where(self.visible & ~decision_only, self.hit, self.right_decision)

    @property
    def outcomes(self) -> np.ndarray:
        """(N,) one of OUTCOMES for each sample: what came of it, for people."""
        pointed, refused, visible = self.pointed, self.refused, self.visible
        return np.select(
            [
                self.answer == Answer.MISSING, self.answer == Answer.UNPARSABLE, refused & visible, refused,
                pointed & ~visible, self.hit, self.has_mask,
            ],
            ["missing", "unparsable", "false refusal", "right refusal", "false point", "hit", "miss"],
            "pointed, no mask",
        )  # fmt: skip


OUTCOMES = (
    "hit", "miss", "false refusal", "false point", "right refusal", "unparsable", "missing", "pointed, no mask",
)  # fmt: skip


def judge(samples: Sequence[Sample], predictions: Predictions) -> Judged:
    """Judge one file; see ``judge_all``."""
    return judge_all(samples, [predictions])[0]


def judge_all(samples: Sequence[Sample], predictions: Sequence[Predictions]) -> list[Judged]:
    """Judge every sample under each of several predictions; each mask is decoded once for all of them.

    A sample without a usable prediction is MISSING and counts as wrong, it never drops out. A point that is not
    two finite numbers in [0, 1] makes its answer UNPARSABLE.
    """
    asked = _Asked()
    known = {sample.id for sample in samples}
    read = [_read_all(samples, known, one, asked) for one in predictions]
    visible = np.array([sample.truth is not None for sample in samples], dtype=bool)
    raw = np.stack([point for _, point, _, _ in read], axis=1) if read else np.zeros((len(samples), 0, 2))
    shared, geometry = _locate(samples, visible, raw)
    judged = []
    for k, (answer, _, p_visible, notes) in enumerate(read):
        own = {name: values[:, k] for name, values in geometry.items()}
        notes.update(shared.notes)
        judged.append(
            Judged(tuple(samples), visible, answer, **own, has_mask=shared.has_mask, area=shared.area,
                   p_visible=p_visible, problems=dict(notes.counts), examples=notes.examples)
        )  # fmt: skip
    return judged


class _Asked(dict):
    """Prompt -> its hash; many samples share a prompt."""

    def __missing__(self, prompt: str) -> str:
        self[prompt] = found = digest(prompt)
        return found


class _Notes:
    def __init__(self):
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, str] = {}

    def add(self, kind: str, example: str) -> None:
        self.counts[kind] += 1
        self.examples.setdefault(kind, example)

    def count(self, kind: str, times: int) -> None:
        if times:
            self.counts[kind] += times

    def update(self, other: _Notes) -> None:
        self.counts.update(other.counts)
        self.examples |= other.examples


def _read_all(
    samples: Sequence[Sample], known: set[str], predictions: Predictions, asked: _Asked
) -> tuple[np.ndarray, np.ndarray, np.ndarray, _Notes]:
    """Answer codes (N,), points as written (N, 2), p_visible (N,)."""
    n, notes = len(samples), _Notes()
    answer = np.full(n, Answer.MISSING, dtype=np.int8)
    raw = np.full((n, 2), np.nan)
    p_visible = np.full(n, np.nan)
    for i, sample in enumerate(samples):
        line = predictions.by_id.get(sample.id)
        if line is None:
            notes.add("no prediction", sample.id)
            continue
        if "asked" in line and line["asked"] != asked[sample.prompt]:
            notes.add("answer to another prompt", sample.id)
            continue
        answer[i], point = _read(line, sample.id, notes)
        if point is not None:
            raw[i] = point
        p_visible[i] = _probability(line.get("p_visible"), sample.id, notes)
    for sample_id in predictions.by_id:
        if sample_id not in known:
            notes.add("prediction of an unknown sample", sample_id)
    notes.count("garbage line", predictions.garbage)
    notes.count("duplicate line", predictions.duplicates)
    notes.count("superseded line", predictions.superseded)
    return answer, raw, p_visible, notes


def _read(line: dict, name: str, notes: _Notes) -> tuple[Answer, tuple[float, float] | None]:
    """The answer of one line: as the backend read it, or, where it gave text only, by the one parser."""
    points, visible = line.get("points"), line.get("visible")
    if points is None:
        text = line.get("text")
        if not isinstance(text, str):
            notes.add("prediction without text or points", name)
            return Answer.UNPARSABLE, None
        read = parse(text)
        if isinstance(read, NotVisible):
            return Answer.NOT_VISIBLE, None
        return (Answer.POINT, read.points[0]) if isinstance(read, Point) else (Answer.UNPARSABLE, None)
    if visible is False:
        return Answer.NOT_VISIBLE, None
    if visible is None or points == []:
        return Answer.UNPARSABLE, None
    first = points[0] if isinstance(points, list) else None
    if not (isinstance(first, list) and len(first) == 2 and all(_in_unit(value) for value in first)):
        notes.add("point that is not two numbers in [0, 1]", f"{name}: {str(first)[:60]}")
        return Answer.UNPARSABLE, None
    return Answer.POINT, (float(first[0]), float(first[1]))


def _in_unit(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0.0 <= value <= 1.0


def _probability(value: object, name: str, notes: _Notes) -> float:
    if value is None:
        return math.nan
    if not _in_unit(value):
        notes.add("p_visible that is not in [0, 1]", f"{name}: {str(value)[:60]}")
        return math.nan
    return float(value)


@dataclass
class _Shared:
    """What does not depend on the predictions."""

    has_mask: np.ndarray
    area: np.ndarray
    notes: _Notes


def _locate(samples: Sequence[Sample], visible: np.ndarray, raw: np.ndarray) -> tuple[_Shared, dict[str, np.ndarray]]:
    """Geometry columns of Judged, (N, R, ...) for (N, R, 2) points of R predictions."""
    n, r, _ = raw.shape
    shared = _Shared(np.zeros(n, dtype=bool), np.full(n, np.nan), _Notes())
    columns = {
        "hit": np.zeros((n, r), dtype=bool), "point": raw.copy(),
        "l2": np.full((n, r), np.nan), "l2_diagonal": np.full((n, r), np.nan),
    }  # fmt: skip
    groups: dict[tuple[Path | None, Path | None], list[int]] = defaultdict(list)
    for i in np.flatnonzero(visible):
        mask = samples[i].mask
        groups[mask, None if mask else samples[i].query].append(int(i))

    def work(chunk):
        return [(members, _measure(mask, [samples[i] for i in members], raw[members])) for (mask, _), members in chunk]

    listed = list(groups.items())
    chunks = [listed[k : k + _CHUNK] for k in range(0, len(listed), _CHUNK)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding leaves the interpreter to other threads
        for members, found in chain.from_iterable(pool.map(work, chunks)):
            for kind, example in found.notes:
                shared.notes.add(kind, example)
            shared.area[members], shared.has_mask[members] = found.area, found.has_mask
            for name, values in found.columns.items():
                columns[name][members] = values
    return shared, columns


@dataclass
class _Measured:
    columns: dict[str, np.ndarray]
    has_mask: bool
    area: float
    notes: list[tuple[str, str]]


def _measure(mask_path: Path | None, samples: Sequence[Sample], raw: np.ndarray) -> _Measured:
    """(k, R) columns for k samples that share one mask (or, without one, the queried picture)."""
    notes: list[tuple[str, str]] = []
    mask, size = _mask_and_size(mask_path, samples, notes)
    point = raw.copy()
    off = raw - np.array([sample.truth[0] for sample in samples], dtype=np.float64)[:, None]
    for i, sample in enumerate(samples):
        if sample.form is Form.MULTI and len(sample.truth) == 1:
            continue
        truth = np.array(sample.truth, dtype=np.float64)
        if sample.form is Form.CONCAT:
            try:
                layout = side_by_side(sample, size)
            except ValueError as error:
                notes.append(("side-by-side picture that cannot be used", str(error)))
                point[i] = off[i] = np.nan
                continue
            point[i], truth = layout.whole_to_right(point[i]), layout.whole_to_right(truth)
        off[i] = point[i] - truth[0]
        for other in truth[1:]:  # any of several right points will do: the nearest
            nearer = np.hypot(*(point[i] - other).T) < np.hypot(*off[i].T)
            off[i][nearer] = (point[i] - other)[nearer]
    l2 = np.hypot(off[..., 0], off[..., 1])
    columns = {"point": point, "l2": l2, "l2_diagonal": np.full(l2.shape, np.nan)}
    if size is not None:
        columns["l2_diagonal"] = np.hypot(off[..., 0] * size[0], off[..., 1] * size[1]) / math.hypot(*size)
    if mask is None:
        return _Measured(columns, False, math.nan, notes)
    inside = ((point >= 0.0) & (point <= 1.0)).all(axis=-1)
    # The outer half of an edge pixel belongs to the picture: x = 1 is its last pixel.
    pixels = np.minimum(np.floor(np.where(inside[..., None], point, 0.0) * size), np.subtract(size, 1)).astype(int)
    columns["hit"] = inside & mask[pixels[..., 1], pixels[..., 0]]
    return _Measured(columns, True, np.count_nonzero(mask) / mask.size, notes)


def _mask_and_size(
    path: Path | None, samples: Sequence[Sample], notes: list[tuple[str, str]]
) -> tuple[np.ndarray | None, tuple[int, int] | None]:
    """(h, w) bool or None, and the queried picture's (width, height), or None if that cannot be read either."""
    query = samples[0].query
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
