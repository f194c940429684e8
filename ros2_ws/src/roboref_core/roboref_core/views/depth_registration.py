"""Depth of a camera beside the colour camera, brought into the colour camera's picture."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from roboref_core.geometry.camera import Camera
from roboref_core.views.view import valid_depth


def registered_camera(color: Camera, depth: Camera) -> Camera:
    """The colour camera at a size at which a pixel is about as large as one of the depth camera's.

    A registered image that is finer than its source has holes between the points.
    """
    scale = min(1.0, depth.fx / color.fx, depth.fy / color.fy)
    return color.resized(max(round(color.width * scale), 1), max(round(color.height * scale), 1))


def register_depth(image: np.ndarray, depth: Camera, color: Camera, T_color_depth: np.ndarray) -> np.ndarray:
    """Depth as the colour camera would measure it, by z-buffered reprojection.

    Every depth pixel is a square patch that faces its camera: it covers the pixels between its projected corners, so
    that a surface stays closed, and the nearest patch wins.

    Args:
        image: (h, w) float32 [m] of ``depth``; 0 or non-finite: no measurement.
        color: camera of the result (see ``registered_camera``).
        T_color_depth: 4x4 pose of the depth camera's optical frame in the colour camera's.

    Returns:
        (H, W) float32 [m] of ``color``; 0 where nothing was measured.
    """
    depth.check_size(image.shape, "depth image")
    measured = valid_depth(image)
    z_source = image[measured].astype(np.float64)[:, None]
    low, centre, high = (rays[measured.ravel()] * z_source @ T_color_depth[:3, :3].T for rays in _patch_rays(depth))
    shift = T_color_depth[:3, 3]
    z = centre[:, 2] + shift[2]
    first, last = color.project(low + shift), color.project(high + shift)
    first, last = np.ceil(np.minimum(first, last)), np.ceil(np.maximum(first, last)) - 1
    # Behind the camera, beyond its lens, or so near that one patch would fill the picture.
    good = np.isfinite(first).all(axis=1) & np.isfinite(last).all(axis=1) & (z > 0)
    good &= ((last - first) <= max(color.width, color.height) / 8).all(axis=1)
    first, last, z = first[good].astype(np.int64), last[good].astype(np.int64), z[good]
    registered = np.full(color.height * color.width, np.inf, np.float32)
    for du, dv, chosen in _offsets(last - first):
        column, row = first[chosen, 0] + du, first[chosen, 1] + dv
        inside = (column >= 0) & (column < color.width) & (row >= 0) & (row < color.height)
        index = row[inside] * color.width + column[inside]
        np.minimum.at(registered, index, z[chosen][inside].astype(np.float32))
    registered[np.isinf(registered)] = 0.0
    return registered.reshape(color.height, color.width)


@functools.lru_cache(maxsize=4)
def _patch_rays(camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(h * w, 3) rays through each pixel's upper left corner, its centre and its lower right corner."""
    v, u = np.mgrid[: camera.height, : camera.width].reshape(2, -1)
    centres = np.stack([u, v], axis=1).astype(np.float64)
    low, centre, high = (camera.rays(centres + shift) for shift in (-0.5, 0.0, 0.5))
    return low, centre, high


def _offsets(extent: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
    """(du, dv, indices of the patches that cover their first pixel + (du, dv))."""
    for dv in range(int(extent[:, 1].max(initial=-1)) + 1):
        for du in range(int(extent[:, 0].max(initial=-1)) + 1):
            yield du, dv, np.flatnonzero((extent[:, 0] >= du) & (extent[:, 1] >= dv))
