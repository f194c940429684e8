"""The whole of an object in a picture, where its reconstructed surface shows only a part of it.

Thin, dark and shiny parts are often missing in a mesh, and poses displace its outline. The picture itself says how far
the object goes on: GrabCut (Rother et al. 2004) grows the mask over pixels of its colours that hang together with it.
Sensor depth decides where it can: what is measured on the surface behind is background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from offline.data_engine.five_frames import mask_box
from offline.data_engine.seeing.visibility import FrameVisibility

_REACH = 0.06
"""How far beyond its mask an object is followed, as a share of the picture's diagonal."""
_SIDE = 200
"""GrabCut works on a copy of at most this size [pixel]: its cost grows with the number of pixels."""
_ROUNDS = 3
_REGISTRATION_PX = 4.0
"""Depth this near to a mask may belong to either side of its outline (at 640 pixels width)."""
_OPEN_END = 0.04
"""An object goes on beyond reach if this share of its own pixels lies at the limit of reach."""
_MIN_CHANGED = 0.5
"""Share of an object's pixels that must have changed visibly: else it is still there, or was never to be seen."""
_SEEDS = 48
_SAME_COLOR = 12
"""Lab values (8 bit) that differ less are one colour."""
_GOES_ON = 0.08
"""Share of the mask's area that may lie beyond the hole in the colour of the object's inside."""


@dataclass(frozen=True)
class Extent:
    """How far an object reaches in a picture.

    Attributes:
        region: (H, W) bool, the mask and what hangs together with it.
        bounded: it ends within reach; otherwise parts of it are missing in ``region``, or it cannot be told from
            what is around it.
    """

    region: np.ndarray
    bounded: bool


def object_extent(frame: FrameVisibility, color: np.ndarray, mask: np.ndarray, others: Sequence[int]) -> Extent:
    """Follow an object beyond its mask.

    Args:
        frame: visibility of the view, on the grid of ``color``.
        color: (H, W, 3) uint8 RGB.
        mask: (H, W) bool, not empty.
        others: ids of other things, which it does not grow over.
    """
    h, w = mask.shape
    reach = _REACH * float(np.hypot(h, w))
    u0, v0, u1, v1 = mask_box(mask)
    pad = int(np.ceil(1.5 * reach))
    part = (slice(max(0, v0 - pad), v1 + pad + 1), slice(max(0, u0 - pad), u1 + pad + 1))
    scale = min(1.0, _SIDE / max(mask[part].shape))
    own = mask[part]
    beyond = cv2.distanceTransform((~own).astype(np.uint8), cv2.DIST_L2, 3)
    labels = _labels(frame, mask, part, others, reach, beyond)
    size = (max(8, round(labels.shape[1] * scale)), max(8, round(labels.shape[0] * scale)))
    small = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    picture = cv2.resize(np.ascontiguousarray(color[part]), size, interpolation=cv2.INTER_AREA)
    if not (small == cv2.GC_FGD).any() or not np.isin(small, (cv2.GC_BGD, cv2.GC_PR_BGD)).any():
        return Extent(mask.copy(), True)
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(picture, small, (0, 0, picture.shape[1], picture.shape[0]), *models, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    found = ((small == cv2.GC_FGD) | (small == cv2.GC_PR_FGD)).astype(np.uint8)
    grown = cv2.resize(found, labels.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    region = mask.copy()
    region[part] |= _hanging_together(grown | own, own)
    at_the_limit = np.count_nonzero(region[part] & (beyond > 0.8 * reach))
    return Extent(region, bool(at_the_limit <= _OPEN_END * np.count_nonzero(own)))


def _labels(
    frame: FrameVisibility, mask: np.ndarray, part, others: Sequence[int], reach: float, beyond: np.ndarray
) -> np.ndarray:
    """What GrabCut is told of each pixel of a window: (h, w) uint8 of its GC_* constants.

    Args:
        beyond: (h, w) distance from the mask [pixel].
    """
    own = mask[part]
    margin = _REGISTRATION_PX * mask.shape[1] / 640
    labels = np.full(own.shape, cv2.GC_PR_BGD, np.uint8)
    measured, mesh = frame.sensor_depth(part), frame.zbuffer.depth[part]
    limit = frame.config.tolerance.at(mesh)
    known = (measured > 0) & (mesh > 0)
    on_object = np.median(mesh[own])
    step = max(0.05, 0.03 * float(on_object))
    nearest = _nearest_depth(np.where(own, mesh, 0), int(np.ceil(reach)))
    # Something stands there that the mesh lacks, about as far away as the object.
    labels[known & (measured < mesh - limit) & (np.abs(measured - nearest) < step)] = cv2.GC_PR_FGD
    behind = known & (np.abs(measured - mesh) <= limit) & (measured > nearest + step)
    labels[behind & (beyond > margin)] = cv2.GC_BGD
    labels[(np.isin(frame.zbuffer.ids[part], np.asarray(others, np.int32)) & (beyond > margin)) | (beyond > reach)] = (
        cv2.GC_BGD
    )
    labels[own] = cv2.GC_PR_FGD
    core = cv2.distanceTransform(np.pad(own, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    labels[core > min(margin, 0.5 * float(core.max()))] = cv2.GC_FGD
    return labels


def _nearest_depth(depth: np.ndarray, reach: int) -> np.ndarray:
    """(h, w) depth of the object as it would go on around itself: its farthest depth within reach, by rows of boxes."""
    size = 2 * reach + 1
    spread = cv2.dilate(depth, cv2.getStructuringElement(cv2.MORPH_RECT, (size, size)))
    return np.where(depth > 0, depth, spread)


def _hanging_together(found: np.ndarray, own: np.ndarray) -> np.ndarray:
    """The components of ``found`` that share pixels with ``own``, (h, w) bool."""
    _, components = cv2.connectedComponents(found.astype(np.uint8), connectivity=8)
    return found & np.isin(components, np.unique(components[own]))


def changed_pixels(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(...,) bool: where two pictures (..., 3) uint8 differ so much that one sees it."""
    return np.abs(before.astype(np.int16) - after).max(axis=-1, initial=0) > 25


def why_object_remains(
    before: np.ndarray, after: np.ndarray, mask: np.ndarray, hole: np.ndarray, extent: Extent
) -> str | None:
    """Why a painted picture may still show the object, None if it does not.

    Args:
        before, after: (H, W, 3) uint8 RGB, the original and the painted picture.
        mask, hole: (H, W) bool, where the mesh shows the object, and what was painted over.
    """
    if not extent.bounded or _goes_on(before, mask, hole):
        return "object_goes_on"
    changed = changed_pixels(before[extent.region], after[extent.region])
    return "object_remains" if changed.mean() < _MIN_CHANGED else None


def _goes_on(color: np.ndarray, mask: np.ndarray, hole: np.ndarray) -> bool:
    """Does a patch of the object's inside go on, in its own colour, beyond the hole?"""
    u0, v0, u1, v1 = mask_box(hole)
    pad = max(u1 - u0, v1 - v0) // 2 + 8
    part = (slice(max(0, v0 - pad), v1 + pad + 1), slice(max(0, u0 - pad), u1 + pad + 1))
    scale = min(1.0, _SIDE / max(mask[part].shape))
    size = (max(8, round(mask[part].shape[1] * scale)), max(8, round(mask[part].shape[0] * scale)))
    picture = cv2.resize(np.ascontiguousarray(color[part]), size, interpolation=cv2.INTER_AREA)
    picture = cv2.cvtColor(cv2.medianBlur(picture, 3), cv2.COLOR_RGB2LAB)
    own, inside = (cv2.resize(m[part].astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) for m in (mask, hole))
    depth = cv2.distanceTransform(np.pad(own, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    margin = _REGISTRATION_PX * mask.shape[1] / 640 * scale
    rows, columns = np.nonzero(depth > min(margin, 0.4 * float(depth.max())))
    found = np.zeros((size[1] + 2, size[0] + 2), np.uint8)
    flags = 8 | cv2.FLOODFILL_FIXED_RANGE | cv2.FLOODFILL_MASK_ONLY | (1 << 8)
    for k in np.linspace(0, len(rows) - 1, min(_SEEDS, len(rows))).round().astype(int):
        if not found[rows[k] + 1, columns[k] + 1]:
            seed = (int(columns[k]), int(rows[k]))
            cv2.floodFill(picture, found, seed, 0, (_SAME_COLOR,) * 3, (_SAME_COLOR,) * 3, flags)
    outside = np.count_nonzero(found[1:-1, 1:-1] & (inside == 0))
    return bool(outside > _GOES_ON * np.count_nonzero(own))
