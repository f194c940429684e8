"""Two views and their stated relative pose -> the refined pose, its covariance, and a verdict with its reasons."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from roboref_core.geometry.pose import adjoint, inverse, logarithm, rotation_angle, transform
from roboref_core.views.registration.features import FeatureCache, Surface, ViewFeatures
from roboref_core.views.registration.matching import match, pose_of_matches
from roboref_core.views.registration.refine import Keypoints, Refined, agreement, keypoints_of, refine
from roboref_core.views.view import View

_SYSTEMATIC = 4.0
"""Variance of shared errors, in squares of what colour and depth are seen to disagree by. Tuned on a Kinect whose two
images are not aligned (7-Scenes RedKitchen): they share part of their errors, so the visible part is too small."""


class Verdict(Enum):
    """What became of a registration."""

    REGISTERED = "registered"
    """The pictures determine the pose, and their surfaces agree in it."""
    UNCONSTRAINED = "unconstrained"
    """Too little overlap, texture or depth to say more than was stated."""
    REJECTED = "rejected"
    """What the pictures suggest contradicts the stated pose, or does not make the surfaces agree."""


@dataclass(frozen=True)
class RegistrationConfig:
    """When a registration is believed.

    Attributes:
        min_inliers: matched keypoints that support a pose.
        min_inliers_unposed: the same, where no pose was stated.
        min_share: share of all matches that must support a pose where none was stated, or where it deviates from the
            stated one by more than ``doubted_deviation``: repeated texture matches in several ways.
        min_pairs: comparable surface points, of some 4,000, without which surfaces say nothing.
        min_agreement: share of comparable surface points that must lie on the other surface.
        doubted_deviation, max_deviation: largest correction without ``min_share``, and at all, in standard deviations
            of the stated pose (Mahalanobis).
        covariance_scale: factor of the formal covariance; errors of neighbouring pixels are not independent.
    """

    min_inliers: int = 10
    min_inliers_unposed: int = 16
    min_share: float = 0.4
    min_pairs: int = 300
    min_agreement: float = 0.5
    doubted_deviation: float = 4.0
    max_deviation: float = 8.0
    covariance_scale: float = 2.0


@dataclass(frozen=True, eq=False)
class Registration:
    """Attributes:
    verdict: whether ``T_query_reference`` is better than what was stated.
    T_query_reference: 4x4; as stated unless REGISTERED, None if nothing was stated and nothing found.
    covariance: (6, 6) of its error as a twist (translation [m], rotation [rad]) in the query's frame, or None.
    systematic: (6, 6) the part of it that every registration of the two views has in common; zeros where none is seen.
    inliers: matched keypoints that agree with it.
    pairs: surface points that could be compared.
    agreement, stated_agreement: share of those on the other surface now, and in the stated pose.
    deviation: correction in standard deviations of the stated pose; NaN without one.
    correction: (distance [m], angle [rad]) between stated and registered pose; NaN without a stated one.
    """

    verdict: Verdict
    T_query_reference: np.ndarray | None
    covariance: np.ndarray | None
    inliers: int = 0
    pairs: int = 0
    agreement: float = float("nan")
    stated_agreement: float = float("nan")
    deviation: float = float("nan")
    correction: tuple[float, float] = (float("nan"), float("nan"))
    systematic: np.ndarray = field(default_factory=lambda: np.zeros((6, 6)))

    def then(self, second: Registration) -> Registration:
        """This registration of a to b and one of b to c as one of a to c; both must be REGISTERED."""
        assert self.T_query_reference is not None and second.T_query_reference is not None
        assert self.covariance is not None and second.covariance is not None
        Ad = adjoint(second.T_query_reference)
        return Registration(
            Verdict.REGISTERED,
            second.T_query_reference @ self.T_query_reference,
            second.covariance + Ad @ self.covariance @ Ad.T,
            min(self.inliers, second.inliers),
            min(self.pairs, second.pairs),
            min(self.agreement, second.agreement),
            systematic=second.systematic + Ad @ self.systematic @ Ad.T,
        )


def relative_covariance(T_query_reference: np.ndarray, translation_sigma: float, rotation_sigma: float) -> np.ndarray:
    """(6, 6) of a relative pose whose two camera poses err independently by so much per axis [m, rad], as a twist
    in the query's frame.
    """
    own = np.diag([translation_sigma**2] * 3 + [rotation_sigma**2] * 3)
    Ad = adjoint(T_query_reference)
    return own + Ad @ own @ Ad.T


def register(
    reference: View,
    query: View,
    cache: FeatureCache,
    translation_sigma: float,
    rotation_sigma: float,
    config: RegistrationConfig | None = None,
) -> Registration:
    """Register two views by their colour and depth.

    Poses without error (both sigmas 0) are returned as they are. Without a pose in either view, or in different world
    frames, features alone must suffice.

    Args:
        translation_sigma, rotation_sigma: error of each camera pose, per axis [m, rad].
    Raises:
        ImageError: a picture cannot be decoded.
    """
    config = config or RegistrationConfig()
    stated = None
    if (
        reference.T_world_camera is not None
        and query.T_world_camera is not None
        and reference.world_frame == query.world_frame
    ):
        stated = inverse(query.T_world_camera) @ reference.T_world_camera
        if translation_sigma == 0 and rotation_sigma == 0:
            return Registration(Verdict.UNCONSTRAINED, stated, np.zeros((6, 6)), correction=(0.0, 0.0), deviation=0.0)
    prior = None
    if stated is not None:
        prior = relative_covariance(stated, max(translation_sigma, 1e-4), max(rotation_sigma, 1e-4))
    return _Attempt(reference, query, cache.of(reference), cache.of(query), stated, prior, config).best()


class _Attempt:
    """One pair of views: candidates of a pose, and which of them is believed."""

    def __init__(
        self,
        reference: View,
        query: View,
        features: ViewFeatures,
        query_features: ViewFeatures,
        stated: np.ndarray | None,
        prior: np.ndarray | None,
        config: RegistrationConfig,
    ):
        self._a, self._b, self._config = features, query_features, config
        self._stated, self._prior = stated, prior
        self._camera = query.camera
        self._information = None if prior is None else np.linalg.inv(prior)

    def best(self) -> Registration:
        a, b, stated = self._a, self._b, self._stated
        matched = match(a, b, self._camera, stated, self._prior)
        found = pose_of_matches(a, b, self._camera, matched, stated)
        needed: float = self._config.min_inliers
        if stated is None:
            needed = max(self._config.min_inliers_unposed, self._config.min_share * len(matched))
        starts: list[tuple[np.ndarray, np.ndarray | None]] = []
        if found is not None and len(found[1]) >= needed and self._plausible(found[0]):
            starts.append(found)
        elif stated is not None:
            starts.append((stated, None))
        candidates = [self._candidate(T, inliers, len(matched)) for T, inliers in starts]
        if not candidates:
            return Registration(Verdict.UNCONSTRAINED, stated, self._prior)
        return max(candidates, key=lambda candidate: (candidate.verdict is Verdict.REGISTERED, candidate.agreement))

    def _plausible(self, T: np.ndarray) -> bool:
        return self._stated is None or self._deviation(T) <= 2 * self._config.max_deviation

    def _deviation(self, T: np.ndarray) -> float:
        if self._stated is None or self._information is None:
            return float("nan")
        twist = logarithm(T @ inverse(self._stated))
        return float(np.sqrt(twist @ self._information @ twist))

    def _candidate(self, T: np.ndarray, inliers: np.ndarray | None, matches: int) -> Registration:
        a, b, config = self._a, self._b, self._config
        keypoints = None
        if inliers is not None:
            keypoints = keypoints_of(a.points[inliers[:, 0]], b.rays[inliers[:, 1]], self._camera)
        gate = 0.0
        if keypoints is None and self._prior is not None:
            gate = 3.0 * float(
                np.sqrt(self._prior[:3, :3].trace() / 3) + 2.0 * np.sqrt(self._prior[3:, 3:].trace() / 3)
            )
        refined = refine(T, a.surface, b.surface, keypoints, self._stated, self._information, min(gate, 0.6))
        share = stated_share = float("nan")
        pairs = 0
        if a.surface is not None and b.surface is not None:
            share, pairs = agreement(refined.T, a.surface, b.surface)
            if self._stated is not None:
                stated_share, _ = agreement(self._stated, a.surface, b.surface)
        count = 0 if inliers is None else len(inliers)
        verdict = self._verdict(refined, count, matches, pairs, share, stated_share)
        kept, covariance, systematic = self._stated, self._prior, np.zeros((6, 6))
        if verdict is Verdict.REGISTERED:
            if keypoints is not None and a.surface is not None:
                systematic = self._systematic(refined, keypoints, a.surface)
            kept = refined.T
            covariance = config.covariance_scale * np.linalg.inv(refined.information + 1e-6 * np.eye(6)) + systematic
        correction = (float("nan"), float("nan"))
        if self._stated is not None:
            change = refined.T @ inverse(self._stated)
            correction = (float(np.linalg.norm(change[:3, 3])), rotation_angle(change))
        return Registration(
            verdict,
            kept,
            covariance,
            count,
            pairs,
            share,
            stated_share,
            self._deviation(refined.T),
            correction,
            systematic,
        )

    def _systematic(self, refined: Refined, keypoints: Keypoints, surface: Surface) -> np.ndarray:
        """(6, 6) covariance of what colour and depth disagree about: their calibration, and depth that is off.

        Keypoints alone and keypoints with surfaces give two poses. How far these put the same points apart is the
        size of errors that all pixels share, and that their number does not reduce.
        """
        alone = refine(refined.T, None, None, keypoints, self._stated, self._information, 0.0)
        points = surface.points[:: max(len(surface.points) // 200, 1)]
        seen = transform(refined.T, points)
        apart = float(np.median(np.linalg.norm(transform(alone.T, points) - seen, axis=1)))
        depth = float(np.median(points[:, 2]))
        variance = _SYSTEMATIC * apart**2
        return np.diag([variance] * 3 + [variance / depth**2] * 3)

    def _verdict(
        self, refined: Refined, inliers: int, matches: int, pairs: int, share: float, stated_share: float
    ) -> Verdict:
        config = self._config
        enough = pairs >= config.min_pairs
        if inliers < config.min_inliers and not (enough and self._constrained(refined)):
            return Verdict.UNCONSTRAINED
        deviation = self._deviation(refined.T)
        if deviation > config.max_deviation:
            return Verdict.REJECTED
        if deviation > config.doubted_deviation and inliers < config.min_share * matches:
            return Verdict.REJECTED
        if enough and share < max(config.min_agreement, 0.0 if np.isnan(stated_share) else stated_share - 0.05):
            return Verdict.REJECTED
        return Verdict.REGISTERED

    def _constrained(self, refined: Refined) -> bool:
        """Whether the pictures say more than the prior in at least three directions (a plane fixes three)."""
        if self._prior is None:
            return False
        L = np.linalg.cholesky(self._prior)
        return int((np.linalg.eigvalsh(L.T @ refined.measured @ L) > 4.0).sum()) >= 3
