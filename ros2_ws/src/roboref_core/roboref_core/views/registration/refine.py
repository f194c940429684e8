"""Least squares on a relative pose: surface on surface, keypoints on keypoints, and the stated pose as a prior."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import exponential, inverse, logarithm, transform
from roboref_core.views.registration.features import Surface

# Keypoints are found to about this much [pixel of a 640 pixels wide picture].
_PIXEL_SIGMA = 1.0
# Neighbouring depths share their error: so many points of a surface speak independently.
_INDEPENDENT = 150
_INDEPENDENT_KEYPOINTS = 50
# Distances of surfaces are never better known than this [m]: alignment and calibration of the sensor.
_DISTANCE_FLOOR = 0.0015
# Gates of successive rounds [m]; the first follows the stated error.
_GATES = (0.12, 0.06, 0.04)
_ROUNDS_PER_GATE = 4


@dataclass(frozen=True, eq=False)
class Keypoints:
    """Matched keypoints: (I, 3) points of the reference [m] and the (I, 2) rays x/z, y/z of the query they fall on."""

    points: np.ndarray
    rays: np.ndarray
    focal: float
    sigma: float = _PIXEL_SIGMA


@dataclass(frozen=True, eq=False)
class Refined:
    """Attributes:
    T: 4x4 T_query_reference.
    information: (6, 6) of its error as a twist in the query's frame, prior included.
    measured: (6, 6) what the pictures alone contribute.
    pairs: surface points that found a partner in the last round.
    residual: median distance of those [m].
    """

    T: np.ndarray
    information: np.ndarray
    measured: np.ndarray
    pairs: int
    residual: float


def refine(
    T: np.ndarray,
    reference: Surface | None,
    query: Surface | None,
    keypoints: Keypoints | None,
    T_prior: np.ndarray | None,
    prior: np.ndarray | None,
    first_gate: float,
) -> Refined:
    """Gauss-Newton from ``T`` with Cauchy weights, from a wide gate to a narrow one.

    Args:
        T_prior, prior: the stated 4x4 T_query_reference and its (6, 6) information; None: nothing was stated.
        first_gate: distance within which surfaces are matched in the first rounds [m].
    """
    widest = max(first_gate, _GATES[0])
    gates = [gate for gate in (4 * _GATES[0], 2 * _GATES[0]) if gate < widest]
    gates = [widest, *gates, *_GATES] if widest > _GATES[0] else list(_GATES)
    measured, total, pairs, residual = np.zeros((6, 6)), np.zeros((6, 6)), 0, float("nan")
    surfaces = reference is not None and query is not None
    for gate in gates:
        for _ in range(_ROUNDS_PER_GATE):
            H, g = np.zeros((6, 6)), np.zeros(6)
            if surfaces:
                assert reference is not None and query is not None
                pairs, residual = _add_surfaces(H, g, T, reference, query, gate)
            if keypoints is not None:
                _add_keypoints(H, g, T, keypoints)
            measured, total = H.copy(), H
            if prior is not None and T_prior is not None:
                total = H + prior
                g = g - prior @ logarithm(T @ inverse(T_prior))
            # Directions that nothing constrains stay where they are.
            step = np.linalg.lstsq(total + 1e-9 * np.eye(6), g, rcond=None)[0]
            T = exponential(step) @ T
            if np.linalg.norm(step) < 1e-5:
                break
    return Refined(T, total, measured, pairs, residual)


def _add_surfaces(
    H: np.ndarray, g: np.ndarray, T: np.ndarray, reference: Surface, query: Surface, gate: float
) -> tuple[int, float]:
    """Point-to-plane distances of the reference's points to the query's surface they project on."""
    points = transform(T, reference.points)
    target, normals, rows = associate(points, query)
    points = points[rows]
    offset = target - points
    distance = (normals * offset).sum(axis=1)
    close = (np.abs(distance) < gate) & ((offset**2).sum(axis=1) < (2.5 * gate) ** 2)
    if close.sum() < 30:
        return int(close.sum()), float("nan")
    points, normals, distance = points[close], normals[close], distance[close]
    scale = 1.4826 * float(np.median(np.abs(distance)))
    # The sensor's axial noise grows with the square of the distance.
    sigma = np.hypot(_DISTANCE_FLOOR + 0.0019 * (points[:, 2] - 0.4) ** 2, _DISTANCE_FLOOR)
    sigma = np.maximum(sigma, min(scale, gate / 3))
    weight = 1.0 / (1.0 + (distance / (2.0 * sigma)) ** 2) / sigma**2
    weight *= min(1.0, _INDEPENDENT / len(points))
    J = np.concatenate([normals, np.cross(points, normals)], axis=1)
    H += (J * weight[:, None]).T @ J
    g += J.T @ (weight * distance)
    return len(points), float(np.median(np.abs(distance)))


def associate(points: np.ndarray, surface: Surface) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Surface points and normals that (N, 3) points of the surface's frame project on, and which of the points do."""
    camera = surface.camera
    pixels = np.nan_to_num(camera.project(points), nan=-9.0)
    u, v = np.rint(pixels).astype(np.int64).T
    inside = np.flatnonzero((u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height))
    target = surface.vertices[v[inside], u[inside]]
    normals = surface.normals[v[inside], u[inside]]
    known = np.isfinite(normals[:, 0])
    return target[known].astype(np.float64), normals[known].astype(np.float64), inside[known]


def _add_keypoints(H: np.ndarray, g: np.ndarray, T: np.ndarray, keypoints: Keypoints) -> None:
    """Reprojection errors of matched keypoints."""
    p = transform(T, keypoints.points)
    good = p[:, 2] > 0.05
    p, rays = p[good], keypoints.rays[good]
    if len(p) == 0:
        return
    x, y, z = p.T
    error = keypoints.focal * (rays - p[:, :2] / z[:, None])
    # The residuals tell how exact keypoints, their depth and the calibration are; errors that neighbours share remain.
    squared = (error**2).sum(axis=1)
    sigma = max(keypoints.sigma, float(np.sqrt(np.median(squared) / 1.386)))
    weight = 1.0 / (1.0 + squared / (3.0 * sigma) ** 2) / sigma**2 * min(1.0, _INDEPENDENT_KEYPOINTS / len(p))
    zero = np.zeros_like(z)
    projection = keypoints.focal * np.stack(
        [np.stack([1 / z, zero, -x / z**2], axis=1), np.stack([zero, 1 / z, -y / z**2], axis=1)], axis=1
    )
    turning = np.stack(
        [
            np.stack([zero, z, -y], axis=1),
            np.stack([-z, zero, x], axis=1),
            np.stack([y, -x, zero], axis=1),
        ],
        axis=1,
    )
    J = np.concatenate([projection, projection @ turning], axis=2)
    H += np.einsum("nki,n,nkj->ij", J, weight, J)
    g += np.einsum("nki,n,nk->i", J, weight, error)


def agreement(T: np.ndarray, reference: Surface, query: Surface) -> tuple[float, int]:
    """Share of the reference's points that lie on the query's surface, and how many could be compared.

    A point well behind the surface is hidden and says nothing; one before it was looked through and disagrees.
    """
    points = transform(T, reference.points)
    camera = query.camera
    pixels = np.nan_to_num(camera.project(points), nan=-9.0)
    u, v = np.rint(pixels).astype(np.int64).T
    inside = (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
    z = query.vertices[v[inside], u[inside], 2]
    behind = points[inside, 2] - z
    limit = 0.02 + 0.01 * z
    known = np.isfinite(z) & (behind < 0.25)
    count = int(known.sum())
    return (float((np.abs(behind[known]) < limit[known]).mean()) if count else 0.0), count


def disagreement(T: np.ndarray, reference: Surface, query: Surface) -> float:
    """Median distance of the reference's points from the query's surface they project on [m]; NaN without overlap.

    Points more than half a metre off are hidden or looked through.
    """
    points = transform(T, reference.points)
    target, normals, rows = associate(points, query)
    distance = np.abs((normals * (target - points[rows])).sum(axis=1))
    near = distance[distance < 0.5]
    return float(np.median(near)) if len(near) >= 100 else float("nan")


def keypoints_of(points: np.ndarray, rays: np.ndarray, camera: Camera) -> Keypoints:
    """Args: camera: of the query's colour image."""
    return Keypoints(points, rays, camera.fx, _PIXEL_SIGMA * max(1.0, camera.width / 640.0))
