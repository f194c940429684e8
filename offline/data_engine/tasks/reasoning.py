"""Steps of reasoning as samples and scenes hold them: JSON objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from roboref_core.prompting.reasoning import Perception, ReasoningStep


def step_facts(step: ReasoningStep) -> dict[str, Any]:
    """{"perception", "name"} and one of "points", "words" and "distance" [m]."""
    facts: dict[str, Any] = {"perception": step.perception.value, "name": step.name}
    if step.point is not None:
        return facts | {"points": [[round(value, 6) for value in step.point]]}
    return facts | ({"words": step.order} if step.order else {"distance": step.distance})


def read_step(facts: Mapping[str, Any]) -> ReasoningStep:
    """What ``step_facts`` wrote. Raises ValueError, KeyError or TypeError for anything else."""
    points = facts.get("points")
    distance = facts.get("distance")
    return ReasoningStep(
        Perception(facts["perception"]),
        str(facts["name"]),
        None if not points else (float(points[0][0]), float(points[0][1])),
        str(facts.get("words", "")),
        None if distance is None else float(distance),
    )
