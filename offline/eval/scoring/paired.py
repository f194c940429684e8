"""Paired comparison of two models on the same cases, with one meaning of "better" for every table of the evaluation.

B is better than A where two tests agree: an exact one over the cases in which one of the two does better (McNemar's,
for errors the sign test), and a bootstrap of whole scenes whose 95 % interval of the difference leaves out zero. With
fewer than five scenes whole objects are drawn instead, and the verdict holds for these scenes only; with fewer than
five of these, or without a case, nothing is tested, and that is what the verdict says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from offline.eval.scoring.intervals import FEWEST_CLUSTERS, ClusterBootstrap, mcnemar

NOT_TESTED, WITHIN_NOISE = "not tested", "within noise"
BETTER = {"A": "A is better", "B": "B is better"}
_ALPHA = 0.05


@dataclass(frozen=True)
class Clusters:
    """What a bootstrap draws: (N,) cluster index of each case, and whether a cluster is a whole scene or one object."""

    index: np.ndarray
    of: str

    @classmethod
    def choose(cls, scenes: Sequence[str], objects: Sequence[str], name: str = "scene") -> Clusters:
        """Whole scenes where there are enough of them, else the objects in them.

        Args:
            scenes, objects: (N,) of each case; objects are named within their scene.
            name: what a scene is called here.
        """
        names = list(scenes)
        if len(set(names)) < FEWEST_CLUSTERS:
            names, name = [f"{scene} {thing}" for scene, thing in zip(scenes, objects, strict=True)], "object"
        return cls(np.unique(names, return_inverse=True)[1] if names else np.zeros(0, np.int64), name)

    def bootstrap(self, seed: int = 0) -> ClusterBootstrap:
        return ClusterBootstrap(self.index, seed=seed)


def better_in(a: np.ndarray, b: np.ndarray, better: int) -> tuple[int, int]:
    """In how many cases A, and B, does better.

    Args:
        a, b: (N,) one figure of each case; NaN where it does not apply, and such a case counts for neither.
        better: +1 if more is better, -1 if less is.
    """
    return int(((a - b) * better > 0).sum()), int(((b - a) * better > 0).sum())


def difference(
    a: float, b: float, interval: tuple[float, float] | None, won: tuple[int, int], cases: int, better: int
) -> dict:
    """One figure of two models, JSON-ready.

    Args:
        a, b: its values; NaN: nothing was counted.
        interval: 95 % of b - a over drawn clusters; None: it cannot be told.
        won: ``better_in`` of the cases.
        cases: how many there are.
        better: +1 if more is better, -1 if less is.
    """
    if not np.isfinite([a, b]).all() or cases == 0:
        return {"count": 0, "a": None, "b": None, "difference": None, "interval": None, "verdict": NOT_TESTED}
    p = mcnemar(*won)
    verdict = WITHIN_NOISE
    if interval is None:
        verdict = NOT_TESTED
    elif p < _ALPHA and not interval[0] <= 0.0 <= interval[1]:
        verdict = BETTER["B" if (b - a) * better > 0 else "A"]
    return {
        "count": cases,
        "a": a,
        "b": b,
        "difference": b - a,
        "interval": interval,
        "better_in": {"a": won[0], "b": won[1]},
        "p": p,
        "verdict": verdict,
    }


def note(clusters: Clusters, count: int, name: str = "scenes") -> str:
    """What a reader must know of clusters that are not whole scenes; empty where they are."""
    if clusters.of != "object":
        return ""
    if count < FEWEST_CLUSTERS:
        return f"Fewer than {FEWEST_CLUSTERS} {name} and fewer than {FEWEST_CLUSTERS} objects: nothing is tested."
    return f"Fewer than {FEWEST_CLUSTERS} {name}: verdicts hold for these, not for others."
