"""Is a 3D point visible in a view? Names, not booleans: a sensor hole is neither yes nor no."""
from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from roboref_core.pose import inverse, transform
from roboref_core.view import View


class Visibility(Enum):
    """Of a point, or of an object, in one view."""

    VISIBLE = "visible"
    OUT_OF_FRUSTUM = "out_of_frustum"
    OCCLUDED = "occluded"
    UNKNOWN = "unknown"
    """The sensor has no depth there."""
    CONFLICT = "conflict"
    """The sensor looks through where the surface should be: it moved, or a pose is wrong."""


@dataclass(frozen=True)
class DepthTolerance:
    """|difference| <= a + b * depth still counts as the same surface [m, m/m].

    The defaults cover pose and mesh error (about 1.6 cm MAD on real Kinect frames, which dominates the
    sensor's own 1.2 mm + 1.9 mm/m^2 (z - 0.4)^2; Nguyen et al. 2012).
    """

    a: float = 0.03
    b: float = 0.02

    def at(self, depth):
        return self.a + self.b * depth
