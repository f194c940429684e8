"""The thing under a mark: what is connected to it in depth and colour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from roboref_core.geometry.camera import map_pixels
from roboref_core.views.view import View, valid_depth

_WIDTH = 320
"""Pictures are read at about this width [pixel]: a thing's colours need no more."""
_LIGHTNESS, _CHROMA = 45.0, 14.0
"""A thing's pixels differ from the mark by so much in CIE Lab: shading changes lightness more than hue."""
_GAP = (0.015, 0.02)
"""Neighbouring depths further apart than base + slope * depth are two surfaces [m, m/m]."""
_FEWEST = 40
_LARGEST = 0.35
"""Largest share of the picture that a thing fills; larger surfaces are walls and floors."""


@dataclass(frozen=True, eq=False)
class Samples:
    """A view on a grid of pixels of its colour image.

    Attributes:
        step: distance of grid points [pixel].
        lab: (h, w, 3) float32 CIE Lab, L in [0, 100].
        points: (h, w, 3) in the optical frame [m]; NaN without depth.
        edges: (h, w) whether a jump of depth runs through.
    """

    step: int
    lab: np.ndarray
    points: np.ndarray
    edges: np.ndarray

    def at(self, pixel: tuple[float, float]) -> tuple[int, int]:
        """(row, column) of the grid point nearest to a pixel (u, v)."""
        h, w = self.lab.shape[:2]
        row, column = round((pixel[1] + 0.5) / self.step - 0.5), round((pixel[0] + 0.5) / self.step - 0.5)
        return min(max(row, 0), h - 1), min(max(column, 0), w - 1)

    def pixel(self, row: float, column: float) -> tuple[float, float]:
        """(u, v) of a grid point."""
        return (float((column + 0.5) * self.step - 0.5), float((row + 0.5) * self.step - 0.5))


def sample(view: View) -> Samples:
    """Raises ImageError if a picture cannot be decoded."""
    import cv2

    step = max(1, round(view.camera.width / _WIDTH))
    h, w = view.camera.height // step, view.camera.width // step
    small = cv2.resize(view.color[: h * step, : w * step], (w, h), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(cv2.medianBlur(small, 3).astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    grid = np.stack(np.meshgrid(np.arange(w), np.arange(h)), axis=-1).reshape(-1, 2)
    pixels = (grid + 0.5) * step - 0.5
    z = np.full(len(pixels), np.nan)
    image = view.depth
    if image is not None:
        at = map_pixels(pixels, view.camera, view.depth_camera)
        inside = np.flatnonzero(view.depth_camera.contains(at))
        u, v = np.rint(at[inside]).astype(np.int64).T
        values = image[v.clip(0, image.shape[0] - 1), u.clip(0, image.shape[1] - 1)].astype(np.float64)
        z[inside] = np.where(valid_depth(values), values, np.nan)
    points = view.camera.unproject(pixels, z).reshape(h, w, 3)
    depth = np.nan_to_num(z, nan=0.0).reshape(h, w).astype(np.float32)
    kernel = np.ones((3, 3), np.uint8)
    far = cv2.dilate(depth, kernel)
    near = cv2.erode(np.where(depth > 0, depth, np.float32(1e3)), kernel)
    edges = (far - near > _GAP[0] + _GAP[1] * near) & (near < 1e3)
    return Samples(step, lab, points, edges)


@dataclass(frozen=True, eq=False)
class Thing:
    """Attributes:
    mask: (h, w) bool on the grid of ``samples``.
    samples: samples of the view that shows it.
    reason: why there is no mask; empty if there is one.
    """

    mask: np.ndarray
    samples: Samples
    reason: str = ""


def thing_at(view: View, pixel: tuple[float, float], box: tuple[float, float, float, float] | None = None) -> Thing:
    """What is connected to a mark in depth and colour, within a marked box if there is one.

    Args:
        pixel: (u, v) of the mark.
        box: (u_min, v_min, u_max, v_max).
    Raises:
        ImageError: a picture cannot be decoded.
    """
    import cv2

    samples = sample(view)
    h, w = samples.edges.shape
    row, column = samples.at(pixel)
    barrier = samples.edges.copy()
    if box is not None:
        (r0, c0), (r1, c1) = samples.at((box[0], box[1])), samples.at((box[2], box[3]))
        outside = np.ones((h, w), dtype=bool)
        outside[r0 : r1 + 1, c0 : c1 + 1] = False
        barrier |= outside
    barrier[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = False
    flood = np.zeros((h + 2, w + 2), np.uint8)
    flood[1:-1, 1:-1] = barrier
    # From the median around the mark, so that no single pixel of a pattern decides.
    around = samples.lab[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3].reshape(-1, 3)
    image = samples.lab.copy()
    image[row, column] = np.median(around, axis=0)
    limit = (_LIGHTNESS, _CHROMA, _CHROMA)
    flags = 8 | cv2.FLOODFILL_FIXED_RANGE | cv2.FLOODFILL_MASK_ONLY | (2 << 8)
    cv2.floodFill(image, flood, (column, row), (0, 0, 0), limit, limit, flags)
    mask = flood[1:-1, 1:-1] == 2
    mask &= np.isfinite(samples.points[..., 2])
    count = int(mask.sum())
    if count < _FEWEST:
        return Thing(mask, samples, f"only {count} of {h * w} samples belong to what is marked, {_FEWEST} are needed")
    if count > _LARGEST * h * w:
        return Thing(mask, samples, f"what is marked fills {100 * count / (h * w):.0f} % of the picture")
    return Thing(mask, samples)
