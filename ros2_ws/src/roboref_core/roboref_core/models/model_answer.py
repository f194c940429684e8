"""What a model said: visible with points, not visible, or unparsable; with how sure it is, where it knows."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np

_ROUNDING = 1e-6  # of probabilities computed in single precision


class Outcome(Enum):
    """The three things that an answer can say. Parser, models and scorers use these and no others."""

    VISIBLE = "visible"
    """The model points; there is at least one point."""
    NOT_VISIBLE = "not_visible"
    """The model says that what was asked for cannot be seen. A correct answer where it cannot."""
    UNPARSABLE = "unparsable"
    """The text is neither of the others; ``reason`` says why."""

    @property
    def as_json(self) -> bool | None:
        """true, false or null, as predictions files and the HTTP API write it."""
        return {Outcome.VISIBLE: True, Outcome.NOT_VISIBLE: False, Outcome.UNPARSABLE: None}[self]

    @classmethod
    def from_json(cls, visible: bool | None) -> Outcome:
        """The outcome that ``as_json`` wrote."""
        return cls.UNPARSABLE if visible is None else cls.VISIBLE if visible else cls.NOT_VISIBLE


@dataclass(frozen=True)
class ModelAnswer:
    """One answer. ``Prediction`` and ``Generation`` say in which coordinates its points are.

    An answer checks itself when it is made, whatever its source: numbers that are not finite, probabilities outside
    [0, 1], covariances that are none, and counts that do not fit raise ValueError.

    Attributes:
        text: raw answer text, before parsing; characters that UTF-8 cannot hold are replaced by "?".
        outcome: what it says.
        points: (N, 2), best first; N > 0 exactly if the outcome is VISIBLE.
        reason: why it is UNPARSABLE; empty otherwise.
        labels: N names that the model gave its points, or empty.
        point_covariance: (N, 2, 2) in the squared unit of the points, or None if the model does not know.
        scores: (N,) confidence in [0, 1], or None.
        p_visible: probability of pointing against NOT_VISIBLE in [0, 1], or None.
        p_visible_calibrated: whether p_visible went through a fitted calibration.
        timings: named durations [s].
    """

    text: str
    outcome: Outcome
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    reason: str = ""
    labels: tuple[str, ...] = ()
    point_covariance: np.ndarray | None = None
    scores: np.ndarray | None = None
    p_visible: float | None = None
    p_visible_calibrated: bool = False
    timings: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", self.text.encode("utf-8", "replace").decode("utf-8"))
        points = np.asarray(self.points, dtype=np.float64)
        count = len(points)
        if points.shape != (count, 2) and points.size:
            raise ValueError(f"an answer's points must have shape (N, 2), found {points.shape}")
        object.__setattr__(self, "points", points.reshape(-1, 2))
        if not np.isfinite(points).all():
            raise ValueError(f"an answer's points must be finite, found {points[~np.isfinite(points).all(axis=1)][0]}")
        if (count > 0) != (self.outcome is Outcome.VISIBLE):
            raise ValueError(f"an answer that is {self.outcome.value} cannot have {count} points")
        if self.labels and len(self.labels) != count:
            raise ValueError(f"an answer of {count} points has {len(self.labels)} labels")
        if self.point_covariance is not None:
            _check_covariance(np.asarray(self.point_covariance), count)
        if self.scores is not None:
            _check_probabilities("scores", np.asarray(self.scores), (count,))
        if self.p_visible is not None:
            _check_probabilities("p_visible", np.asarray(self.p_visible), ())


def _check_probabilities(name: str, values: np.ndarray, shape: tuple[int, ...]) -> None:
    if values.shape != shape:
        raise ValueError(f"an answer's {name} must have shape {shape}, found {values.shape}")
    if not ((values >= -_ROUNDING) & (values <= 1.0 + _ROUNDING)).all():  # NaN is neither
        raise ValueError(f"an answer's {name} must lie in [0, 1], found {values}")


def _check_covariance(covariance: np.ndarray, count: int) -> None:
    if covariance.shape != (count, 2, 2):
        raise ValueError(f"an answer's covariance must have shape ({count}, 2, 2), found {covariance.shape}")
    symmetric = np.isfinite(covariance).all() and np.allclose(covariance, covariance.transpose(0, 2, 1), rtol=1e-5)
    # Rounding may leave the smaller eigenvalue of a nearly singular covariance a little below zero.
    if not symmetric or any((np.linalg.eigvalsh(one) < -1e-9 * max(np.trace(one), 0.0)).any() for one in covariance):
        raise ValueError(
            f"an answer's covariances must be finite, symmetric and positive semidefinite, found {covariance.tolist()}"
        )
