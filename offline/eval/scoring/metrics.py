"""The figures, each a function of sums over samples, so that values, groups and bootstrap share one definition.

NOT_VISIBLE is the positive class of recall and F1 (gRefCOCO's N-acc is ``not_visible_recall``; its T-acc is one
minus ``false_refusals`` but for unparsable answers, which here are neither a point nor a refusal).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from offline.eval.records.answers import Answer
from offline.eval.records.outcomes import Decisions
from offline.eval.scoring.intervals import ClusterBootstrap, Share, wilson
from offline.eval.scoring.judge import Judged

RADII = (0.02, 0.05, 0.10)
_CALIBRATION_BINS = 15
_BOOTSTRAP_LEVELS = 1000

_COLUMNS = (
    "samples", "visible", "hidden", "correct", "hits", "masks", *(f"within_{r}" for r in RADII),
    "l2", "l2_count", "l2_diagonal", "l2_diagonal_count",
    "decided_right", "refused_hidden", "refused_visible", "pointed_visible", "answered", "unparsable", "missing",
)  # fmt: skip
_INDEX = {name: k for k, name in enumerate(_COLUMNS)}


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        title: for tables.
        statistic: (..., K) sums of ``columns`` -> (...,) values, NaN where nothing was counted.
        share: (numerator, denominator) columns if it is a share of samples, else None.
        better: +1 if more is better, -1 if less is.
        case: column in which two models are compared case by case; cases: column of those that it applies to.
    """

    title: str
    statistic: Callable[[np.ndarray], np.ndarray]
    case: str
    cases: str
    share: tuple[str, str] | None = None
    better: int = 1

    def of_cases(self, table: np.ndarray) -> np.ndarray:
        """(N,) from ``columns``: the figure of each case; NaN where it does not apply."""
        return np.where(_get(table, self.cases) > 0, _get(table, self.case), np.nan)


def _get(sums: np.ndarray, name: str) -> np.ndarray:
    return sums[..., _INDEX[name]]


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(below > 0, above / np.where(below > 0, below, 1.0), np.nan)


def _share(title: str, above: str, below: str, better: int = 1) -> Figure:
    return Figure(title, lambda s: _ratio(_get(s, above), _get(s, below)), above, below, (above, below), better)


def _mean(title: str, name: str) -> Figure:
    return Figure(title, lambda s: _ratio(_get(s, name), _get(s, f"{name}_count")), name, f"{name}_count", better=-1)


def _balanced(sums: np.ndarray) -> np.ndarray:
    """Mean of the shares of hidden things refused and of visible ones pointed at."""
    recall = _ratio(_get(sums, "refused_hidden"), _get(sums, "hidden"))
    return (recall + _ratio(_get(sums, "pointed_visible"), _get(sums, "visible"))) / 2


def _f1(sums: np.ndarray) -> np.ndarray:
    refused = _get(sums, "refused_hidden") + _get(sums, "refused_visible")
    # Without a negative there is nothing to be recalled, and F1 says nothing.
    hidden = np.where(_get(sums, "hidden") > 0, _get(sums, "hidden"), np.nan)
    return 2 * _get(sums, "refused_hidden") / (refused + hidden)


FIGURES: dict[str, Figure] = {
    "correct": _share("solved", "correct", "samples"),
    "hit_at_mask": _share("Hit@Mask", "hits", "masks"),
    **{f"success_at_{r:.2f}": _share(f"Success@{r:.2f}", f"within_{r}", "visible") for r in RADII},
    "l2": _mean("L2, normalised", "l2"),
    "l2_diagonal": _mean("L2, image diagonals", "l2_diagonal"),
    "not_visible_accuracy": _share("NOT_VISIBLE accuracy", "decided_right", "samples"),
    "not_visible_recall": _share("NOT_VISIBLE recall", "refused_hidden", "hidden"),
    "false_refusals": _share("false refusals", "refused_visible", "visible", -1),
    "balanced_accuracy": Figure("balanced accuracy", _balanced, "decided_right", "samples"),
    "f1": Figure("NOT_VISIBLE F1", _f1, "decided_right", "samples"),
    "unparsable": _share("unparsable", "unparsable", "answered", -1),
    "missing": _share("missing", "missing", "samples", -1),
}


_OF_DECISIONS = ("hit_at_mask", "not_visible_accuracy", "not_visible_recall", "false_refusals")


def decision_shares(decisions: Decisions) -> dict[str, Share]:
    """The figures that follow from decisions alone, with their counts."""
    sums = {name: round(float(np.sum(column))) for name, column in _decided(decisions).items()}
    shares = {name: FIGURES[name].share for name in _OF_DECISIONS}
    return {name: Share(sums[of[0]], sums[of[1]]) for name, of in shares.items() if of is not None}


def balanced_accuracy(decisions: Decisions) -> float | None:
    """Mean of the shares of hidden things refused and of visible ones pointed at; None unless there are both."""
    sums = _summed({name: np.sum(column) for name, column in _decided(decisions).items()})
    value = float(_balanced(sums))
    return value if np.isfinite(value) else None


def _decided(decisions: Decisions) -> dict[str, np.ndarray]:
    visible, hidden = decisions.visible, ~decisions.visible
    return {
        "samples": np.ones(len(visible)),
        "visible": visible,
        "hidden": hidden,
        "hits": decisions.hit & decisions.has_mask,
        "masks": decisions.has_mask,
        "decided_right": decisions.right_decision,
        "refused_hidden": decisions.refused & hidden,
        "refused_visible": decisions.refused & visible,
        "pointed_visible": decisions.pointed & visible,
        "answered": decisions.answer != Answer.MISSING,
        "unparsable": decisions.answer == Answer.UNPARSABLE,
        "missing": decisions.answer == Answer.MISSING,
    }


def _summed(sums: dict[str, np.ndarray]) -> np.ndarray:
    return np.array([float(sums.get(name, np.nan)) for name in _COLUMNS])


def columns(judged: Judged) -> np.ndarray:
    """(N, K) float64: what each sample adds to each sum."""
    table = _decided(judged) | {
        "correct": judged.correct,
        **{f"within_{r}": np.nan_to_num(judged.l2, nan=np.inf) <= r for r in RADII},
        "l2": np.nan_to_num(judged.l2),
        "l2_count": np.isfinite(judged.l2),
        "l2_diagonal": np.nan_to_num(judged.l2_diagonal),
        "l2_diagonal_count": np.isfinite(judged.l2_diagonal),
    }
    return np.stack([np.asarray(table[name], dtype=np.float64) for name in _COLUMNS], axis=1)


def figures(table: np.ndarray, bootstrap: ClusterBootstrap, chosen: np.ndarray | None = None) -> dict[str, dict]:
    """Every figure over the chosen samples, JSON-ready: value (None: nothing was counted) and 95 % intervals.

    ``wilson`` for shares of samples, ``bootstrap`` by scene for all (None with fewer than five scenes).
    """
    sums = table.sum(axis=0) if chosen is None else table[chosen].sum(axis=0)
    replicates = bootstrap.sums(table, chosen)
    return {name: _figure(figure, sums, replicates, bootstrap) for name, figure in FIGURES.items()}


def _figure(figure: Figure, sums: np.ndarray, replicates: np.ndarray, bootstrap: ClusterBootstrap) -> dict:
    value = float(figure.statistic(sums))
    if not np.isfinite(value):
        return {"value": None}
    found = {"value": value, "bootstrap": bootstrap.interval(figure.statistic(replicates))}
    if figure.share:
        above, below = (round(float(_get(sums, name))) for name in figure.share)
        found |= {"hits": above, "total": below, "wilson": wilson(above, below)}
    return found


def probability_figures(
    judged: Judged, scenes: np.ndarray, bootstrap: ClusterBootstrap, chosen: np.ndarray | None = None
) -> dict[str, dict]:
    """AUROC of p_visible for telling visible from not, and its calibration, over samples that have one.

    AUROC's interval is bootstrapped by scene with p_visible rounded to one of 1000 ranks. Calibration error is
    the expected one over 15 equal bins (Guo et al. 2017), of p_visible against the object being visible.

    Args:
        scenes: (N,) cluster index of each sample, as ``bootstrap`` has them.
        chosen: (N,) bool, the samples that count; None: all.
    """
    with_p = np.isfinite(judged.p_visible)
    if chosen is not None:
        with_p &= chosen
    p, visible, clusters = judged.p_visible[with_p], judged.visible[with_p], scenes[with_p]
    found: dict[str, dict] = {"auroc": {"value": None}, "calibration_error": {"value": None}}
    if len(p) == 0:
        return found
    found["calibration_error"] = calibration(p, visible)
    area = auroc(p, visible)
    if area is not None:
        found["auroc"] = {"value": area, "total": len(p), "bootstrap": _auroc_interval(p, visible, clusters, bootstrap)}
    return found


def auroc(p: np.ndarray, positive: np.ndarray) -> float | None:
    """Area under the ROC curve: probability that a positive has the higher p, ties counting half (Mann & Whitney
    1947); None unless there are positives and negatives."""
    above, below = int(positive.sum()), int((~positive).sum())
    if above == 0 or below == 0:
        return None
    ranks = _ranks(p)
    return float((ranks[positive].sum() - above * (above + 1) / 2) / (above * below))


def calibration(p: np.ndarray, positive: np.ndarray) -> dict:
    """Expected calibration error and the bins it comes from: [mean p, share of positives, count] each."""
    index = np.minimum((p * _CALIBRATION_BINS).astype(int), _CALIBRATION_BINS - 1)
    count = np.bincount(index, minlength=_CALIBRATION_BINS)
    used = np.flatnonzero(count)
    mean_p = np.bincount(index, p, minlength=_CALIBRATION_BINS)[used] / count[used]
    share = np.bincount(index, positive, minlength=_CALIBRATION_BINS)[used] / count[used]
    error = float((np.abs(mean_p - share) * count[used]).sum() / len(p))
    return {
        "value": error,
        "total": len(p),
        "bins": [[float(a), float(b), int(c)] for a, b, c in zip(mean_p, share, count[used], strict=True)],
    }


def _auroc_interval(p, visible, clusters, bootstrap: ClusterBootstrap) -> tuple[float, float] | None:
    levels = np.minimum((_ranks(p) / (len(p) + 1) * _BOOTSTRAP_LEVELS).astype(int), _BOOTSTRAP_LEVELS - 1)
    counts = np.zeros((2, bootstrap.count, _BOOTSTRAP_LEVELS))
    np.add.at(counts, (np.where(visible, 0, 1), clusters, levels), 1.0)
    positive, negative = bootstrap.replicate(counts[0]), bootstrap.replicate(counts[1])
    concordant = (positive * (np.cumsum(negative, axis=1) - negative / 2)).sum(axis=1)
    return bootstrap.interval(_ratio(concordant, positive.sum(axis=1) * negative.sum(axis=1)))


def _ranks(values: np.ndarray) -> np.ndarray:
    """(N,) 1-based ranks; equal values share the mean of theirs."""
    _, index, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[index]
