"""Is the surface around a pixel flat, and which way does it face? For grasping and placing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from roboref_core.geometry.camera import map_pixels
from roboref_core.views.locate import LocateConfig
from roboref_core.views.view import View, valid_depth

_ROUNDS, _OUTLIER = 4, 3.0
"""Rounds of the fit, and how many standard deviations from the plane are another surface."""
_SHARE = 0.7
"""Share of the patch that must be measured and lie on the plane."""
_SLACK = 0.001
"""Unevenness beyond the sensor's noise that still counts as flat [m]."""
_GRAZING = 0.17
"""Least cosine between the normal and the line of sight: depth along a surface seen edge-on says little."""


@dataclass(frozen=True, eq=False)
class Plane:
    """A flat patch of surface.

    Attributes:
        normal: (3,) unit vector in the view's optical frame, towards the camera.
        spread: standard deviation of depth around the plane [m].
    """

    normal: np.ndarray
    spread: float


def flat_around(view: View, pixel: ArrayLike, radius: int = 8, config: LocateConfig | None = None) -> Plane | None:
    """The plane around ``pixel`` (u, v) of the view's colour image; None where it is not flat or depth does not tell.

    Args:
        radius: half the side of the patch [pixel of the depth image].
    """
    config = config or LocateConfig()
    depth = view.depth if view.has_depth else None
    if depth is None:
        return None
    u, v = np.round(map_pixels(np.asarray(pixel, dtype=np.float64).reshape(1, 2), view.camera, view.depth_camera)[0])
    rows, columns = depth.shape
    if not (radius <= u < columns - radius and radius <= v < rows - radius):
        return None
    grid_v, grid_u = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    pixels = np.stack([grid_u.ravel() + u, grid_v.ravel() + v], axis=1)
    z = depth[pixels[:, 1].astype(np.int64), pixels[:, 0].astype(np.int64)].astype(np.float64)
    measured = valid_depth(z) & (z >= config.min_depth) & (z <= config.max_depth)
    if measured.mean() < _SHARE or not measured[len(z) // 2]:
        return None
    rays = view.depth_camera.rays(pixels)
    # On the plane n . p = 1, where p = z * ray: inverse depth is linear in the ray.
    on, n, residual = measured, np.zeros(3), np.zeros(len(z))
    for _ in range(_ROUNDS):
        n = np.linalg.lstsq(rays[on], 1.0 / z[on], rcond=None)[0]
        inverse = rays @ n
        residual = np.where(measured & (inverse > 0), z - 1.0 / np.where(inverse > 0, inverse, 1.0), np.inf)
        sigma = max(1.4826 * float(np.median(np.abs(residual[on]))), 1e-5)
        on = np.abs(residual) <= _OUTLIER * sigma
        if on.mean() < _SHARE or not on[len(z) // 2]:
            return None
    spread = float(np.sqrt(np.mean(residual[on] ** 2)))
    normal = -n / np.linalg.norm(n)
    sight = rays[len(z) // 2] / np.linalg.norm(rays[len(z) // 2])
    if spread > config.sensor_sigma(float(z[len(z) // 2])) + _SLACK or -normal @ sight < _GRAZING:
        return None
    return Plane(normal, spread)
