"""Do the mesh, the poses and the sensor depth fit? A score of measured against expected depth, per frame."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import inverse
from roboref_core.views.visibility import DepthTolerance

MIN_COMPARED = 0.02
"""A frame whose compared pixels are fewer than this share of the picture cannot be judged."""
_EDGE_JUMP = 0.1
"""A step in depth of more than this share of the depth is an edge."""
_EDGE_REACH = 0.006
"""Edges this far apart still agree, as a share of the picture's width (4 pixels of 640)."""


@dataclass(frozen=True)
class Alignment:
    """How well measured depth fits expected depth, in one frame.

    Attributes:
        compared: share of the picture where both exist.
        median: of measured - expected [m]: a bias, along the rays.
        mad: median absolute deviation from that median [m].
        inliers: share of the compared pixels within the tolerance.
        edges: F1 of the depth edges of both, each allowed to lie a few pixels off; NaN without edges, or if not asked
            for.
    """

    compared: float
    median: float
    mad: float
    inliers: float
    edges: float

    @property
    def judged(self) -> bool:
        return self.compared >= MIN_COMPARED


def compare(
    measured: np.ndarray, expected: np.ndarray, tolerance: DepthTolerance | None = None, with_edges: bool = True
) -> Alignment:
    """Score two (h, w) depth images of one view [m], 0 or non-finite = none."""
    tolerance = tolerance or DepthTolerance()
    both = np.isfinite(measured) & (measured > 0) & np.isfinite(expected) & (expected > 0)
    n = np.count_nonzero(both)
    if n == 0:
        return Alignment(0.0, float("nan"), float("nan"), 0.0, float("nan"))
    difference = measured[both] - expected[both]
    median = float(np.median(difference))
    return Alignment(
        compared=float(n / both.size),
        median=median,
        mad=float(np.median(np.abs(difference - median))),
        inliers=float((np.abs(difference) <= tolerance.at(expected[both])).mean()),
        edges=_edge_agreement(measured, expected, both) if with_edges else float("nan"),
    )


def warp_depth(depth: np.ndarray, camera: Camera, T_target_source: np.ndarray) -> np.ndarray:
    """Depth of one frame as seen from another pose: (h, w) [m], 0 = nothing lands there.

    Points are rounded to pixels, the nearest wins; holes of sparse sampling stay 0.
    """
    h, w = depth.shape
    v, u = np.nonzero(np.isfinite(depth) & (depth > 0))
    points = camera.unproject(np.stack([u, v], axis=1), depth[v, u])
    points = points @ T_target_source[:3, :3].T + T_target_source[:3, 3]
    pixels = camera.project(points)
    inside = camera.contains(pixels)
    u, v = np.rint(pixels[inside]).astype(np.int64).T
    out = np.full(h * w, np.inf)
    np.minimum.at(out, v * w + u, points[inside, 2])
    out[np.isinf(out)] = 0
    return out.reshape(h, w).astype(np.float32)


def neighbour_depth(
    T_world_camera: np.ndarray, others: list[tuple[np.ndarray, np.ndarray]], camera: Camera
) -> np.ndarray:
    """The depth that other frames lead to expect in a view: where there is no mesh, the nearest of theirs.

    Args:
        T_world_camera: of the view.
        others: (depth, T_world_camera) of frames that look at the same place, with the same camera.

    Returns:
        (h, w) float32 [m], 0 where none of them saw anything.
    """
    expected = np.zeros((camera.height, camera.width), np.float32)
    for depth, T in others:
        warped = warp_depth(depth, camera, inverse(T_world_camera) @ T)
        expected = np.where((expected == 0) | ((warped > 0) & (warped < expected)), warped, expected)
    return expected


def depth_edges(depth: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """(h, w) bool: on the near side of a jump in depth between neighbours that both exist."""
    edges = np.zeros(depth.shape, dtype=bool)
    for axis in (0, 1):
        a, b = (depth[:-1], depth[1:]) if axis == 0 else (depth[:, :-1], depth[:, 1:])
        va, vb = (valid[:-1], valid[1:]) if axis == 0 else (valid[:, :-1], valid[:, 1:])
        near = np.minimum(a, b)
        jump = va & vb & (np.abs(a - b) > _EDGE_JUMP * near)
        ea, eb = (edges[:-1], edges[1:]) if axis == 0 else (edges[:, :-1], edges[:, 1:])
        ea |= jump & (a <= b)
        eb |= jump & (b < a)
    return edges


def _edge_agreement(measured: np.ndarray, expected: np.ndarray, both: np.ndarray) -> float:
    """F1 of depth edges where both images have depth around them."""
    reach = max(1, round(_EDGE_REACH * measured.shape[1]))
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    surrounded = cv2.erode(both.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    a, b = depth_edges(measured, both) & surrounded, depth_edges(expected, both) & surrounded
    if not a.any() and not b.any():
        return float("nan")
    near_a, near_b = (cv2.dilate(e.astype(np.uint8), kernel) > 0 for e in (a, b))
    precision = (a & near_b).sum() / max(1, a.sum())
    recall = (b & near_a).sum() / max(1, b.sum())
    return float(2 * precision * recall / max(1e-9, precision + recall))
