"""Is what was around a mark still there? The surface of the mark's view against what the searched view measures."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from roboref_core.geometry.camera import map_pixels
from roboref_core.geometry.pose import inverse, transform
from roboref_core.views.view import View, valid_depth

_RADIUS = 0.025
"""Half the side of what is compared around a marked point, as a share of the picture's width."""
_SAMPLES = 15
"""Samples along each side of what is compared."""
_LAYER = 0.04
"""Samples this much (base [m] and share of the depth) off the marked surface belong to something else."""
_TOLERANCE = (0.02, 0.015)
"""Depths up to base + slope * depth apart are the same surface [m, m/m]."""
_FEWEST = 12
"""Fewer comparable samples decide nothing."""
_COLOR_STEP = 30.0
"""Colours further apart than this, after a common gain, are of different things [0 to 255]."""
_MOST_GAIN = 1.25
"""Exposure and shading may scale a colour by so much from view to view."""


class Change(IntEnum):
    """What became of the surface around a mark."""

    NOT_CHECKED = 0
    UNCHANGED = 1
    HIDDEN = 2
    """Something stands in front of it, or it lies outside the picture."""
    GONE = 3
    """The sensor looks through where it was."""
    CHANGED = 4
    """A surface is there, of another colour."""


@dataclass(frozen=True)
class ChangeEvidence:
    """Attributes:
    change: the verdict.
    agrees, hidden, looked_through: shares of the samples that fell on a measured pixel; NaN if there were too few.
    color_difference: median difference of colour where the depths agree, gain removed [0 to 255]; NaN without.
    samples: how many samples fell on a measured pixel.
    """

    change: Change = Change.NOT_CHECKED
    agrees: float = float("nan")
    hidden: float = float("nan")
    looked_through: float = float("nan")
    color_difference: float = float("nan")
    samples: int = 0


def what_changed(
    reference: View,
    searched: View,
    pixel: tuple[float, float],
    box: tuple[float, float, float, float] | None = None,
) -> ChangeEvidence:
    """Compare the surface around a mark in two views of one world frame, whose poses are exact or registered.

    Args:
        pixel: (u, v) of the mark in the colour image of ``reference``.
        box: (u_min, v_min, u_max, v_max) of a marked box there; None: a small square around the pixel.
    Raises:
        ImageError: a picture cannot be decoded.
    """
    if reference.T_world_camera is None or searched.T_world_camera is None:
        return ChangeEvidence()
    if reference.depth is None or searched.depth is None:
        return ChangeEvidence()
    pixels, points = _surface(reference, pixel, box)
    if len(points) < _FEWEST:
        return ChangeEvidence()
    seen = transform(inverse(searched.T_world_camera) @ reference.T_world_camera, points)
    on_searched = searched.camera.project(seen)
    measured = _depth(searched, on_searched)
    inside = searched.camera.contains(on_searched)
    marked = np.argmin(((pixels - np.array(pixel)) ** 2).sum(axis=1))
    # What surrounds a marked point says nothing of it where the picture ends before it.
    if inside.mean() < 0.3 or (box is None and not inside[marked]):
        return ChangeEvidence(Change.HIDDEN)
    known = np.isfinite(measured)
    count = int(known.sum())
    if count < _FEWEST:
        return ChangeEvidence(samples=count)
    difference, z = (measured - seen[:, 2])[known], seen[known, 2]
    limit = _TOLERANCE[0] + _TOLERANCE[1] * z
    same = np.abs(difference) <= limit
    agrees, through = float(same.mean()), float((difference > limit).mean())
    hidden = 1.0 - agrees - through
    color = float("nan")
    if same.sum() >= _FEWEST:
        color = _color_difference(reference, searched, pixels[known][same], on_searched[known][same])
    if agrees >= max(through, hidden):
        change = Change.CHANGED if color > _COLOR_STEP else Change.UNCHANGED
    else:
        change = Change.GONE if through > hidden else Change.HIDDEN
    return ChangeEvidence(change, agrees, hidden, through, color, count)


def _surface(
    view: View, pixel: tuple[float, float], box: tuple[float, float, float, float] | None
) -> tuple[np.ndarray, np.ndarray]:
    """(N, 2) pixels of the marked surface and their (N, 3) points in the optical frame [m]."""
    reach = max(_RADIUS * view.camera.width, 3.0)
    u0, v0, u1, v1 = box or (pixel[0] - reach, pixel[1] - reach, pixel[0] + reach, pixel[1] + reach)
    grid = np.meshgrid(np.linspace(u0, u1, _SAMPLES), np.linspace(v0, v1, _SAMPLES))
    pixels = np.concatenate([np.stack(grid, axis=-1).reshape(-1, 2), np.array([pixel])])
    z = _depth(view, pixels)
    known = np.flatnonzero(np.isfinite(z))
    if len(known) == 0:
        return np.zeros((0, 2)), np.zeros((0, 3))
    inner = known[np.argsort(((pixels[known] - np.array(pixel)) ** 2).sum(axis=1))[:9]]
    own = float(np.median(z[inner]))
    chosen = known[np.abs(z[known] - own) <= _LAYER * (1 + own)]
    return pixels[chosen], view.camera.unproject(pixels[chosen], z[chosen])


def _depth(view: View, pixels: np.ndarray) -> np.ndarray:
    """(N,) measured depth at (N, 2) pixels of the colour image [m]; NaN without."""
    image = view.depth
    assert image is not None
    depths = np.full(len(pixels), np.nan)
    at = map_pixels(pixels, view.camera, view.depth_camera)
    inside = np.flatnonzero(view.depth_camera.contains(at))
    u, v = np.rint(at[inside]).astype(np.int64).T
    values = image[v, u].astype(np.float64)
    depths[inside] = np.where(valid_depth(values), values, np.nan)
    return depths


def _color_difference(reference: View, searched: View, first: np.ndarray, second: np.ndarray) -> float:
    """Median difference of colours at corresponding pixels that no change of exposure explains."""
    a, b = (_colors(view, pixels) for view, pixels in ((reference, first), (searched, second)))
    gain = np.median(a.sum(axis=1)) / max(float(np.median(b.sum(axis=1))), 1.0)
    return float(np.median(np.abs(a - b * np.clip(gain, 1 / _MOST_GAIN, _MOST_GAIN)).max(axis=1)))


def _colors(view: View, pixels: np.ndarray) -> np.ndarray:
    """(N, 3) means over 3x3 pixels: less noise, and less than a pixel's misalignment."""
    u, v = np.rint(pixels).astype(np.int64).T
    u, v = u.clip(1, view.camera.width - 2), v.clip(1, view.camera.height - 2)
    around = [view.color[v + dv, u + du].astype(np.float64) for dv in (-1, 0, 1) for du in (-1, 0, 1)]
    return np.mean(around, axis=0)
