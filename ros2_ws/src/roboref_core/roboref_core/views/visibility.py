"""Is a 3D point visible in a view? Names, not booleans: a sensor hole is neither yes nor no."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from roboref_core.geometry.pose import inverse, transform
from roboref_core.views.view import View, valid_depth


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

    Attributes:
        a: tolerance at depth 0 [m].
        b: its growth with depth [m/m].
    """

    a: float = 0.03
    b: float = 0.02

    def at(self, depth: np.ndarray) -> np.ndarray:
        return self.a + self.b * depth


def point_visibility(
    points_world: np.ndarray, view: View, tolerance: DepthTolerance | None = None
) -> tuple[list[Visibility], np.ndarray]:
    """Decide for each 3D point whether ``view`` sees it, from its pose and its own depth image.

    Args:
        points_world: (N, 3) in the view's world frame [m].
        view: must have a pose; without depth every point inside the picture is UNKNOWN.
        tolerance: what still counts as the same surface.

    Returns:
        N names, and (N, 2) pixels in the colour image (NaN behind the camera).
    """
    if view.T_world_camera is None:
        raise ValueError(f"view {view.view_id} has no camera pose: visibility cannot be decided")
    tolerance = tolerance or DepthTolerance()
    points = transform(inverse(view.T_world_camera), np.asarray(points_world, dtype=np.float64).reshape(-1, 3))
    pixels = view.camera.project(points)
    inside = view.camera.contains(pixels)
    names = np.full(len(points), Visibility.OUT_OF_FRUSTUM, dtype=object)
    names[inside] = Visibility.UNKNOWN
    depth = view.depth if inside.any() else None
    if depth is not None:
        depth_pixels = view.depth_camera.project(points[inside])
        names[inside] = _compare_depth(depth, depth_pixels, points[inside, 2], tolerance)
    return list(names), pixels


def _compare_depth(depth: np.ndarray, pixels: np.ndarray, z: np.ndarray, tolerance: DepthTolerance) -> np.ndarray:
    """Names of N points at sub-pixel ``pixels`` of ``depth`` whose own depth is ``z`` [m].

    The four pixels around the point speak, as they do where a depth edge or a registration error of
    half a pixel runs through: one agreeing pixel shows the surface; otherwise the nearest to the point
    (in depth) tells whether something is in front of it or whether the sensor looks through.
    """
    h, w = depth.shape
    corner = np.floor(np.nan_to_num(pixels, nan=-9.0)).astype(np.int64)
    samples = np.full((4, len(z)), np.nan)
    for row, (du, dv) in zip(samples, ((0, 0), (1, 0), (0, 1), (1, 1)), strict=True):
        u, v = corner[:, 0] + du, corner[:, 1] + dv
        inside = (u >= 0) & (u < w) & (v >= 0) & (v < h)
        row[inside] = depth[v[inside], u[inside]]
    samples[~valid_depth(samples)] = np.nan
    known = ~np.isnan(samples).all(axis=0)
    difference = samples - z
    nearest = np.full(len(z), np.nan)
    columns = np.flatnonzero(known)
    nearest[columns] = difference[np.nanargmin(np.abs(difference[:, columns]), axis=0), columns]
    limit = tolerance.at(z)
    names = np.full(len(z), Visibility.UNKNOWN, dtype=object)
    names[known & (np.abs(nearest) <= limit)] = Visibility.VISIBLE
    names[known & (nearest < -limit)] = Visibility.OCCLUDED
    names[known & (nearest > limit)] = Visibility.CONFLICT
    return names
