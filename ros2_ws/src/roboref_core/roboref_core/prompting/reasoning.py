"""Answers with the steps that lead to them: one line per step, then the answer alone in the last line.

    Step 1: [Position] [the lamp]: (0.129, 0.617)
    Step 2: [Position] [the cup nearest to the lamp]: (0.510, 0.255)
    Step 3: [Distance] [the cup nearest to the lamp, the lamp]: 0.42 m
    [(0.510, 0.255)]

The kinds of perception and their places are those of RoboRefer's process rewards (arXiv:2506.04308, section 3.2);
its spelling ``Step1: [Position][the lamp] Point (0.129, 0.617).`` is read too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from roboref_core.models.model_answer import Outcome
from roboref_core.prompting.answer_text import ParsedAnswer, format_answer, parse

INSTRUCTION = (
    "Before the answer, write the steps that lead to it, one per line, each as "
    '"Step k: [Position] [object]: (x, y)"; then the answer alone in the last line.'
)
NEARER, FARTHER = "nearer", "farther"
_MAX_LINES = 64
_STEP = re.compile(
    r"(?:step\s?\d{0,3}\s?[:.]?\s{0,4})?\[(?P<kind>[a-z ]{1,32})\]\s{0,4}\[(?P<name>[^\[\]]{1,300})\]\s{0,4}:?"
    r"(?P<said>.{0,200})",
    re.IGNORECASE,
)
_METRES = re.compile(r"(\d{1,6}(?:\.\d{0,6})?)\s?m\b")


class Perception(Enum):
    """What a step finds out."""

    POSITION = "Position"
    """Where a thing is in the picture."""
    DEPTH_ORDER = "Depth order"
    """Whether the first of two things is nearer to the camera than the second."""
    DISTANCE = "Distance"
    """How far two things are from one another [m]."""


@dataclass(frozen=True)
class ReasoningStep:
    """One step.

    Attributes:
        perception: what is found out.
        name: name of what it is about, in words.
        point: (x, y) in [0, 1] of the picture; POSITION only.
        order: ``NEARER`` or ``FARTHER``; DEPTH_ORDER only.
        distance: [m]; DISTANCE only.
    """

    perception: Perception
    name: str
    point: tuple[float, float] | None = None
    order: str = ""
    distance: float | None = None

    def __post_init__(self) -> None:
        found = (self.point is not None, bool(self.order), self.distance is not None)
        if found != tuple(self.perception is kind for kind in Perception):
            raise ValueError(f"a step of {self.perception.value} holds its own finding and no other, found {self}")


@dataclass(frozen=True)
class Reasoning:
    """What a text says, step by step.

    Attributes:
        steps: those that could be read, in the order of the text.
        answer: as ``parse`` reads the text; unparsable if it ends with a step.
        malformed: lines before the answer that are no steps.
    """

    steps: tuple[ReasoningStep, ...]
    answer: ParsedAnswer
    malformed: tuple[str, ...] = ()


def format_reasoning(steps: Sequence[ReasoningStep], points: Sequence[Sequence[float]] | None) -> str:
    """The steps, one per line, and the answer (None: NOT_VISIBLE) in the last line."""
    lines = [
        f"Step {number}: [{step.perception.value}] [{step.name}]: {_said(step)}"
        for number, step in enumerate(steps, start=1)
    ]
    return "\n".join([*lines, format_answer(points)])


def parse_reasoning(text: str) -> Reasoning:
    """Read an answer with or without steps. Costs no more than the text's length, whatever it holds."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    steps, malformed = [], []
    for number, line in enumerate(lines[:_MAX_LINES]):
        step = parse_step(line)
        if step is not None:
            steps.append(step)
        elif number < len(lines) - 1:
            malformed.append(line)
    answer = parse(text)
    if lines and parse_step(lines[-1]) is not None:
        reason = f"expected the answer alone in the last line, found the step {lines[-1][:80]!r}"
        answer = ParsedAnswer(Outcome.UNPARSABLE, reason=reason)
    return Reasoning(tuple(steps), answer, tuple(malformed))


def parse_step(line: str) -> ReasoningStep | None:
    """One line as a step; None if it is none."""
    found = _STEP.match(line.strip())
    if found is None:
        return None
    perception = next((one for one in Perception if one.value.casefold() == found["kind"].strip().casefold()), None)
    said, name = found["said"], found["name"].strip()
    if perception is Perception.POSITION:
        points = parse(said).points
        return ReasoningStep(perception, name, point=points[0]) if len(points) == 1 else None
    if perception is Perception.DEPTH_ORDER:
        orders = [order for order in (NEARER, FARTHER) if order in said.casefold()]
        return ReasoningStep(perception, name, order=orders[0]) if len(orders) == 1 else None
    if perception is Perception.DISTANCE:
        metres = _METRES.findall(said)
        return ReasoningStep(perception, name, distance=float(metres[0])) if len(metres) == 1 else None
    return None


def _said(step: ReasoningStep) -> str:
    if step.point is not None:
        return format_answer([step.point])[1:-1]
    return step.order if step.distance is None else f"{step.distance:.2f} m"
