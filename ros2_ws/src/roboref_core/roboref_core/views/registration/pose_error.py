"""How far undeclared camera poses are off, learned from the surfaces of overlapping views.

Errors of odometry add up along the way, those of a jittering localisation do not: how far the surfaces of two views lie
apart is compared with the way that the camera went between them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from roboref_core.geometry.pose import inverse
from roboref_core.views.registration.pair_memory import PairMemory
from roboref_core.views.registration.registrar import Registrar
from roboref_core.views.view import ImageError, View

_SPREAD = 1.4826
"""Standard deviation of a Gaussian in medians of its magnitude."""
_JITTERS = np.concatenate([[0.0], np.geomspace(0.002, 0.08, 12) ** 2])
_DRIFTS = np.concatenate([[0.0], np.geomspace(0.0015, 0.06, 16) ** 2])
"""Variances that are considered: of one pose [m^2], and growth along the way [m^2/m]."""
_NOISES = np.geomspace(0.35, 1.0, 7)
"""Noise of the sensor that is considered, as a share of what depth sensors of this kind have."""
_PRIOR_ZERO = 0.5
"""Probability, before anything was seen, that poses have no jitter, and that they have no drift."""
_TAIL = 4.0
"""Degrees of freedom of Student's t, as which distances are spread: some pairs are of things that moved."""
_FEW_STRETCHES = 1.3
"""One walk shows its drift in about a dozen independent stretches: 3 F(3, 12) in place of the chi-squared of a known
variance, at 95 %."""
_STRIDES = (1, 2, 4, 8, 16, 32)
"""Each view is compared with those so many before it: near ones tell of jitter, far ones of drift."""
_MOST_VIEWS = 48
"""The newest views that are compared."""
_MOST_NEW = 60
"""Pairs that are compared for one question: 0.1 s, and as much for each six surfaces that nothing had needed yet."""


@dataclass(frozen=True)
class PairEvidence:
    """What one pair of views shows.

    Attributes:
        distance: median distance of their surfaces in the stated poses [m].
        noise: what the sensor's noise explains of it [m].
        way: of the camera between them [m].
    """

    distance: float
    noise: float
    way: float


@dataclass(frozen=True)
class PoseError:
    """How far stated poses put what the camera sees from where it is, as a variance along each axis.

    Attributes:
        jitter: of one pose by itself [m^2].
        drift: growth along the way [m^2/m].
        depth: of what was seen [m]: half of the variance is a shift, half a turn about the camera.
        noise: of the depth sensor, as a share of what it is taken to be; at most 1.
        pairs: of views that showed it.
    """

    jitter: float = 0.0
    drift: float = 0.0
    depth: float = 1.0
    noise: float = 1.0
    pairs: int = 0

    def between(self, way: float) -> tuple[float, float]:
        """Errors of two poses, as if they were independent, that lie so far apart: per axis of each [m, rad]."""
        return self._sigmas(self.jitter + 0.5 * self.drift * way)

    def along(self, way: float) -> np.ndarray:
        """(6, 6) covariance of the pose, as a twist in its own frame, after such a way from the world's beginning."""
        translation, rotation = self._sigmas(self.jitter + _FEW_STRETCHES * self.drift * way)
        return np.diag([translation**2] * 3 + [rotation**2] * 3)

    def _sigmas(self, variance: float) -> tuple[float, float]:
        shift = float(np.sqrt(variance / 2))
        return shift, shift / self.depth


def learn(evidence: Sequence[PairEvidence], depth: float) -> PoseError:
    """The error that pairs of views show: the mean of what is probable after them.

    Args:
        depth: of what the views see [m].
    """
    if not evidence:
        return PoseError()
    seen = np.array([(_SPREAD * one.distance) ** 2 for one in evidence])
    noise = np.array([(_SPREAD * one.noise) ** 2 for one in evidence])
    way = np.array([one.way for one in evidence])
    share, jitter, drift = np.meshgrid(_NOISES, _JITTERS, _DRIFTS, indexing="ij")
    log = np.zeros(share.shape) + _log_prior(_JITTERS)[:, None] + _log_prior(_DRIFTS)
    for distance, own, gone in zip(seen, noise, way, strict=True):
        expected = share**2 * own + 2.0 * jitter + drift * gone
        log -= 0.5 * (np.log(expected) + (_TAIL + 1.0) * np.log1p(distance / (_TAIL * expected)))
    probability = np.exp(log - log.max())
    probability /= probability.sum()
    means = [float((probability * part).sum()) for part in (jitter, drift, share)]
    return PoseError(means[0], means[1], depth, means[2], len(evidence))


def _log_prior(variances: np.ndarray) -> np.ndarray:
    """Of (N,) variances, the first of which is 0: the larger the rarer."""
    rarity = 1.0 / np.sqrt(variances[1:])
    return np.log(np.concatenate([[_PRIOR_ZERO], (1.0 - _PRIOR_ZERO) * rarity / rarity.sum()]))


class PoseErrors:
    """Learns the error of stated poses from views, whose comparison is kept for the next question.

    Safe from several threads.
    """

    def __init__(self) -> None:
        self._compared = PairMemory[_Compared]()

    def of(self, registrar: Registrar, views: Sequence[View], way: Callable[[View], float]) -> PoseError:
        """The error of the poses of views in one world.

        Views without pose or depth, or with broken images, say nothing.

        Args:
            way: of the camera from the world's beginning to a view [m].
        """
        told = [view for view in views if view.T_world_camera is not None and view.has_depth]
        told = sorted(told, key=lambda view: (view.stamp_ns, view.view_id))[-_MOST_VIEWS:]
        gone = [way(view) for view in told]
        evidence, depths, left = [], [], _MOST_NEW
        for k in reversed(range(len(told))):
            for i in (k - stride for stride in _STRIDES if stride <= k):
                found = self._held(told[i], told[k])
                if found is None:
                    if left == 0:
                        continue
                    left -= 1
                    found = self._compare(registrar, told[i], told[k])
                if np.isfinite(found.distance):
                    evidence.append(PairEvidence(found.distance, found.noise, abs(gone[k] - gone[i])))
                    depths.append(found.depth)
        return learn(evidence, float(np.median(depths)) if depths else 1.0)

    def _held(self, first: View, second: View) -> _Compared | None:
        held = self._compared.get(first, second)
        return held if held is not None and np.array_equal(held.stated, _relative(first, second)) else None

    def _compare(self, registrar: Registrar, first: View, second: View) -> _Compared:
        distance = noise = depth = float("nan")
        try:
            distance, noise = registrar.disagreement(first, second), registrar.noise(second)
            surface = registrar.cache.surface(second)
            depth = 1.0 if surface is None or not len(surface.points) else float(np.median(surface.points[:, 2]))
        except ImageError:
            pass  # Who asks about this view is told.
        found = _Compared(_relative(first, second), distance, noise, depth)
        self._compared.put(first, second, found)
        return found


@dataclass(frozen=True, eq=False)
class _Compared:
    """Two views in their stated poses: 4x4 relative pose, distance and noise as in PairEvidence, depth seen [m]."""

    stated: np.ndarray
    distance: float
    noise: float
    depth: float


def _relative(first: View, second: View) -> np.ndarray:
    assert first.T_world_camera is not None and second.T_world_camera is not None
    return inverse(second.T_world_camera) @ first.T_world_camera
