"""What an answer is worth: its form, its decision, its place, and the steps that lead to it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from roboref_core.models.model_answer import Outcome
from roboref_core.prompting.answer_text import format_answer, parse

from offline.eval.records.answers import Answer, Answers
from offline.eval.records.samples import BadSample, Sample, parse_sample
from offline.eval.scoring.judge import Judged, judge_all
from offline.train.plan import Rewards

TERMS = ("format", "decision", "hit", "distance", "process")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
# A stated distance is right within this share of the true one.
_DISTANCE_TOLERANCE = 0.1


@dataclass(frozen=True)
class Step:
    """What one line of a reasoned answer is held against; any of its facts may be missing.

    Attributes:
        points: (x, y) in [0, 1], any of which is right.
        distance: [m], that the line must state.
        words: that the line must hold, for example "behind".
    """

    points: tuple[tuple[float, float], ...] = ()
    distance: float | None = None
    words: str = ""

    def score(self, line: str, radius: float) -> float:
        """Share of the facts that a line gets right, in [0, 1]."""
        facts = []
        if self.points:
            found = parse(line)
            given = found.points[0] if found.points else None
            facts.append(given is not None and min(np.hypot(*np.subtract(given, p)) for p in self.points) <= radius)
        if self.distance is not None:
            outside = re.sub(r"[\[(][^\])]*[\])]", " ", line)
            numbers = [float(number) for number in _NUMBER.findall(outside)]
            facts.append(any(abs(n - self.distance) <= _DISTANCE_TOLERANCE * self.distance for n in numbers))
        if self.words:
            facts.append(self.words.casefold() in line.casefold())
        return sum(facts) / len(facts) if facts else 0.0


@dataclass(frozen=True)
class Task:
    """A question with all that its answers are held against."""

    sample: Sample
    steps: tuple[Step, ...] = field(default=())


def read_task(entry: Mapping[str, Any], root: Path, where: str) -> Task:
    """A training sample as something that answers are rewarded by.

    Its optional "steps" are a list of {"points": [[x, y]], "distance": m, "words": str}.

    Raises ValueError naming the place.
    """
    try:
        # Placeholders are the training form's; the question is the same.
        turns = [
            {**turn, "value": turn["value"].replace("<image>", "").replace("<depth>", "").strip()}
            for turn in entry["conversations"]
        ]
        sample = parse_sample({"id": where, **entry, "conversations": turns}, root)
        steps = tuple(
            Step(
                tuple((float(x), float(y)) for x, y in step.get("points", ())),
                None if step.get("distance") is None else float(step["distance"]),
                str(step.get("words", "")),
            )
            for step in entry.get("steps", ())
        )
    except (BadSample, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{where}: cannot be rewarded: {error}") from error
    return Task(sample, steps)


def final_line(text: str) -> tuple[list[str], str]:
    """The lines of steps, and the answer: the last line that is not blank."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return (lines[:-1], lines[-1]) if lines else ([], "")


def reward_terms(tasks: Sequence[Task], texts: Sequence[Sequence[str]], weights: Rewards) -> np.ndarray:
    """(Q, G, len(TERMS)) in [0, 1]: what each of G answers to each of Q questions earns, before weighting."""
    group = len(texts[0])
    split = [[final_line(text) for text in answers] for answers in texts]
    columns = [_columns([answers[g][1] for answers in split]) for g in range(group)]
    judged = judge_all([task.sample for task in tasks], columns)
    terms = np.zeros((len(tasks), group, len(TERMS)))
    for g, one in enumerate(judged):
        near = _distance(one, weights.reach)
        hit = np.where(one.has_mask, one.hit, one.l2_diagonal <= weights.hit_radius)
        # Where there is nothing to be seen, refusing is all that there is to get right.
        terms[:, g, 1] = one.right_decision
        terms[:, g, 2] = np.where(one.visible, hit, one.refused)
        terms[:, g, 3] = np.where(one.visible, near, one.refused)
        for q, task in enumerate(tasks):
            lines, answer = split[q][g]
            terms[q, g, 0] = _well_formed(answer) and (bool(task.steps) or not lines)
            terms[q, g, 4] = _process(task.steps, lines, weights.hit_radius)
    return terms


def total(terms: np.ndarray, weights: Rewards) -> np.ndarray:
    """(Q, G) weighted sums."""
    return terms @ np.array([getattr(weights, name) for name in TERMS])


def _process(steps: Sequence[Step], lines: Sequence[str], radius: float) -> float:
    """Mean score of the steps, each by the line at its place. Without steps there is nothing to earn."""
    if not steps:
        return 0.0
    scores = [step.score(lines[index], radius) if index < len(lines) else 0.0 for index, step in enumerate(steps)]
    return sum(scores) / max(len(steps), len(lines))


def _well_formed(answer: str) -> bool:
    found = parse(answer)
    if found.outcome is Outcome.NOT_VISIBLE:
        return answer == format_answer(None)
    return found.outcome is Outcome.VISIBLE and answer == format_answer(found.points)


def _distance(judged: Judged, reach: float) -> np.ndarray:
    return np.nan_to_num(np.clip(1 - judged.l2_diagonal / reach, 0, 1))


def _columns(answers: Sequence[str]) -> Answers:
    found = Answers.blank("rollout", len(answers))
    for index, text in enumerate(answers):
        read = parse(text)
        if read.outcome is Outcome.VISIBLE:
            found.answer[index], found.point[index] = Answer.POINT, read.points[0]
        else:
            refused = read.outcome is Outcome.NOT_VISIBLE
            found.answer[index] = Answer.NOT_VISIBLE if refused else Answer.UNPARSABLE
    return found
