"""Confidence intervals of what the evaluation counts, and tests of paired differences.

Samples of one scene share its rooms, objects and light, so they are not independent: intervals that count
samples (Wilson) are too narrow where scenes differ. The cluster bootstrap draws whole scenes instead.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr

Z_95 = 1.959963984540054
REPLICATES = 1000
# A handful of scenes, drawn again and again, looks more alike than new scenes would.
FEWEST_CLUSTERS = 5


def wilson(hits: int, total: int) -> tuple[float, float]:
    """Wilson score interval of a share (Wilson 1927); (0, 1) where nothing was counted."""
    if not 0 <= hits <= total:
        raise ValueError(f"expected 0 <= hits <= total, found {hits} of {total}")
    if total == 0:
        return 0.0, 1.0
    p, z = hits / total, Z_95
    centre = p + z * z / (2 * total)
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max((centre - half) / scale, 0.0), min((centre + half) / scale, 1.0)


@dataclass(frozen=True)
class Share:
    """A count of successes with its 95 % Wilson interval; ``value`` is None where nothing was counted."""

    hits: int
    total: int

    @property
    def value(self) -> float | None:
        return self.hits / self.total if self.total else None

    def to_json(self) -> dict:
        low, high = wilson(self.hits, self.total)
        return {"hits": self.hits, "total": self.total, "value": self.value, "low": low, "high": high}


class ClusterBootstrap:
    """Resampling of whole clusters with replacement (Davison & Hinkley 1997, section 3.8).

    Statistics are functions of sums over samples (shares, means, F1, ...), so that a replicate costs one
    row of a matrix product whatever the number of samples.

    Args:
        clusters: (N,) cluster index of each sample, 0..C-1.
        replicates: number of draws.
        seed: seed of the draws; they depend on it and on C only, so that two runs over the same samples are paired.
    """

    def __init__(self, clusters: np.ndarray, replicates: int = REPLICATES, seed: int = 0):
        self._clusters = np.asarray(clusters, dtype=np.int64)
        self.count = int(self._clusters.max()) + 1 if len(self._clusters) else 0
        digest = hashlib.sha256(f"cluster bootstrap {seed} {self.count}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
        chances = np.full(self.count, 1.0 / max(self.count, 1))
        self._weights = rng.multinomial(self.count, chances, size=replicates).astype(np.float64)

    def sums(self, columns: np.ndarray, chosen: np.ndarray | None = None) -> np.ndarray:
        """(N, K) columns -> (R, K) their sums over each of R replicates.

        Args:
            chosen: (N,) bool, the samples that count; None: all.
        """
        clusters = self._clusters if chosen is None else self._clusters[chosen]
        columns = columns if chosen is None else columns[chosen]
        per_cluster = np.zeros((self.count, columns.shape[1]))
        for k in range(columns.shape[1]):
            per_cluster[:, k] = np.bincount(clusters, columns[:, k], minlength=self.count)
        return self.replicate(per_cluster)

    def replicate(self, per_cluster: np.ndarray) -> np.ndarray:
        """(C, K) sums of each cluster -> (R, K) their sums over each replicate."""
        return self._weights @ per_cluster

    def interval(self, replicates: np.ndarray) -> tuple[float, float] | None:
        """95 % percentile interval of a statistic's replicates.

        None if it cannot be told: fewer than five clusters, or most draws lack a case.
        """
        finite = replicates[np.isfinite(replicates)]
        if self.count < FEWEST_CLUSTERS or len(finite) < max(20, len(self._weights) // 2):
            return None
        low, high = np.percentile(finite, (2.5, 97.5))
        return float(low), float(high)

    def difference(
        self,
        a: np.ndarray,
        b: np.ndarray,
        statistic: Callable[[np.ndarray], np.ndarray],
        chosen: np.ndarray | None = None,
    ) -> tuple[float, float] | None:
        """95 % interval of statistic(sums of a) - statistic(sums of b), both over the same drawn scenes."""
        return self.interval(statistic(self.sums(a, chosen)) - statistic(self.sums(b, chosen)))


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p of McNemar's test (1947): samples that only A, and only B, got right.

    It takes samples as independent; where scenes cluster, read the bootstrap's interval first.
    """
    if only_a < 0 or only_b < 0:
        raise ValueError(f"counts of discordant samples must not be negative, found {only_a} and {only_b}")
    # Under equal chances the two tails are alike.
    return min(1.0, 2.0 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))
