"""Whether several places are several answers or one open question."""

from __future__ import annotations

import numpy as np

from roboref_core.referring.answer import Status, Target


def rank(
    targets: tuple[Target, ...], wanted: int, ratio: float, distance: float, conflict: bool = False
) -> tuple[Status, tuple[Target, ...]]:
    """Status and the targets to give, best first; a conflict is AMBIGUOUS however many targets are wanted.

    Args:
        targets: best first, at least one.
        wanted: most targets wanted.
        ratio, distance: a second place is a rival with at least this share of the first one's score, and further from
            it than this [m].
        conflict: the targets are places of one thing, each of which somebody vouches for.
    """
    # The model's order is best first; among several targets one with a position is of more use.
    kept = targets[:wanted]
    if conflict or (wanted == 1 and targets[0].score > 0):
        best = targets[0]
        near_as_good = [other for other in targets[1:] if conflict or other.score >= ratio * best.score]
        rivals = [other for other in near_as_good if _is_apart(other, best, distance, conflict)]
        if rivals:
            return Status.AMBIGUOUS, (targets[0], *rivals)
        if conflict:
            kept = targets[:1]
    return (Status.FOUND if kept[0].position is not None else Status.FOUND_WITHOUT_POSITION), kept


def _is_apart(target: Target, best: Target, distance: float, unknown: bool) -> bool:
    """Whether two targets are two places; ``unknown`` where one has no position."""
    if target.position is None or best.position is None:
        return unknown
    return bool(np.linalg.norm(target.position - best.position) > distance)
