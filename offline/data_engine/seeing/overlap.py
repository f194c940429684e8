"""How much of the same surface do frames see? Sets of visible sample points as bits, compared by population count."""

from __future__ import annotations

import numba
import numpy as np


def overlap_matrix(seen: np.ndarray) -> np.ndarray:
    """Intersection over union of what every pair of frames sees.

    Args:
        seen: (N, W) uint64, one bit per sample point (``PointCounter.count``).

    Returns:
        (N, N) float32, symmetric, 1 on the diagonal; 0 for a pair that sees nothing.
    """
    common = _common(np.ascontiguousarray(seen))
    sizes = np.diag(common)
    union = sizes[:, None] + sizes[None] - common
    overlap = np.divide(common, union, out=np.zeros(common.shape, np.float32), where=union > 0, casting="unsafe")
    np.fill_diagonal(overlap, 1.0)
    return overlap


@numba.njit(cache=True)
def _population(x):
    """Set bits of a uint64, by adding neighbouring fields (Warren, Hacker's Delight); compiles to popcnt."""
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (x * np.uint64(0x0101010101010101)) >> np.uint64(56)


@numba.njit(cache=True)
def _common(seen):
    n, words = seen.shape
    out = np.zeros((n, n), np.int64)
    for i in range(n):
        for j in range(i + 1):
            count = np.uint64(0)
            for k in range(words):
                count += _population(seen[i, k] & seen[j, k])
            out[i, j] = out[j, i] = np.int64(count)
    return out
