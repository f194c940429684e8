"""Do camera poses agree with what the camera sees? The surfaces of overlapping keyframes say so, without a question."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from roboref_core.referring.registered import FEATURES
from roboref_core.views.registration import Registrar
from roboref_core.views.view import ImageError, View

_BEYOND_NOISE = 1.8
"""Residuals beyond this many times what the sensor's noise explains are errors of poses. Procedural rooms with a
structured-light sensor have 0.6 to 0.8 times in exact poses, 1.6 to 2.8 with poses off by 1 cm and half a degree, and
2.5 to 5.6 with 2 cm and 1 degree."""


@dataclass(frozen=True)
class PoseResidual:
    """Attributes:
    residual: median distance between the surfaces of two keyframes in their stated poses, over all pairs [m].
    expected: what the noise of the depth sensor explains of it [m].
    pairs: of keyframes that were compared; without any the others are NaN.
    """

    residual: float = float("nan")
    expected: float = float("nan")
    pairs: int = 0

    @property
    def poses_disagree(self) -> bool:
        return self.pairs > 0 and self.residual > _BEYOND_NOISE * self.expected


def pose_residual(views: Iterable[View], registrar: Registrar | None = None) -> PoseResidual:
    """Compare each view with the next one; views without pose, depth or overlap, or with broken images, say nothing."""
    registrar = registrar or Registrar(cache=FEATURES)
    residuals, noises = [], []
    for earlier, later in pairwise(views):
        try:
            residual, noise = registrar.residual((earlier, later)), registrar.noise(later)
        except ImageError:
            continue  # Who asks about the view is told.
        if np.isfinite(residual) and np.isfinite(noise):
            residuals.append(residual)
            noises.append(noise)
    if not residuals:
        return PoseResidual()
    return PoseResidual(float(np.median(residuals)), float(np.median(noises)), len(residuals))
