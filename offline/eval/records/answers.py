"""What was answered to each sample, as columns: read from a predictions file once, whatever is in it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache

import numpy as np
from roboref_core.models.model_answer import Outcome
from roboref_core.prompting.answer_text import parse

from offline.eval.records.predictions import Predictions, digest
from offline.eval.records.samples import Sample

# Many samples share a prompt.
_prompt_digest = lru_cache(2**16)(digest)


class Answer(IntEnum):
    """What came back for a question. MISSING: nothing (or only an answer to an older prompt). ERROR: the message that
    it could not be answered."""

    POINT = 0
    NOT_VISIBLE = 1
    UNPARSABLE = 2
    MISSING = 3
    ERROR = 4


_CODES = {
    Outcome.VISIBLE: Answer.POINT,
    Outcome.NOT_VISIBLE: Answer.NOT_VISIBLE,
    Outcome.UNPARSABLE: Answer.UNPARSABLE,
}


@dataclass
class Notes:
    """What was odd: kind -> how often, and one case of each."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, example: str) -> None:
        self.counts[kind] += 1
        self.examples.setdefault(kind, example)

    def count(self, kind: str, times: int) -> None:
        if times:
            self.counts[kind] += times


@dataclass(frozen=True)
class Answers:
    """One model's, or baseline's, answers to N samples, in their order.

    Attributes:
        name: for tables.
        answer: (N,) ``Answer`` codes.
        point: (N, 2) as answered, in [0, 1] of the answered picture; NaN without a point.
        p_visible: (N,) as the model said, NaN if it did not, or not a number in [0, 1].
        notes: what was odd.
    """

    name: str
    answer: np.ndarray
    point: np.ndarray
    p_visible: np.ndarray
    notes: Notes = field(default_factory=Notes)

    @classmethod
    def blank(cls, name: str, count: int) -> Answers:
        """``count`` times MISSING, to be filled in."""
        answer = np.full(count, Answer.MISSING, dtype=np.int8)
        return cls(name, answer, np.full((count, 2), np.nan), np.full(count, np.nan))


def read_answers(samples: Sequence[Sample], predictions: Predictions) -> Answers:
    """The answers of a predictions file to the samples.

    A sample without a usable prediction is MISSING, it never drops out. A point that is not two finite numbers in
    [0, 1] makes its answer UNPARSABLE.
    """
    found = Answers.blank(predictions.name, len(samples))
    notes = found.notes
    for i, sample in enumerate(samples):
        line = predictions.by_id.get(sample.id)
        if line is None:
            notes.add("no prediction", sample.id)
            continue
        if "asked" in line and line["asked"] != _prompt_digest(sample.prompt):
            notes.add("answer to another prompt", sample.id)
            continue
        found.answer[i], point = _read(line, sample.id, notes)
        if point is not None:
            found.point[i] = point
        found.p_visible[i] = _probability(line.get("p_visible"), sample.id, notes)
    known = {sample.id for sample in samples}
    for sample_id in predictions.by_id:
        if sample_id not in known:
            notes.add("prediction of an unknown sample", sample_id)
    notes.count("garbage line", predictions.garbage)
    notes.count("duplicate line", predictions.duplicates)
    notes.count("superseded line", predictions.superseded)
    return found


def _read(line: dict, name: str, notes: Notes) -> tuple[Answer, tuple[float, float] | None]:
    """The answer of one line: as the backend read it, or, where it gave text only, by the one parser."""
    points, visible = line.get("points"), line.get("visible")
    if points is None:
        text = line.get("text")
        if not isinstance(text, str):
            notes.add("prediction without text or points", name)
            return Answer.UNPARSABLE, None
        read = parse(text)
        return _CODES[read.outcome], read.points[0] if read.points else None
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


def _probability(value: object, name: str, notes: Notes) -> float:
    if value is None:
        return math.nan
    if not isinstance(value, int | float) or not _in_unit(value):
        notes.add("p_visible that is not in [0, 1]", f"{name}: {str(value)[:60]}")
        return math.nan
    return float(value)
