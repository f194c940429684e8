"""The one rule of Hit@Mask: which pixel a point lies in, and whether the mask has it."""

from __future__ import annotations

import numpy as np


def on_mask(mask: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Whether points lie on a mask. The outer half of an edge pixel belongs to the picture: its far corner is a hit of
    the last pixel.

    Args:
        mask: (H, W) bool.
        points: (..., 2) from the picture's upper left corner [pixel]: normalised coordinates times (W, H), or pixel
            coordinates (centres at integers) plus one half. NaN and points outside count as misses.

    Returns:
        (...,) bool.
    """
    size = mask.shape[::-1]
    inside = ((points >= 0.0) & (points <= size)).all(axis=-1)
    hit = np.zeros(points.shape[:-1], dtype=bool)
    cells = np.minimum(np.floor(points[inside]), np.subtract(size, 1)).astype(int)
    hit[inside] = mask[cells[:, 1], cells[:, 0]]
    return hit
