"""The viewing ray of every pixel of a camera, computed once per camera."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from roboref_core.geometry.camera import Camera


def ray_table(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Viewing directions with z = 1: x and y, each (H, W) float64; NaN where the lens gives a pixel no ray."""
    u, v = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    rays = camera.rays(np.stack([u.ravel(), v.ravel()], axis=1)).reshape(camera.height, camera.width, 3)
    return np.ascontiguousarray(rays[..., 0]), np.ascontiguousarray(rays[..., 1])


cached_ray_table = lru_cache(maxsize=16)(ray_table)
