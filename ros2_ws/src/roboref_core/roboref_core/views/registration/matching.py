"""Which keypoints of two views are the same, and the relative pose that most of them agree on."""

from __future__ import annotations

import numpy as np

from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import pose, transform
from roboref_core.views.registration.features import ViewFeatures

_RATIO = 0.85
# Cosine of two descriptors below which they are of different things.
_MIN_SIMILARITY = 0.6
# Beyond this a prior no longer narrows the search [pixel].
_WIDEST_GATE = 250.0
_NARROWEST_GATE = 25.0
# Keypoints nearer than this are of one thing, at several scales or orientations [pixel].
_SAME = 6.0
# Reprojection error of an inlier [pixel of a 640 pixels wide picture].
_INLIER = 3.0
_ROUNDS = 200


def match(
    reference: ViewFeatures, query: ViewFeatures, camera: Camera, T_prior: np.ndarray | None, sigma: np.ndarray | None
) -> np.ndarray:
    """(M, 2) indices of keypoints with depth in ``reference`` and of their likely counterparts in ``query``.

    Mutual nearest neighbours in appearance that pass Lowe's ratio test.

    Args:
        camera: of the query's colour image.
        T_prior: 4x4 T_query_reference as stated; None: nothing is known.
        sigma: (6, 6) covariance of its error as a twist in the query's frame.
    """
    located = np.flatnonzero(np.isfinite(reference.points).all(axis=1))
    if len(located) < 4 or len(query.descriptors) < 2:
        return np.zeros((0, 2), dtype=np.int64)
    gate = None
    predicted = np.zeros((0, 2))
    if T_prior is not None and sigma is not None:
        points = transform(T_prior, reference.points[located])
        predicted = camera.project(points)
        spread = _pixel_spread(points, camera, sigma)
        gate = np.clip(3.5 * spread, _NARROWEST_GATE, None)
        # What surely lies outside the picture has no counterpart.
        margin = np.minimum(gate, _WIDEST_GATE)
        seen = (predicted > -margin[:, None]).all(axis=1)
        seen &= (predicted[:, 0] < camera.width + margin) & (predicted[:, 1] < camera.height + margin)
        located, predicted, gate = located[seen], predicted[seen], gate[seen]
        if len(located) < 4:
            return np.zeros((0, 2), dtype=np.int64)
    similarity = reference.descriptors[located] @ query.descriptors.T
    if gate is not None and np.median(gate) < _WIDEST_GATE:
        # Only what lies within the gate competes: repeated texture elsewhere does no harm.
        at, seen_at = predicted.astype(np.float32), query.pixels.astype(np.float32)
        limit = gate.astype(np.float32)[:, None]
        far = np.abs(at[:, :1] - seen_at[:, 0]) > limit
        far |= np.abs(at[:, 1:] - seen_at[:, 1]) > limit
        similarity[far] = -1.0
    rows = np.arange(len(located))
    best = similarity.argmax(axis=1)
    top = similarity[rows, best]
    mutual = similarity.argmax(axis=0)[best] == rows
    similarity[rows, best] = -1.0
    second = similarity.max(axis=1)
    # Squared distances of unit vectors are 2 - 2 a.b.
    good = np.flatnonzero(mutual & (top > _MIN_SIMILARITY) & (1.0 - top < _RATIO**2 * (1.0 - second)))
    reach = None if gate is None else np.minimum(gate[good], _WIDEST_GATE)
    unique = ~_doubled(query, best[good], top[good], reach) & ~_doubled(reference, located[good], top[good], reach)
    return np.stack([located[good], best[good]], axis=1)[unique]


def _doubled(
    features: ViewFeatures, chosen: np.ndarray, similarity: np.ndarray, reach: np.ndarray | None
) -> np.ndarray:
    """(M,) whether a keypoint looks more like another one of its own picture than like its counterpart.

    Tiles, shelves and wallpapers repeat: under another perspective a neighbour passes for the counterpart, and the
    ratio test, which compares across the views, does not see it.

    Args:
        chosen: (M,) indices of keypoints.
        similarity: (M,) of each to its counterpart.
        reach: (M,) distance within which a double could be taken for it [pixel]; None: anywhere.
    """
    own = features.descriptors[chosen] @ features.descriptors.T
    rows, others = np.nonzero(own > similarity[:, None])
    distance = np.linalg.norm(features.pixels[chosen[rows]] - features.pixels[others], axis=1)
    double = distance >= _SAME
    if reach is not None:
        double &= distance <= reach[rows]
    doubled = np.zeros(len(chosen), dtype=bool)
    doubled[rows[double]] = True
    return doubled


def _pixel_spread(points: np.ndarray, camera: Camera, sigma: np.ndarray) -> np.ndarray:
    """(N,) standard deviation [pixel] that an error of the relative pose gives to projected points."""
    z = np.maximum(points[:, 2], 0.2)
    reach = np.linalg.norm(points, axis=1)
    translation = np.sqrt(np.trace(sigma[:3, :3]) / 3)
    rotation = np.sqrt(np.trace(sigma[3:, 3:]) / 3)
    return camera.fx * (translation / z + rotation * np.maximum(reach / z, 1.0))


def pose_of_matches(
    reference: ViewFeatures, query: ViewFeatures, camera: Camera, matched: np.ndarray, T_start: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray] | None:
    """4x4 T_query_reference and the (I, 2) matches that agree with it; None if there is none.

    Perspective-n-point with RANSAC on undistorted rays.
    """
    import cv2

    if len(matched) < 6:
        return None
    focal = camera.fx
    points = np.ascontiguousarray(reference.points[matched[:, 0]])
    rays = np.ascontiguousarray(query.rays[matched[:, 1]] * focal)
    K = np.diag([focal, focal, 1.0])
    cv2.setRNGSeed(1)
    error = _INLIER * max(1.0, camera.width / 640.0)
    start = np.eye(4) if T_start is None else T_start
    solved, rotation, translation, inliers = cv2.solvePnPRansac(
        points,
        rays,
        K,
        None,
        rvec=np.asarray(cv2.Rodrigues(start[:3, :3])[0], dtype=np.float64),
        tvec=start[:3, 3:].copy(),
        useExtrinsicGuess=T_start is not None,
        iterationsCount=_ROUNDS,
        reprojectionError=error,
        confidence=0.999,
    )
    if not solved or inliers is None or len(inliers) < 6:
        return None
    return pose(np.asarray(cv2.Rodrigues(rotation)[0]), np.ravel(translation).tolist()), matched[inliers[:, 0]]
