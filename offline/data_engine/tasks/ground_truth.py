"""The ground-truth point of an object in a view: from its mask alone.

The middle of the mask's tight box if it lies in the mask, else one of the mask's pixels, drawn uniformly
and seeded by (seed, scene, uid, frame).
"""

from __future__ import annotations

import cv2
import numpy as np
from roboref_core.geometry.camera import pixel_to_normalised
from roboref_core.seeds import rng_of

from offline.data_engine.five_frames import mask_box


def ground_truth_pixel(mask: np.ndarray, *seed: str | int, margin: float = 0) -> tuple[int, int]:
    """(u, v) of the point.

    Args:
        mask: (H, W), object where > 0.
        seed: what identifies the view: (seed, scene, uid, frame).
        margin: the middle counts if it is farther than this from the mask's rim, other pixels if three times as far; of
            a mask that is thinner everywhere, the innermost half. The picture's border does not count as rim. 0: the
            published rule.

    Raises:
        ValueError: the mask is empty.
    """
    mask = np.asarray(mask) > 0
    u0, v0, u1, v1 = mask_box(mask)
    u, v = (u0 + u1) // 2, (v0 + v1) // 2
    # The nearest pixel that is not of the mask is never farther than the ring around its box.
    left, top = max(0, u0 - 1), max(0, v0 - 1)
    own = mask[top : v1 + 2, left : u1 + 2]
    inside = _to_the_rim(own) if margin > 0 else own
    allowed = _beyond(inside, margin)
    if allowed[v - top, u - left]:
        return u, v
    if margin > 0:
        # Drawn from a leg or an edge, it needs more room than the middle does.
        allowed = _beyond(inside, 3 * margin)
    rows, columns = np.nonzero(allowed)
    k = int(rng_of("point", *seed).integers(len(rows)))
    return int(columns[k]) + left, int(rows[k]) + top


def _to_the_rim(mask: np.ndarray) -> np.ndarray:
    """(h, w) float32 distance to the nearest pixel that is not of the mask [pixel]."""
    around = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    return cv2.distanceTransform(around, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]


def _beyond(inside: np.ndarray, margin: float) -> np.ndarray:
    """(h, w) bool: farther than ``margin`` from the rim; of what is thinner everywhere, the innermost half."""
    if margin > 0 and inside.max() <= margin:
        return inside >= 0.5 * float(inside.max())
    return inside > margin


def normalised(pixel: tuple[int, int], size: tuple[int, int]) -> tuple[float, float]:
    """(u, v) -> (x, y) in [0, 1] of a picture of ``size`` (width, height): the middle of the pixel."""
    x, y = pixel_to_normalised(np.array(pixel), *size)
    return float(x), float(y)


def innermost_pixel(mask: np.ndarray) -> tuple[int, int]:
    """(u, v) of the pixel farthest from the mask's rim (the first of several). Raises ValueError if it is empty."""
    mask = np.asarray(mask) > 0
    u0, v0, u1, v1 = mask_box(mask)
    own = np.pad(mask[v0 : v1 + 1, u0 : u1 + 1], 1).astype(np.uint8)
    distance = cv2.distanceTransform(own, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    v, u = np.unravel_index(int(np.argmax(distance)), distance.shape)
    return int(u) + u0, int(v) + v0
