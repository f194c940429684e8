"""Vacant places on a support: where something could be put down."""

from __future__ import annotations

import cv2
import numpy as np
from roboref_core.geometry.camera import Camera

_LEVEL = 0.95
"""Cosine of the steepest slope that still is level (18 degrees)."""


def level_pixels(
    depth: np.ndarray,
    camera: Camera,
    T_world_camera: np.ndarray,
    box: tuple[int, int, int, int],
    above: float = -np.inf,
) -> np.ndarray:
    """(H, W) bool: where the rendered surface faces up, from differences between neighbouring pixels.

    Args:
        depth: (H, W) rendered depth [m], 0 = no surface.
        T_world_camera: of the picture, world z up.
        box: (u0, v0, u1, v1), ends inclusive, of the part that is asked for; False elsewhere.
        above: height in the world below which nothing counts [m].
    """
    whole = np.zeros(depth.shape, dtype=bool)
    u0, v0, u1, v1 = box
    depth = depth[v0 : v1 + 1, u0 : u1 + 1]
    h, w = depth.shape
    if min(h, w) < 3:
        return whole
    v, u = np.mgrid[v0 : v1 + 1, u0 : u1 + 1]
    points = np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones((h, w))], axis=-1)
    points = ((points * depth[..., None]) @ T_world_camera[:3, :3].T).astype(np.float32)
    right, down = points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1]
    normal = np.cross(right, down)
    up = np.abs(normal[..., 2]) / np.maximum(np.linalg.norm(normal, axis=-1), 1e-12)
    level = np.zeros((h, w), dtype=bool)
    around = (depth[1:-1, 2:] > 0) & (depth[1:-1, :-2] > 0) & (depth[2:, 1:-1] > 0) & (depth[:-2, 1:-1] > 0)
    high = points[1:-1, 1:-1, 2] + T_world_camera[2, 3] >= above
    level[1:-1, 1:-1] = (up > _LEVEL) & high & around & (depth[1:-1, 1:-1] > 0)
    whole[v0 : v1 + 1, u0 : u1 + 1] = level
    return whole


def vacant(mask: np.ndarray, level: np.ndarray, confirmed: np.ndarray, clearance: int) -> np.ndarray:
    """(H, W) bool: level parts of a support's top where nothing stands, seen by the sensor too.

    Args:
        mask: the support's visible pixels; what stands on it is not among them.
        level: from ``level_pixels``.
        confirmed: where the sensor measured the support.
        clearance: distance from every edge and object [pixel].
    """
    # Single pixels without depth do not make a surface occupied.
    kernel = np.ones((5, 5), np.uint8)
    measured = cv2.morphologyEx(confirmed.astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    free = (mask & level & (measured > 0)).astype(np.uint8)
    free = cv2.morphologyEx(free, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)) & mask
    inside = cv2.distanceTransform(np.pad(free, 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    return inside > clearance
