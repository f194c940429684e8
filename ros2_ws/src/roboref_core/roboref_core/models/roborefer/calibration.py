"""Calibration of p_visible: a temperature and a bias on its log-odds (Platt 1999; Guo et al. 2017)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from roboref_core.atomic import write_text
from roboref_core.models.roborefer.checkpoint.config import checkpoint_root, read_json
from roboref_core.models.roborefer.errors import CheckpointError

FILE_NAME = "pointing_calibration.json"
_MIN_SAMPLES = 10
# Weak pull towards temperature 1 and bias 0, without which separable data would have no optimum.
_PRIOR_WEIGHT = 1e-2
_MAX_LOG_ODDS = 50.0


class Calibration(BaseModel):
    """p_visible = sigmoid(log_odds / temperature + bias).

    Attributes:
        samples: validation questions it was fitted on.
        nll_before, nll_after: their mean negative log-likelihood without and with it [nat].
        model: name with revision of the checkpoint that it belongs to.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False, extra="forbid")

    temperature: Annotated[float, Field(gt=0)]
    bias: float
    samples: int
    nll_before: float
    nll_after: float
    model: str

    def p_visible(self, log_odds: float) -> float:
        return sigmoid(log_odds / self.temperature + self.bias)


def sigmoid(log_odds: float) -> float:
    """The logistic function; it does not overflow."""
    return float(0.5 * (1 + np.tanh(0.5 * log_odds)))


def _negative_log_likelihood(log_odds: np.ndarray, visible: np.ndarray) -> float:
    return float(np.mean(np.logaddexp(0, np.where(visible, -log_odds, log_odds))))


def fit(log_odds: np.ndarray, visible: np.ndarray, model: str) -> Calibration:
    """Fits temperature and bias by maximum likelihood (Newton's method; the problem is convex).

    Args:
        log_odds: (N,) the model's own, uncalibrated.
        visible: (N,) bool, whether a point was the right answer.
        model: name with revision.
    Raises:
        ValueError: for fewer than ten samples, or samples of one kind only.
    """
    visible = np.asarray(visible, dtype=bool)
    log_odds = np.clip(np.asarray(log_odds, dtype=np.float64), -_MAX_LOG_ODDS, _MAX_LOG_ODDS)
    if log_odds.shape != visible.shape or log_odds.ndim != 1 or not np.isfinite(log_odds).all():
        raise ValueError(f"expected (N,) finite log-odds and labels, found {log_odds.shape} and {visible.shape}")
    if len(visible) < _MIN_SAMPLES or visible.all() or not visible.any():
        raise ValueError(
            f"calibration needs at least {_MIN_SAMPLES} questions, visible and not; found {len(visible)}, "
            f"{int(visible.sum())} of them visible"
        )
    design = np.stack([log_odds, np.ones_like(log_odds)], axis=1)
    prior = np.array([1.0, 0.0])
    weights = prior.copy()

    def objective(candidate: np.ndarray) -> float:
        penalty = 0.5 * _PRIOR_WEIGHT * np.sum((candidate - prior) ** 2)
        return len(visible) * _negative_log_likelihood(design @ candidate, visible) + penalty

    for _ in range(100):
        p = 0.5 * (1 + np.tanh(0.5 * (design @ weights)))
        gradient = design.T @ (p - visible) + _PRIOR_WEIGHT * (weights - prior)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + _PRIOR_WEIGHT * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        scale = 1.0
        while scale > 1e-6 and objective(weights - scale * step) > objective(weights):
            scale /= 2
        weights = weights - scale * step
        if np.abs(scale * step).max() < 1e-10:
            break
    if weights[0] <= 0:
        raise ValueError(f"p_visible orders these questions the wrong way round (slope {weights[0]:.3g})")
    return Calibration(
        temperature=float(1 / weights[0]),
        bias=float(weights[1]),
        samples=len(visible),
        nll_before=_negative_log_likelihood(log_odds, visible),
        nll_after=_negative_log_likelihood(design @ weights, visible),
        model=model,
    )


def save(calibration: Calibration, path: str | Path) -> None:
    """Stores it beside a checkpoint's config.json."""
    write_text(checkpoint_root(path) / FILE_NAME, calibration.model_dump_json(indent=2) + "\n")


def load(path: str | Path, model: str) -> Calibration | None:
    """The calibration of a checkpoint; None if there is none.

    Raises:
        CheckpointError: if the file is damaged or was fitted to other weights than ``model``.
    """
    file = checkpoint_root(path) / FILE_NAME
    if not file.is_file():
        return None
    try:
        calibration = Calibration.model_validate(read_json(file, "calibration"))
    except ValidationError as error:
        raise CheckpointError(f"calibration: {file}: {error.errors()[0]['msg']}") from error
    # A checkpoint may have been moved; its revision stays.
    if calibration.model.rpartition("@")[2] != model.rpartition("@")[2]:
        raise CheckpointError(f"calibration: {file} was fitted to {calibration.model}, not to {model}; fit it again")
    return calibration
