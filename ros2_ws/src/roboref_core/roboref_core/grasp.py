"""Poses at a target: facing it for docking, along a surface's normal for grasping."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from roboref_core.approach import facing
from roboref_core.geometry.pose import pose

_ALONG_UP = 0.99
"""A direction whose upward share is more than this counts as vertical."""


def target_pose(target: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """4x4 at ``target``: z up, x from the camera to the target over the floor.

    Args:
        target, camera: (3,) positions in a frame whose z is up [m]. From straight above, x is the frame's own.
    """
    T = facing(np.asarray(camera)[:2], np.asarray(target)[:2])
    return pose(T[:3, :3], (float(target[0]), float(target[1]), float(target[2])))


def yaw_variance(target: np.ndarray, camera: np.ndarray, covariance: np.ndarray) -> float:
    """Variance of ``target_pose``'s heading that follows from the target's covariance [rad^2]; at most that of no
    knowledge, (pi^2) / 3.

    Args:
        covariance: (3, 3) of ``target`` in the same frame [m^2].
    """
    x, y = np.asarray(target, dtype=np.float64)[:2] - np.asarray(camera, dtype=np.float64)[:2]
    distance2 = float(x * x + y * y)
    unknown = np.pi**2 / 3
    if distance2 < 1e-12:
        return unknown
    across = np.array([-y, x]) / np.sqrt(distance2)
    return float(min(across @ np.asarray(covariance)[:2, :2] @ across / distance2, unknown))


class Grasp(NamedTuple):
    """4x4 poses of a gripper whose z axis is its approach direction: before the surface, and at it."""

    T_frame_before: np.ndarray
    T_frame_at: np.ndarray


def grasp_along_normal(
    point: np.ndarray, normal: np.ndarray, distance: float = 0.10, tool: float = 0.0, roll: float = 0.0
) -> Grasp:
    """A grasp that approaches a surface straight along its normal.

    The gripper's z axis goes into the surface. Its y axis, along which the fingers of common grippers close, is
    horizontal; on a horizontal surface it is the frame's y.

    Args:
        point: (3,) on the surface, in a frame whose z is up [m].
        normal: (3,) of the surface, outwards; of any length but zero.
        distance: from the pre-grasp to the grasp [m].
        tool: from the gripper's frame to its fingertips [m]: the grasp's frame keeps so far off the surface.
        roll: roll of the gripper around its approach direction [rad].

    Raises ValueError for a normal that is zero or not finite, and for a negative distance.
    """
    point, normal = np.asarray(point, dtype=np.float64), np.asarray(normal, dtype=np.float64)
    length = float(np.linalg.norm(normal))
    if not (np.isfinite(point).all() and np.isfinite(length) and length > 1e-9):
        raise ValueError(f"expected a finite point and a normal that is not zero, found {point} and {normal}")
    if distance < 0:
        raise ValueError(f"the pre-grasp lies before the grasp: expected distance >= 0, found {distance}")
    outwards = normal / length
    approach = -outwards
    across = np.array([0.0, 1.0, 0.0]) if abs(outwards[2]) > _ALONG_UP else np.cross([0.0, 0.0, 1.0], approach)
    y = across - (across @ approach) * approach
    y /= np.linalg.norm(y)
    x = np.cross(y, approach)
    c, s = np.cos(roll), np.sin(roll)
    axes = np.stack([c * x + s * y, c * y - s * x, approach], axis=1)
    at = point + tool * outwards
    return Grasp(pose(axes, at + distance * outwards), pose(axes, at))
