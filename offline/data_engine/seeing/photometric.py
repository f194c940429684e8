"""Do the colour pictures belong to the geometry? Two tests that depth alone cannot make.

Agreement: surface that two frames see must look alike in both; pictures of other moments, other intrinsics and wrong
poses do not. Misalignment: steps in depth must lie on edges of the picture; how far they lie off says how far a mask
can be trusted.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import inverse, transform
from roboref_core.views.visibility import DepthTolerance

from offline.data_engine.seeing.alignment import depth_edges

_WIDTH = 320
"""Pictures are compared at about this width [pixel]."""
_STEP = 4
"""Every so many rows and columns of depth are compared."""
_MIN_POINTS = 300
_LEAST, _MOST, _TRIED = 0.1, 1.2, 8
"""Neighbours are looked for between these motions [m + rad], and at most so many are tried."""
_MIN_MOTION = 0.08
"""Share of the picture's width by which shared surface must have moved."""
_SEARCH = 12
"""Edges are searched this far off, at 640 pixels width."""
_CELLS = 3
_EDGE_WIDTH = 640
_MIN_EDGE_PIXELS = 60
_CLEAR_PEAK = 2.5
"""Standard deviations by which the best offset must stand out among all."""


@dataclass(frozen=True)
class Look:
    """What is kept of a frame to compare it with others.

    Attributes:
        texture: (h, w) float32, the grey picture without its brightness and contrast.
        depth: (h', w') float32 [m], every ``_STEP``-th row and column.
        T_world_camera: 4x4.
    """

    texture: np.ndarray
    depth: np.ndarray
    T_world_camera: np.ndarray


def look_of(grey: np.ndarray, depth: np.ndarray, T_world_camera: np.ndarray) -> Look:
    """Args: grey (H, W) uint8 of any size; depth (h, w) float32 [m], 0 or non-finite = none."""
    size = (_WIDTH, max(1, round(_WIDTH * grey.shape[0] / grey.shape[1])))
    small = cv2.GaussianBlur(cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32), (0, 0), 1.5)
    detail = small - cv2.GaussianBlur(small, (0, 0), 10)
    contrast = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), 10))
    sparse = depth[::_STEP, ::_STEP]
    return Look(detail / (contrast + 4), np.where(np.isfinite(sparse), sparse, 0), T_world_camera)


def agreement(a: Look, b: Look, color: Camera, depth: Camera, tolerance: DepthTolerance) -> float:
    """Correlation of what both frames show of the surface that ``a`` measured and ``b`` confirms, in [-1, 1].

    NaN where they share too little, or where the surface has hardly moved in the picture.
    """
    v, u = np.nonzero(a.depth)
    z = a.depth[v, u]
    points = depth.unproject(np.stack([u, v], axis=1) * float(_STEP), z)
    seen = transform(inverse(b.T_world_camera) @ a.T_world_camera, points)
    front = seen[:, 2] > 0.1
    points, seen = points[front], seen[front]
    at = depth.project(seen)
    column, row = np.rint(at / _STEP).astype(np.int64).T
    inside = (column >= 0) & (column < b.depth.shape[1]) & (row >= 0) & (row < b.depth.shape[0])
    points, seen, column, row = points[inside], seen[inside], column[inside], row[inside]
    confirmed = np.abs(b.depth[row, column] - seen[:, 2]) <= tolerance.at(seen[:, 2])
    here, there = (color.project(p[confirmed]) for p in (points, seen))
    both = color.contains(here) & color.contains(there)
    if np.count_nonzero(both) < _MIN_POINTS:
        return float("nan")
    # Pictures taken from one place agree whatever the geometry is.
    if np.median(np.linalg.norm(here[both] - there[both], axis=1)) < _MIN_MOTION * color.width:
        return float("nan")
    values = [_sample(look.texture, pixels[both], color) for look, pixels in ((a, here), (b, there))]
    deviations = [float(x.std()) for x in values]
    if min(deviations) < 0.1:
        return float("nan")
    return float(np.corrcoef(values[0], values[1])[0, 1])


def agreements(
    looks: dict[int, Look], color: Camera, depth: Camera, tolerance: DepthTolerance, neighbours: int = 3
) -> dict[int, float]:
    """Frame position -> its median agreement with the frames nearest to it that can be compared.

    Frames that can be compared with none are left out.
    """
    positions = sorted(looks)
    if len(positions) < 2:
        return {}
    poses = np.stack([looks[i].T_world_camera for i in positions])
    result = {}
    for k, i in enumerate(positions):
        apart = np.linalg.norm(poses[:, :3, 3] - poses[k, :3, 3], axis=1)
        turned = np.arccos(np.clip(poses[:, :3, 2] @ poses[k, :3, 2], -1, 1))
        motion = apart + turned
        order = [m for m in np.argsort(motion, kind="stable") if m != k and _LEAST < motion[m] < _MOST]
        values: list[float] = []
        for m in order[:_TRIED]:
            value = agreement(looks[i], looks[positions[m]], color, depth, tolerance)
            if np.isfinite(value):
                values.append(value)
            if len(values) == neighbours:
                break
        if values:
            result[i] = float(np.median(values))
    return result


class EdgeOffsets:
    """How far steps in depth lie from edges of the colour pictures, gathered over the frames of a scene.

    For each of 3 x 3 parts of the picture, the strength of its edges under the steps in depth is summed up for every
    offset; what one frame leaves open, many together decide.
    """

    def __init__(self, color: Camera, depth_camera: Camera):
        self.color, self.depth_camera = color, depth_camera
        self._reach = 0
        self._scores: dict[tuple[int, int], np.ndarray] = {}
        self._scale = 1.0

    def add(self, grey: np.ndarray, depth: np.ndarray) -> None:
        """Args: grey (H, W) uint8 of any size; depth (h, w) float32 [m], 0 or non-finite = none."""
        width = min(_EDGE_WIDTH, grey.shape[1])
        size = (width, round(width * grey.shape[0] / grey.shape[1]))
        self._reach, self._scale = max(2, round(_SEARCH * width / 640)), self.color.width / width
        picture = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        gradient = np.hypot(cv2.Sobel(picture, cv2.CV_32F, 1, 0), cv2.Sobel(picture, cv2.CV_32F, 0, 1))
        gradient = np.minimum(gradient, np.percentile(gradient, 90))
        edges = self._depth_edges(depth, size)
        reach = self._reach
        padded = cv2.copyMakeBorder(gradient, reach, reach, reach, reach, cv2.BORDER_REFLECT)
        for i, rows in enumerate(np.array_split(np.arange(size[1]), _CELLS)):
            for j, columns in enumerate(np.array_split(np.arange(size[0]), _CELLS)):
                part = edges[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
                if part.sum() < _MIN_EDGE_PIXELS * width / 640:
                    continue
                around = padded[rows[0] : rows[-1] + 1 + 2 * reach, columns[0] : columns[-1] + 1 + 2 * reach]
                score = cv2.matchTemplate(around, np.ascontiguousarray(part), cv2.TM_CCORR)
                if score.std() > 0:
                    total = self._scores.setdefault((i, j), np.zeros_like(score))
                    total += (score - score.mean()) / score.std()

    def misalignment(self) -> float | None:
        """The scene's, in pixels of colour: the median over the parts that are clear; None if fewer than 2 are."""
        found = []
        for total in self._scores.values():
            best = np.unravel_index(int(np.argmax(total)), total.shape)
            if total[best] - total.mean() > _CLEAR_PEAK * total.std():
                found.append(float(np.hypot(best[0] - self._reach, best[1] - self._reach)))
        return round(float(np.median(found)) * self._scale, 2) if len(found) >= 2 else None

    def _depth_edges(self, depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """(h, w) float32 of a picture's size: 1 where a step in depth should be seen."""
        v, u = np.nonzero(depth_edges(depth, np.isfinite(depth) & (depth > 0)))
        edges = np.zeros((size[1], size[0]), np.float32)
        if len(v):
            rays = self.depth_camera.unproject(np.stack([u, v], axis=1), np.ones(len(u)))
            at = (self.color.project(rays) + 0.5) * (size[0] / self.color.width) - 0.5
            column, row = np.rint(at).astype(np.int64).T
            inside = (column >= 0) & (column < size[0]) & (row >= 0) & (row < size[1])
            edges[row[inside], column[inside]] = 1
        return edges


def _sample(texture: np.ndarray, pixels: np.ndarray, camera: Camera) -> np.ndarray:
    """(n,) values at pixels of the colour camera."""
    h, w = texture.shape
    scale = np.array([w / camera.width, h / camera.height])
    at = ((pixels + 0.5) * scale - 0.5).astype(np.float32)
    return cv2.remap(texture, at[None, :, 0], at[None, :, 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]
