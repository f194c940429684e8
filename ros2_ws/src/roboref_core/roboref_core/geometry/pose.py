"""Rigid motions SE(3) as 4x4 float64 matrices; ``T_a_b`` maps points of frame b into frame a (REP-103, REP-105)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

# Few numbers, as a list, a tuple or an array.
Vector: TypeAlias = Sequence[float] | np.ndarray
# Largest error of a rotation that rounding explains.
_ROUNDED = 1e-3


def pose(rotation: np.ndarray, translation: Vector) -> np.ndarray:
    """(3, 3) rotation and (3,) translation [m] -> 4x4."""
    T = np.eye(4)
    T[:3, :3] = rotation
    T[:3, 3] = translation
    return T


def inverse(T_a_b: np.ndarray) -> np.ndarray:
    """T_b_a, exact for a rigid motion."""
    R = T_a_b[:3, :3]
    return pose(R.T, -R.T @ T_a_b[:3, 3])


def transform(T_a_b: np.ndarray, points_b: np.ndarray) -> np.ndarray:
    """(..., 3) points of frame b -> the same points in frame a."""
    return np.asarray(points_b) @ T_a_b[:3, :3].T + T_a_b[:3, 3]


def orthonormalise(T: np.ndarray, *, where: str = "pose") -> np.ndarray:
    """The nearest rigid motion to ``T``, whose rotation was rounded to float32 or to printed decimals.

    Raises ValueError naming ``where`` if ``T`` is not finite, not 4x4 or further than 1e-3
    (largest entry of R R^T - I) from a rotation: such a matrix is wrong, not rounded.
    """
    T = np.asarray(T, dtype=np.float64)
    if T.shape != (4, 4) or not np.isfinite(T).all():
        raise ValueError(f"{where}: expected a finite 4x4 matrix, found shape {T.shape} with {T.tolist()}")
    if not np.allclose(T[3], (0, 0, 0, 1), atol=_ROUNDED):
        raise ValueError(f"{where}: last row must be 0 0 0 1, found {T[3].tolist()}")
    R = T[:3, :3]
    error = np.abs(R @ R.T - np.eye(3)).max()
    if error > _ROUNDED or np.linalg.det(R) <= 0:
        raise ValueError(
            f"{where}: not a rotation (R R^T differs from I by {error:.3g}, det {np.linalg.det(R):.3g}, "
            f"expected below {_ROUNDED:g} and 1)"
        )
    u, _, vt = np.linalg.svd(R)
    return pose(u @ vt, T[:3, 3])


def from_quaternion(xyzw: Vector, translation: Vector = (0, 0, 0)) -> np.ndarray:
    """Quaternion in ROS order (x, y, z, w), normalised here, and translation [m] -> 4x4."""
    q = np.asarray(xyzw, dtype=np.float64)
    norm = np.linalg.norm(q)
    if q.shape != (4,) or not np.isfinite(q).all() or norm < 1e-6:
        raise ValueError(f"expected a quaternion x y z w of non-zero norm, found {q.tolist()}")
    if not np.isfinite(np.asarray(translation, dtype=np.float64)).all():
        raise ValueError(f"expected a finite translation, found {list(translation)}")
    x, y, z, w = q / norm
    R = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return pose(np.array(R), translation)


def to_quaternion(T: np.ndarray) -> np.ndarray:
    """Rotation of ``T`` as (x, y, z, w) with w >= 0 (Shepperd's method, stable for every angle)."""
    R = T[:3, :3]
    trace = np.trace(R)
    i = int(np.argmax([R[0, 0], R[1, 1], R[2, 2], trace]))
    if i == 3:
        q = np.array([R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1], 1 + trace])
    else:
        j, k = (i + 1) % 3, (i + 2) % 3
        q = np.empty(4)
        q[i] = 1 + 2 * R[i, i] - trace
        q[j] = R[i, j] + R[j, i]
        q[k] = R[i, k] + R[k, i]
        q[3] = R[k, j] - R[j, k]
    q /= np.linalg.norm(q)
    return q if q[3] >= 0 else -q


def rotation_angle(T: np.ndarray) -> float:
    """Angle of the rotation of ``T`` in [0, pi] [rad]."""
    q = to_quaternion(T)
    return float(2 * np.arctan2(np.linalg.norm(q[:3]), abs(q[3])))


def interpolate(T_0: np.ndarray, T_1: np.ndarray, fraction: float) -> np.ndarray:
    """Pose at ``fraction`` of the way: linear in translation, slerp in rotation (shortest way)."""
    q0, q1 = to_quaternion(T_0), to_quaternion(T_1)
    dot = float(q0 @ q1)
    if dot < 0:
        q1, dot = -q1, -dot
    angle = np.arccos(min(dot, 1.0))
    if angle < 1e-9:
        q = q0 + fraction * (q1 - q0)
    else:
        q = (np.sin((1 - fraction) * angle) * q0 + np.sin(fraction * angle) * q1) / np.sin(angle)
    t = (1 - fraction) * T_0[:3, 3] + fraction * T_1[:3, 3]
    return from_quaternion(q, t)


def look_at(eye: Vector, target: Vector, up: Vector = (0, 0, 1)) -> np.ndarray:
    """T_world_camera of an optical frame at ``eye`` that looks at ``target``, the picture's top towards ``up``."""
    eye, target, up = np.asarray(eye, float), np.asarray(target, float), np.asarray(up, float)
    z = target - eye
    z = z / np.linalg.norm(z)
    x = np.cross(z, up)
    if np.linalg.norm(x) < 1e-9:
        raise ValueError(f"cannot look along the up direction: eye {eye.tolist()}, target {target.tolist()}")
    x /= np.linalg.norm(x)
    return pose(np.stack([x, np.cross(z, x), z], axis=1), eye)


def exponential(twist: np.ndarray) -> np.ndarray:
    """(6,) twist (translation [m], rotation vector [rad]) -> 4x4; the inverse of ``logarithm``."""
    rho, phi = np.asarray(twist[:3], dtype=np.float64), np.asarray(twist[3:], dtype=np.float64)
    angle = float(np.linalg.norm(phi))
    K = skew(phi)
    if angle < 1e-8:
        return pose(np.eye(3) + K, rho + K @ rho / 2)
    a, b = np.sin(angle) / angle, (1 - np.cos(angle)) / angle**2
    V = np.eye(3) + b * K + (1 - a) / angle**2 * K @ K
    return pose(np.eye(3) + a * K + b * K @ K, V @ rho)


def logarithm(T: np.ndarray) -> np.ndarray:
    """4x4 -> (6,) twist (translation [m], rotation vector [rad]), for rotations below pi."""
    q = to_quaternion(T)
    norm = float(np.linalg.norm(q[:3]))
    phi = 2 * q[:3] if norm < 1e-12 else q[:3] / norm * 2 * np.arctan2(norm, q[3])
    angle = float(np.linalg.norm(phi))
    K = skew(phi)
    if angle < 1e-8:
        return np.concatenate([T[:3, 3] - K @ T[:3, 3] / 2, phi])
    c = 1 / angle**2 - (1 + np.cos(angle)) / (2 * angle * np.sin(angle))
    return np.concatenate([(np.eye(3) - K / 2 + c * K @ K) @ T[:3, 3], phi])


def skew(v: np.ndarray) -> np.ndarray:
    """(3,) -> (3, 3) matrix of the cross product v x ."""
    x, y, z = v
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def adjoint(T_a_b: np.ndarray) -> np.ndarray:
    """(6, 6) that carries a twist of frame b into frame a."""
    R, t = T_a_b[:3, :3], T_a_b[:3, 3]
    return np.block([[R, skew(t) @ R], [np.zeros((3, 3)), R]])


def carried_covariance(point: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """(3, 3) covariance [m^2] that a (6, 6) error of a pose, as a twist in the frame of ``point``, gives to it."""
    J = np.hstack([np.eye(3), -skew(point)])
    return J @ covariance @ J.T
