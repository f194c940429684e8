"""Noise and holes on depth images of any source, recordings too. (``noise`` models a sensor that sees exact depth.)"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from roboref_core.views.view import valid_depth

# Width of a hole, as a share of the picture's.
_HOLE = 1 / 20


@dataclass(frozen=True)
class DepthDefects:
    """What is wrong with depth.

    Attributes:
        noise: standard deviation at 1 m; it grows with the square of the distance, as a triangulating sensor's [m].
        holes: share of the picture without measurement, in patches of about a twentieth of its width.
    """

    noise: float = 0.0
    holes: float = 0.0

    def __post_init__(self):
        if not (self.noise >= 0 and 0 <= self.holes < 1):
            raise ValueError(
                f"depth noise must not be negative and holes be in [0, 1), found {self.noise} m and {self.holes}"
            )

    def __bool__(self) -> bool:
        return self.noise > 0 or self.holes > 0

    def __call__(self, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(h, w) float32 depth [m] -> the same with defects, 0 = no measurement. ``rng`` decides everything random."""
        measured = np.where(valid_depth(depth), depth, 0).astype(np.float32)
        if self.noise:
            measured += np.float32(self.noise) * measured**2 * rng.standard_normal(depth.shape, dtype=np.float32)
        if self.holes:
            sigma = max(depth.shape[1] * _HOLE / 4, 0.5)
            field = cv2.GaussianBlur(rng.standard_normal(depth.shape, dtype=np.float32), (0, 0), sigma)
            measured[field < np.quantile(field, self.holes)] = 0
        return np.maximum(measured, 0)
