"""What became of a marked thing, from the verdict of geometry and the word of a model: probabilities, not votes.

Three things can be true: the thing is still where it was and in sight, it is in sight elsewhere, or it is not in sight.
Geometry and the model speak of them independently, so their likelihoods multiply; points that agree are combined by
their covariances, and points that do not are never averaged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from roboref_core.models.model_answer import ModelAnswer, Outcome
from roboref_core.views.registration import Change

AGREED = 9.21
"""Squared Mahalanobis distance within which two points are one place: 99 % of a two-dimensional normal distribution."""


@dataclass(frozen=True)
class Likelihood:
    """How often geometry gives one verdict in each of the three cases."""

    here: float
    elsewhere: float
    absent: float


VERDICTS = {
    Change.UNCHANGED: Likelihood(0.882, 0.0265, 0.0086),
    Change.CHANGED: Likelihood(0.0316, 0.0088, 0.001),
    Change.GONE: Likelihood(0.0546, 0.2206, 0.0447),
    Change.HIDDEN: Likelihood(0.0316, 0.7441, 0.9458),
    Change.NOT_CHECKED: Likelihood(1.0, 1.0, 1.0),
}
"""Measured by `roboref eval replay verdicts`: 864 questions in procedural rooms of seeds 61 to 72 where 4 things are
moved and 2 taken away, half of them with sensor noise and poses off by 2 cm and 1 degree. NOT_CHECKED says nothing."""


@dataclass(frozen=True)
class NewLikelihood:
    """How often views from before the mark say something of what the model points at."""

    moved_there: float
    other: float


EARLIER = {
    Change.GONE: NewLikelihood(0.681, 0.213),
    Change.CHANGED: NewLikelihood(0.02, 0.024),
    Change.UNCHANGED: NewLikelihood(0.052, 0.383),
    Change.HIDDEN: NewLikelihood(1.0, 1.0),
    Change.NOT_CHECKED: NewLikelihood(1.0, 1.0),
}
"""Of points on the thing and on others, from the same command: 580 points of roboref-nano, by mark and in words, in
rooms of seeds 61 to 68. A model's wrong points are no random ones: what is new in the room draws them. Where no earlier
view tells, that says nothing."""


@dataclass(frozen=True)
class FusionConfig:
    """What is believed before anybody looks, and of the model.

    Attributes:
        here, elsewhere, absent: prior odds of the three cases.
        miss: share of a model's points that are on something else, though the thing is in sight.
        undecided: a model without p_visible gives its word this probability.
        certain: no word of a model has more than this probability: it may be deceived in ways it knows nothing of.
        extent: standard deviation of the model's point, which may be anywhere on the thing, around the mark's place, as
            a share of the picture's width; added to what the model states.
        rival: a place at least this probable, where the answer is another place, makes the answer a conflict.
    """

    here: float = 0.55
    elsewhere: float = 0.15
    absent: float = 0.3
    miss: float = 0.2
    undecided: float = 0.85
    certain: float = 0.995
    extent: float = 0.03
    rival: float = 0.1


@dataclass(frozen=True)
class Place2D:
    """A pixel (u, v) with its (2, 2) covariance [pixel^2]."""

    pixel: np.ndarray
    covariance: np.ndarray


@dataclass(frozen=True)
class Belief:
    """Probabilities of the three cases, and whether both point at one place.

    Attributes:
        here: it is where geometry says.
        elsewhere: it is where the model points, which is another place.
        absent: it is not in sight.
        agree: geometry and the model point at one place; None unless both point.
    """

    here: float
    elsewhere: float
    absent: float
    agree: bool | None = None

    @property
    def p_visible(self) -> float:
        return self.here + self.elsewhere


def believe(
    verdict: Change,
    geometry: Place2D | None,
    said: ModelAnswer | None,
    size: tuple[int, int],
    config: FusionConfig,
    earlier: Change = Change.NOT_CHECKED,
) -> Belief:
    """What geometry and the model together make of it.

    Args:
        geometry: where the mark's place is in the picture; None: not in sight.
        said: the model's answer; None: it has none, or it is UNPARSABLE.
        size: (width, height) of the picture [pixel].
        earlier: what views from before the mark say of the surface that the model points at.
    """
    likelihood = VERDICTS[verdict]
    here = config.here * likelihood.here if geometry is not None else 0.0
    elsewhere, absent = config.elsewhere * likelihood.elsewhere, config.absent * likelihood.absent
    if said is None or said.outcome is Outcome.UNPARSABLE:
        # Nobody points elsewhere: what is not here is not known to be in sight.
        return _normalised(here, 0.0, absent + elsewhere)
    sure = _probability(said, config)
    here, elsewhere, absent = here * sure, elsewhere * sure, absent * (1.0 - sure)
    if said.outcome is not Outcome.VISIBLE:
        return _normalised(here, 0.0, absent + elsewhere)
    point = model_place(said, size, config)
    # Densities of the model's point: on the thing, or anywhere in the picture. What is not the thing was there before.
    uniform = 1.0 / (size[0] * size[1])
    moved_there, other = EARLIER[earlier].moved_there * uniform, EARLIER[earlier].other * uniform
    elsewhere, absent = elsewhere * moved_there, absent * other
    agree = None
    if geometry is not None:
        here *= (1.0 - config.miss) * _density(geometry, point) + config.miss * other
        agree = mahalanobis(geometry, point) <= AGREED
    return _normalised(here, elsewhere, absent, agree)


def _normalised(here: float, elsewhere: float, absent: float, agree: bool | None = None) -> Belief:
    total = here + elsewhere + absent
    return Belief(here / total, elsewhere / total, absent / total, agree)


def _probability(said: ModelAnswer, config: FusionConfig) -> float:
    """That the thing is in sight, by the model alone."""
    if said.p_visible is None:
        visible = said.outcome is Outcome.VISIBLE
        return config.undecided if visible else 1.0 - config.undecided
    return float(np.clip(said.p_visible, 1.0 - config.certain, config.certain))


def on_the_thing(belief: Belief, earlier: Change, config: FusionConfig) -> float:
    """Probability that the model's point is on the thing, if that is in sight: a model points beside it as well."""
    on_it = (1.0 - config.miss) * EARLIER[earlier].moved_there
    hit = on_it / (on_it + config.miss * EARLIER[earlier].other)
    return hit * belief.elsewhere / max(belief.p_visible, 1e-9)


def model_place(said: ModelAnswer, size: tuple[int, int], config: FusionConfig) -> Place2D:
    """The model's best point, as a measurement of the mark's place."""
    extent = np.eye(2) * (config.extent * size[0]) ** 2
    stated = extent if said.point_covariance is None else np.asarray(said.point_covariance)[0]
    return Place2D(said.points[0], stated + extent)


def mahalanobis(a: Place2D, b: Place2D) -> float:
    """Squared, of the difference of two independent measurements."""
    off = a.pixel - b.pixel
    return float(off @ np.linalg.solve(a.covariance + b.covariance, off))


def _density(a: Place2D, b: Place2D) -> float:
    """Of the difference of two measurements of one place [1/pixel^2]."""
    spread = 2.0 * np.pi * float(np.sqrt(np.linalg.det(a.covariance + b.covariance)))
    return float(np.exp(-0.5 * mahalanobis(a, b))) / spread


def combined(a: Place2D, b: Place2D) -> Place2D:
    """Two measurements of one place as one: each counts by what it knows."""
    information = np.linalg.inv(a.covariance), np.linalg.inv(b.covariance)
    covariance = np.linalg.inv(information[0] + information[1])
    pixel = covariance @ (information[0] @ a.pixel + information[1] @ b.pixel)
    return Place2D(pixel, (covariance + covariance.T) / 2.0)
