"""Confidence intervals of what the evaluation counts."""

from __future__ import annotations

import math

Z_95 = 1.959963984540054


def wilson(hits: int, total: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson score interval of a share (Wilson 1927); (0, 1) where nothing was counted."""
    if not 0 <= hits <= total:
        raise ValueError(f"expected 0 <= hits <= total, found {hits} of {total}")
    if total == 0:
        return 0.0, 1.0
    p = hits / total
    centre = p + z * z / (2 * total)
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max((centre - half) / scale, 0.0), min((centre + half) / scale, 1.0)
