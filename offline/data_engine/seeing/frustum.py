"""Which objects could be in which pictures: bounding boxes against view frustums, before any byte is decoded."""

from __future__ import annotations

import numpy as np
from roboref_core.geometry.camera import Camera

_CHUNK = 256


def candidates(
    poses: np.ndarray, camera: Camera, lower: np.ndarray, upper: np.ndarray, *, far: float = np.inf, margin: float = 0.0
) -> np.ndarray:
    """Conservative cull: False only where a box is certainly outside the picture.

    Args:
        poses: (N, 4, 4) T_world_camera; a row that is not finite sees nothing.
        camera: without distortion.
        lower, upper: (O, 3) axis-aligned boxes in the world frame [m].
        far: boxes beyond this depth are outside [m].
        margin: the picture is taken this much larger on every side [pixel].

    Returns:
        (N, O) bool.
    """
    k = np.arange(8)[:, None] >> np.arange(3) & 1
    corners = np.where(k[None], upper[:, None], lower[:, None])  # (O, 8, 3)
    # Inside a side plane of the frustum: normal . p >= 0 in the camera frame.
    left, right = camera.cx + 0.5 + margin, camera.width - 0.5 - camera.cx + margin
    top, bottom = camera.cy + 0.5 + margin, camera.height - 0.5 - camera.cy + margin
    normals = np.array(
        [[camera.fx, 0, left], [-camera.fx, 0, right], [0, camera.fy, top], [0, -camera.fy, bottom], [0, 0, 1]]
    )
    seen = np.zeros((len(poses), len(lower)), dtype=bool)
    finite = np.flatnonzero(np.isfinite(poses).all(axis=(1, 2)))
    for start in range(0, len(finite), _CHUNK):
        rows = finite[start : start + _CHUNK]
        R, t = poses[rows, :3, :3], poses[rows, :3, 3]
        planes = np.einsum("ka,nba->nkb", normals, R)  # world normals
        offset = np.einsum("nkb,nb->nk", planes, t)
        side = np.einsum("nkb,ocb->nkoc", planes, corners) - offset[:, :, None, None]
        inside = (side >= 0).any(axis=3).all(axis=1)
        if np.isfinite(far):
            inside &= side[:, 4].min(axis=2) <= far
        seen[rows] = inside
    return seen
