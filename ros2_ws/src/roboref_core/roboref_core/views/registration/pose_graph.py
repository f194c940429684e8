"""Camera poses that fit what was stated of each and what registrations say of pairs: least squares on SE(3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from roboref_core.geometry.pose import adjoint, exponential, inverse, logarithm

_ROUNDS = 8
_EDGE_SCALE = 4.0
"""A registration this many standard deviations off its neighbours' word counts half: a wrong one must not pull."""
_LEAST_SHARE = 1e-4
"""Least variance of independent errors, as a share of the stated one: keeps the equations regular."""
_MOST_SHARE = 25.0
_NORMAL_95 = 1.645


@dataclass(frozen=True, eq=False)
class Edge:
    """A registration of two poses of a graph.

    Attributes:
        first, second: their indices.
        T_second_first: 4x4 relative pose.
        information: (6, 6) inverse covariance of its error as a twist in the frame of ``second``; may be singular.
        systematic: (6, 6) covariance of the part of that error which other registrations of the two poses share.
    """

    first: int
    second: int
    T_second_first: np.ndarray
    information: np.ndarray
    systematic: np.ndarray = field(default_factory=lambda: np.zeros((6, 6)))


@dataclass(frozen=True, eq=False)
class PoseGraph:
    """Solved poses.

    Attributes:
        poses: (N, 4, 4) T_world_camera.
        covariance: (6N, 6N) of their errors as twists in their own frames, without the error that all share.
        shared: (6, 6) covariance of the error that all poses share, as a twist in the frame of each.
    """

    poses: np.ndarray
    covariance: np.ndarray
    shared: np.ndarray

    def covariance_of(self, i: int) -> np.ndarray:
        """(6, 6) of pose ``i`` in the world."""
        return self.covariance[6 * i : 6 * i + 6, 6 * i : 6 * i + 6] + self.shared

    def relative(self, first: int, second: int) -> tuple[np.ndarray, np.ndarray]:
        """4x4 T_second_first and the (6, 6) covariance of its error as a twist in the frame of ``second``."""
        T = inverse(self.poses[second]) @ self.poses[first]
        J = np.zeros((6, len(self.covariance)))
        J[:, 6 * first : 6 * first + 6] = adjoint(T)
        J[:, 6 * second : 6 * second + 6] = -np.eye(6)
        return T, J @ self.covariance @ J.T


def solve(stated: np.ndarray, edges: Sequence[Edge], translation_sigma: float, rotation_sigma: float) -> PoseGraph:
    """Poses nearest to the stated ones and to the registrations, each weighed by its covariance.

    Registered poses average their errors as far as these are independent. How far they are is read off the
    registrations: poses that agree with one another better than their stated error allows share the rest of it
    (localisation against a map that is off, slow drift), which no average reduces. Poses that agree worse than stated
    have a larger error.

    Args:
        stated: (N, 4, 4) T_world_camera.
        translation_sigma, rotation_sigma: error of each stated pose per axis [m, rad], both positive.
    """
    own = np.array([translation_sigma**2] * 3 + [rotation_sigma**2] * 3)
    poses, covariance, cost, freedom = _solve(stated, edges, 1.0 / own)
    share = _independent_share(cost, freedom)
    if share != 1.0:
        poses, covariance, _, _ = _solve(stated, edges, 1.0 / (own * share))
    for i in range(len(poses)):
        rows = slice(6 * i, 6 * i + 6)
        covariance[rows, rows] += _systematic(i, edges)
    return PoseGraph(poses, covariance, np.diag(own * max(1.0 - share, 0.0)))


def _solve(
    stated: np.ndarray, edges: Sequence[Edge], information: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Poses, their covariance, the squared deviation from the stated poses and its expectation."""
    poses = np.array(stated, dtype=np.float64)
    n = len(poses)
    H = np.zeros((6 * n, 6 * n))
    for _ in range(_ROUNDS):
        H, g = np.zeros((6 * n, 6 * n)), np.zeros(6 * n)
        for i in range(n):
            rows = slice(6 * i, 6 * i + 6)
            H[rows, rows] += np.diag(information)
            g[rows] -= information * logarithm(inverse(stated[i]) @ poses[i])
        for edge in edges:
            _add_edge(H, g, poses, edge)
        step = np.linalg.solve(H, g)
        poses = np.stack([T @ exponential(d) for T, d in zip(poses, step.reshape(n, 6), strict=True)])
        if np.abs(step).max() < 1e-6:
            break
    covariance = np.linalg.inv(H)
    deviations = np.stack([logarithm(inverse(T) @ after) for T, after in zip(stated, poses, strict=True)])
    cost = float((deviations**2 * information).sum())
    freedom = 6 * n - float((np.diag(covariance) * np.tile(information, n)).sum())
    return poses, covariance, cost, freedom


def _systematic(i: int, edges: Sequence[Edge]) -> np.ndarray:
    """(6, 6) covariance of what all registrations of a pose have in common, as a twist in its own frame.

    A camera whose colour and depth disagree errs alike in each of its registrations, so that no number of them reduces
    it. One half of what an edge has is taken to be of either end.
    """
    own = [edge.systematic for edge in edges if i in (edge.first, edge.second)]
    own.sort(key=np.trace)
    return 0.5 * own[(len(own) - 1) // 2] if own else np.zeros((6, 6))


def _add_edge(H: np.ndarray, g: np.ndarray, poses: np.ndarray, edge: Edge) -> None:
    T = inverse(poses[edge.second]) @ poses[edge.first]
    error = logarithm(T @ inverse(edge.T_second_first))
    squared = float(error @ edge.information @ error)
    W = edge.information / (1.0 + squared / (6.0 * _EDGE_SCALE**2))
    A = adjoint(T)
    a, b = slice(6 * edge.first, 6 * edge.first + 6), slice(6 * edge.second, 6 * edge.second + 6)
    H[a, a] += A.T @ W @ A
    H[b, b] += W
    H[a, b] -= A.T @ W
    H[b, a] -= W @ A
    g[a] -= A.T @ W @ error
    g[b] += W @ error


def _independent_share(cost: float, freedom: float) -> float:
    """Variance of the independent part of the stated error, in units of the stated variance.

    1 where a chi-squared distribution of so many degrees of freedom explains the cost.
    """
    if freedom < 1.0:
        return 1.0
    low, high = (
        freedom * max(1.0 - 2.0 / (9.0 * freedom) + side * _NORMAL_95 * np.sqrt(2.0 / (9.0 * freedom)), 0.0) ** 3
        for side in (-1.0, 1.0)
    )
    if low <= cost <= high:
        return 1.0
    return float(np.clip(cost / freedom, _LEAST_SHARE, _MOST_SHARE))
