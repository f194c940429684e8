"""What an answer is worth: its form, its decision, its place, and the steps that lead to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from roboref_core.models.model_answer import Outcome
from roboref_core.prompting.answer_text import format_answer, parse
from roboref_core.prompting.reasoning import parse_step

from offline.eval.records.answers import Answer, Answers
from offline.eval.records.samples import BadSample, Sample, parse_sample
from offline.eval.scoring.judge import Judged, judge_all
from offline.eval.scoring.steps import TrueStep, final_line, process_score, read_true_steps
from offline.train.plan import Rewards

TERMS = ("format", "decision", "hit", "distance", "process")


@dataclass(frozen=True)
class Task:
    """A question with all that its answers are held against."""

    sample: Sample
    steps: tuple[TrueStep, ...] = field(default=())


def read_task(entry: Mapping[str, Any], root: Path, where: str) -> Task:
    """A training sample as something that answers are rewarded by.

    Its optional "steps" are those of ``offline.eval.scoring.steps``.

    Raises ValueError naming the place.
    """
    try:
        # Placeholders are the training form's; the question is the same.
        turns = [
            {**turn, "value": turn["value"].replace("<image>", "").replace("<depth>", "").strip()}
            for turn in entry["conversations"]
        ]
        sample = parse_sample({"id": where, **entry, "conversations": turns}, root)
        # Asked for the answer alone, steps are none of it.
        steps = () if entry.get("form") == "single" else read_true_steps(entry)
    except (BadSample, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{where}: cannot be rewarded: {error}") from error
    return Task(sample, steps)


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
            terms[q, g, 0] = _well_formed(answer) and _in_form(task.steps, lines)
            terms[q, g, 4] = process_score(task.steps, lines, weights.hit_radius)
    return terms


def total(terms: np.ndarray, weights: Rewards) -> np.ndarray:
    """(Q, G) weighted sums."""
    return terms @ np.array([getattr(weights, name) for name in TERMS])


def _in_form(steps: Sequence[TrueStep], lines: Sequence[str]) -> bool:
    """Whether the lines before the answer are what is asked for: none without steps, steps where their kind is told."""
    if not steps:
        return not lines
    return all(step.perception is None for step in steps) or all(parse_step(line) is not None for line in lines)


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
