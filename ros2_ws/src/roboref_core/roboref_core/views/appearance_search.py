"""A thing that is no longer where it was marked, looked for by its appearance in another view.

Features whose positions one rigid motion explains find what is textured; colour and size find what is plain. What an
earlier view saw at the same place already is not the thing: it stood elsewhere then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from roboref_core.geometry.pose import inverse, transform
from roboref_core.views.marked_thing import Samples, Thing, sample, thing_at
from roboref_core.views.registration.features import FeatureCache, ViewFeatures
from roboref_core.views.registration.matching import match, pose_of_matches
from roboref_core.views.view import View, valid_depth

_MIN_FEATURES = 7
_MIN_INLIER_SHARE = 0.4
_SAME_SURFACE = (0.03, 0.02)
"""Depths up to base + slope * depth apart are the same surface [m, m/m]."""
_BINS = np.array([5.0, 4.0, 4.0])
"""Widths of a colour histogram's cells in CIE Lab, lightness four times as coarse."""
_SEEN_NEW = 0.3
"""Share of a surface through which an earlier view looked that makes it new."""
_NEW, _UNSEEN = (0.65, 2.2), (0.85, 1.5)
"""Least similarity of colours in [0, 1], and largest factor between lengths (a thing is seen from another side), of
surfaces that are new and of such that no earlier view could see."""
_COMMON = 20.0
"""What is of the thing's colours in its own view, in areas of the thing: beyond it only a new surface counts."""
_CLEAR = 1.25
"""The best place must score this much more than the second."""


@dataclass(frozen=True, eq=False)
class Sighting:
    """Where a thing was found, or why not.

    Attributes:
        pixel: (u, v) in the colour image of the searched view; None if it was not found.
        score: in [0, 1].
        reason: why it was not found; empty if it was.
        T_searched_reference: 4x4, carries points of the thing from the optical frame of the view that it was marked in
            into that of the searched one; None where only its place is known.
        point: (3,) what the pixel shows, in the optical frame of the searched view [m]; None if it was not found.
        pixel_sigma: standard deviation of the pixel.
        extent: standard deviation, along any axis, of the points of the thing around what the pixel shows: the marked
            one may be any of them [m]; 0 where the pixel is of the marked point.
        stayed: it was found where it was marked.
    """

    pixel: tuple[float, float] | None
    score: float = 0.0
    reason: str = ""
    T_searched_reference: np.ndarray | None = None
    point: np.ndarray | None = None
    pixel_sigma: float = 2.0
    extent: float = 0.0
    stayed: bool = False


def find_by_appearance(
    reference: View,
    pixel: tuple[float, float],
    searched: View,
    cache: FeatureCache,
    box: tuple[float, float, float, float] | None = None,
    earlier: Sequence[View] = (),
) -> Sighting:
    """Look in ``searched`` for what is marked in ``reference``.

    Args:
        pixel: (u, v) of the mark.
        box: (u_min, v_min, u_max, v_max) of a marked box.
        earlier: further views from before the thing was moved. They and ``reference`` tell what stood in the searched
            view then, where both have poses in one world frame.
    Raises:
        ImageError: a picture cannot be decoded.
    """
    if not reference.has_depth or not searched.has_depth:
        return Sighting(None, reason="both views need depth")
    thing = thing_at(reference, pixel, box)
    samples = sample(searched)
    seen = [view for view in (reference, *earlier) if _comparable(view, searched)]
    was_there, was_not = _stood_there(samples, searched, seen)
    features = cache.of(reference)
    own = _inside(features.pixels, thing, box)
    if own.sum() >= _MIN_FEATURES:
        features = replace(features, points=np.where(own[:, None], features.points, np.nan))
        found = _by_features(thing, features, cache.of(searched), pixel, samples, searched, was_there)
        if found is not None:
            return replace(found, stayed=_stayed(found, thing, pixel, reference, searched))
    if thing.reason:
        return Sighting(None, reason=thing.reason)
    found = _by_color(thing, samples, was_there, was_not)
    return replace(found, stayed=_stayed(found, thing, pixel, reference, searched))


def _comparable(view: View, searched: View) -> bool:
    posed = view.T_world_camera is not None and searched.T_world_camera is not None
    return posed and view.has_depth and view.world_frame == searched.world_frame


def _stood_there(samples: Samples, searched: View, earlier: Sequence[View]) -> tuple[np.ndarray, np.ndarray]:
    """(h, w) bool: surfaces of the searched view that an earlier one saw as well, and such that it saw through."""
    h, w = samples.edges.shape
    same, through = np.zeros((h, w), dtype=bool), np.zeros((h, w), dtype=bool)
    known = np.isfinite(samples.points[..., 2])
    for view in earlier:
        assert view.T_world_camera is not None and searched.T_world_camera is not None and view.depth is not None
        points = transform(inverse(view.T_world_camera) @ searched.T_world_camera, samples.points[known])
        pixels = np.nan_to_num(view.depth_camera.project(points), nan=-9.0)
        u, v = np.rint(pixels).astype(np.int64).T
        inside = np.flatnonzero(view.depth_camera.contains(pixels) & (points[:, 2] > 0))
        depth = view.depth[v[inside].clip(0, view.depth.shape[0] - 1), u[inside].clip(0, view.depth.shape[1] - 1)]
        off = np.where(valid_depth(depth), depth.astype(np.float64), np.nan) - points[inside, 2]
        limit = _SAME_SURFACE[0] + _SAME_SURFACE[1] * points[inside, 2]
        rows, columns = np.nonzero(known)
        same[rows[inside], columns[inside]] |= np.abs(off) <= limit
        through[rows[inside], columns[inside]] |= off > 2 * limit
    return same, through


def _inside(pixels: np.ndarray, thing: Thing, box: tuple[float, float, float, float] | None) -> np.ndarray:
    """(K,) whether pixels lie in a marked box or, without one, on the thing or its outline."""
    import cv2

    if box is not None:
        return np.asarray(((pixels >= box[:2]) & (pixels <= box[2:])).all(axis=1))
    if thing.reason:
        return np.zeros(len(pixels), dtype=bool)
    wide = cv2.dilate(thing.mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    return np.array([wide[thing.samples.at((float(u), float(v)))] for u, v in pixels], dtype=bool)


def _by_features(
    thing: Thing,
    reference: ViewFeatures,
    features: ViewFeatures,
    pixel: tuple[float, float],
    samples: Samples,
    searched: View,
    was_there: np.ndarray,
) -> Sighting | None:
    """Where one rigid motion carries most matched features of the thing, which the depth there confirms."""
    matched = match(reference, features, searched.camera, None, None)
    solved = pose_of_matches(reference, features, searched.camera, matched, None)
    if solved is None or len(solved[1]) < max(_MIN_FEATURES, _MIN_INLIER_SHARE * len(matched)):
        return None
    T, inliers = solved
    carried = transform(T, reference.points[inliers[:, 0]])
    measured = features.points[inliers[:, 1]]
    near = np.linalg.norm(carried - measured, axis=1) <= _SAME_SURFACE[0] + _SAME_SURFACE[1] * carried[:, 2]
    known = np.isfinite(measured).all(axis=1)
    there = [was_there[samples.at((float(u), float(v)))] for u, v in features.pixels[inliers[:, 1]]]
    if known.sum() < 4 or near[known].mean() < 0.6 or np.mean(there) > 0.5:
        return None
    marked = _marked_point(thing, pixel)
    if marked is None:
        marked = np.median(reference.points[inliers[:, 0]], axis=0)
    place = searched.camera.project(transform(T, marked)[None])
    if not searched.camera.contains(place)[0]:
        return Sighting(None, reason="the marked part of it lies outside the picture", T_searched_reference=T)
    score = len(inliers) / (len(inliers) + _MIN_FEATURES)
    extent = 0.0 if _marked_point(thing, pixel) is not None else _extent(reference.points[inliers[:, 0]], marked)
    seen = transform(T, marked)
    return Sighting((float(place[0, 0]), float(place[0, 1])), score, T_searched_reference=T, point=seen, extent=extent)


def _marked_point(thing: Thing, pixel: tuple[float, float]) -> np.ndarray | None:
    """(3,) in the optical frame of the mark's view [m]; None without depth."""
    marked = thing.samples.points[thing.samples.at(pixel)]
    return marked if np.isfinite(marked).all() else None


def _extent(points: np.ndarray, around: np.ndarray) -> float:
    """Standard deviation of (N, 3) points around one of them, along the axis that has most [m]."""
    off = points - around
    return float(np.sqrt(np.linalg.eigvalsh(off.T @ off / len(off))[-1]))


def _stayed(found: Sighting, thing: Thing, pixel: tuple[float, float], reference: View, searched: View) -> bool:
    """Whether what was found stands where the mark was made, as far as the stated or registered poses tell."""
    marked = _marked_point(thing, pixel)
    if marked is None or found.point is None or not _comparable(reference, searched):
        return False
    assert reference.T_world_camera is not None and searched.T_world_camera is not None
    expected = transform(inverse(searched.T_world_camera) @ reference.T_world_camera, marked)
    limit = _SAME_SURFACE[0] + _SAME_SURFACE[1] * expected[2] + 2 * found.extent
    return bool(np.linalg.norm(found.point - expected) <= limit)


def _by_color(thing: Thing, samples: Samples, was_there: np.ndarray, was_not: np.ndarray) -> Sighting:
    """The connected surface of the thing's colours and size, where nothing stood before."""
    import cv2

    histogram = _histogram(thing.samples.lab[thing.mask])
    likely = _likelihood(samples.lab, histogram)
    alike = _likelihood(thing.samples.lab, histogram) & ~thing.mask
    common = alike.sum() > _COMMON * thing.mask.sum()
    open_ = likely & ~was_there & ~samples.edges & np.isfinite(samples.points[..., 2])
    open_ = cv2.morphologyEx(open_.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, labels = cv2.connectedComponents(open_, connectivity=8)
    wanted = _lengths(thing.samples.points[thing.mask])
    found: list[tuple[float, np.ndarray]] = []
    for label in range(1, count):
        mask = labels == label
        if mask.sum() < 40:
            continue
        lengths = _lengths(samples.points[mask])
        ratio = float(np.max(np.maximum(lengths / wanted, wanted / lengths)[:2]))
        similar = float(np.minimum(histogram, _histogram(samples.lab[mask])).sum())
        new = float(was_not[mask].mean())
        if new >= _SEEN_NEW:
            least, most = _NEW
        elif common or _cut_off(mask):
            continue
        else:
            least, most = _UNSEEN
        if similar >= least and ratio <= most:
            found.append((float(similar * (0.5 + 0.5 * new) / np.sqrt(ratio)), mask))
    if not found:
        return Sighting(None, reason="nothing of its colours and size stands where nothing stood before")
    found.sort(key=lambda one: -one[0])
    if len(found) > 1 and found[0][0] < _CLEAR * found[1][0]:
        return Sighting(None, found[0][0], f"{len(found)} places look alike")
    score, mask = found[0]
    # Well inside the outline, not the middle, which may lie beside a bent thing.
    inside = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    row, column = np.unravel_index(int(inside.argmax()), inside.shape)
    radius = samples.step * float(np.sqrt(mask.sum() / np.pi))
    extent = _extent(samples.points[mask], samples.points[row, column])
    # Of a point anywhere on a disc, along each axis.
    return Sighting(
        samples.pixel(float(row), float(column)),
        score,
        point=samples.points[row, column],
        pixel_sigma=radius / 2,
        extent=extent,
    )


def _cut_off(mask: np.ndarray) -> bool:
    """Whether the border of the picture cuts it off: its size is not known then."""
    return bool(mask[[0, 1, -2, -1]].any() or mask[:, [0, 1, -2, -1]].any())


def _lengths(points: np.ndarray) -> np.ndarray:
    """(3,) extents of points along their principal axes [m], largest first; at least 1 cm."""
    spread = np.linalg.eigvalsh(np.cov(points.T))[::-1]
    return np.maximum(np.sqrt(12.0 * np.maximum(spread, 0.0)), 0.01)


def _cells(lab: np.ndarray) -> np.ndarray:
    """(N, 3) cells of colours in a histogram of 8 x 64 x 64."""
    cells = np.floor((lab + np.array([0.0, 128.0, 128.0])) / (_BINS * np.array([4.0, 1.0, 1.0]))).astype(np.int64)
    return cells.clip(0, np.array([7, 63, 63]))


def _histogram(lab: np.ndarray) -> np.ndarray:
    """Smoothed shares of colours, (8, 64, 64) with sum 1."""
    import cv2

    cells = _cells(lab.reshape(-1, 3))
    counts = np.zeros((8, 64, 64), np.float32)
    np.add.at(counts, tuple(cells.T), 1.0)
    smooth = np.stack([cv2.GaussianBlur(layer, (5, 5), 1.0) for layer in counts])
    smooth[1:-1] = 0.25 * smooth[:-2] + 0.5 * smooth[1:-1] + 0.25 * smooth[2:]
    return smooth / max(float(smooth.sum()), 1e-9)


def _likelihood(lab: np.ndarray, histogram: np.ndarray) -> np.ndarray:
    """(h, w) bool: colours that the thing has more of than a sixteenth of its commonest."""
    values = histogram[tuple(_cells(lab.reshape(-1, 3)).T)].reshape(lab.shape[:2])
    return values > histogram.max() / 16
