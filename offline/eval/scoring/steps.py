"""Answers that lead up to their point in steps, held against the true steps: each by itself, and the whole chain.

The order of the steps is free, as in RoboRefer's process rewards (arXiv:2506.04308, section 3.2): given and true steps
are put together so that the score is highest, each used once. A step too many costs as much as one that is missing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from roboref_core.prompting.answer_text import parse
from roboref_core.prompting.reasoning import Perception, parse_reasoning, parse_step
from scipy.optimize import linear_sum_assignment

from offline.eval.records.predictions import Predictions
from offline.eval.records.samples import Sample
from offline.eval.scoring.intervals import Share
from offline.eval.scoring.judge import Judged

RADIUS = 0.05
"""A step's point is right within this of a true one [normalised]."""
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_DISTANCE_TOLERANCE = 0.1
"""A stated distance is right within this share of the true one, or 5 cm."""
_LEAST_TOLERANCE = 0.05
_MAX_LINES = 64


@dataclass(frozen=True)
class TrueStep:
    """What one line of a reasoned answer is held against; any of its facts may be missing.

    Attributes:
        points: (x, y) in [0, 1], any of which is right.
        distance: [m], that the line must state.
        words: that the line must hold, for example "nearer".
        perception: the line must be a step of this kind; None: any text will do.
    """

    points: tuple[tuple[float, float], ...] = ()
    distance: float | None = None
    words: str = ""
    perception: Perception | None = None

    def score(self, line: str, radius: float = RADIUS) -> float:
        """Share of the facts that a line gets right, in [0, 1]."""
        if self.perception is not None:
            step = parse_step(line)
            if step is None or step.perception is not self.perception:
                return 0.0
            # Numbers in a thing's name ("the second of 3") are none of the finding's.
            line = line.rpartition("]")[2]
        facts = []
        if self.points:
            found = parse(line)
            given = found.points[0] if found.points else None
            facts.append(given is not None and min(np.hypot(*np.subtract(given, p)) for p in self.points) <= radius)
        if self.distance is not None:
            outside = re.sub(r"[\[(][^\])]*[\])]", " ", line)
            allowed = max(_LEAST_TOLERANCE, _DISTANCE_TOLERANCE * self.distance)
            facts.append(any(abs(float(n) - self.distance) <= allowed for n in _NUMBER.findall(outside)))
        if self.words:
            facts.append(self.words.casefold() in line.casefold())
        return sum(facts) / len(facts) if facts else 0.0


def read_true_steps(entry: Mapping[str, Any]) -> tuple[TrueStep, ...]:
    """A sample's "steps": a list of {"points": [[x, y]], "distance": m, "words": str, "perception": str}.

    Raises ValueError, TypeError or AttributeError for anything else.
    """
    return tuple(
        TrueStep(
            tuple((float(x), float(y)) for x, y in step.get("points", ())),
            None if step.get("distance") is None else float(step["distance"]),
            str(step.get("words", "")),
            None if step.get("perception") is None else Perception(step["perception"]),
        )
        for step in entry.get("steps", ())
    )


def step_count(sample: Sample) -> int | None:
    """How many things have to be found; RefSpatial-Bench says it as "step". None where it is not said."""
    said = sample.extra.get("step_count", sample.extra.get("step"))
    return said if isinstance(said, int) and not isinstance(said, bool) and said > 0 else None


def final_line(text: str) -> tuple[list[str], str]:
    """The lines of steps, and the answer: the last line that is not blank."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return (lines[:-1], lines[-1]) if lines else ([], "")


def score_chain(steps: Sequence[TrueStep], lines: Sequence[str], radius: float = RADIUS) -> np.ndarray:
    """(len(steps),) in [0, 1]: what each true step earns by the line that it is put together with."""
    earned = np.zeros(len(steps))
    lines = lines[:_MAX_LINES]
    if len(steps) and len(lines):
        each = np.array([[step.score(line, radius) for line in lines] for step in steps])
        # Of equal pairings the one in the order of the text.
        order = np.abs(np.subtract.outer(np.arange(len(steps)), np.arange(len(lines)))) * 1e-9
        rows, columns = linear_sum_assignment(each - order, maximize=True)
        earned[rows] = each[rows, columns]
    return earned


def process_score(steps: Sequence[TrueStep], lines: Sequence[str], radius: float = RADIUS) -> float:
    """Share of a chain that is right, in [0, 1]; lines beyond the number of steps lower it. 0 without steps."""
    return float(score_chain(steps, lines, radius).sum()) / max(len(steps), len(lines)) if steps else 0.0


def score_reasoning(judged: Judged, predictions: Predictions) -> dict[str, dict]:
    """Of answers that were asked for with steps, by how many things had to be found: JSON-ready figures.

    ``solved``: the point is right. ``steps``: mean share of a chain that is right. ``chain``: all of it is right.
    ``form``: every line before the answer is a step, and there is one. Samples without steps are not among them.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for k, sample in enumerate(judged.samples):
        steps = read_true_steps(sample.extra) if sample.extra.get("form") == "steps" else ()
        if not steps:
            continue
        text = str((predictions.by_id.get(sample.id) or {}).get("text", ""))
        read = parse_reasoning(text)
        share = process_score(steps, final_line(text)[0])
        row = {
            "solved": float(judged.correct[k]),
            "steps": share,
            "chain": float(share >= 1.0 - 1e-9),
            "form": float(bool(read.steps) and not read.malformed),
        }
        for group in ("all", count_name(step_count(sample) or len(steps))):
            for name, value in row.items():
                found.setdefault(group, {}).setdefault(name, []).append(value)
    return {group: _summed(rows) for group, rows in sorted(found.items())}


def count_name(count: int) -> str:
    """ "1 step", "4 steps"."""
    return f"{count} step{'' if count == 1 else 's'}"


def _summed(rows: Mapping[str, Sequence[float]]) -> dict:
    shares = {name: Share(int(sum(values)), len(values)).to_json() for name, values in rows.items() if name != "steps"}
    return {"samples": len(rows["steps"]), "steps": {"value": float(np.mean(rows["steps"]))}} | shares
