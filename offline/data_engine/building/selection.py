"""Five frames per object: far apart in viewpoint, and each a good look at it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from offline.data_engine.seeing.visibility import ObjectView


@dataclass(frozen=True)
class SelectionConfig:
    """How views of an object are chosen.

    Attributes:
        views: most views per object.
        min_views: objects with fewer are left out.
        min_separation: least difference of two chosen views: angle [rad] + |log of the ratio of distances|.
    """

    views: int = 5
    min_views: int = 2
    min_separation: float = 0.08


def separation(a: ObjectView, b: ObjectView) -> float:
    """How different two viewpoints are: angle between the viewing directions [rad] + |log of the distance ratio|.

    The angle is the baseline as the object sees it; the second term tells apart near and far along one ray.
    """
    angle = np.arccos(np.clip(a.direction @ b.direction, -1, 1))
    return float(angle + abs(np.log(max(a.distance, 1e-6) / max(b.distance, 1e-6))))


def quality(view: ObjectView, sharpness: float) -> float:
    """How good a look it is, in [0, 1]: visible fraction times relative sharpness (capped at the scene's median)."""
    return float(view.fraction * min(1.0, sharpness))


def select_views(
    views: Mapping[int, ObjectView], sharpness: Mapping[int, float], config: SelectionConfig | None = None
) -> list[int]:
    """Choose frames by farthest-point selection weighted by quality.

    The best look comes first; then, each time, the view with the largest product of quality and separation
    from all chosen so far. Ties go to the earlier frame, so the result is a function of the input alone.

    Args:
        views: frame position -> an accepted view of the object.
        sharpness: frame position -> sharpness relative to the scene's median.

    Returns:
        Frame positions in the order of choice; empty if there are fewer than ``min_views``.
    """
    config = config or SelectionConfig()
    frames = sorted(views)
    if not frames:
        return []
    scores = {i: quality(views[i], sharpness[i]) for i in frames}
    chosen = [max(frames, key=lambda i: (scores[i], -i))]
    gap = {i: separation(views[i], views[chosen[0]]) for i in frames}
    while len(chosen) < config.views:
        rest = [i for i in frames if gap[i] >= config.min_separation and i not in chosen]
        if not rest:
            break
        chosen.append(max(rest, key=lambda i: (scores[i] * gap[i], -i)))
        gap = {i: min(gap[i], separation(views[i], views[chosen[-1]])) for i in frames}
    return chosen if len(chosen) >= config.min_views else []
