"""Scores of a replay: a pure function of its records. No node, no bag, no clock."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from roboref_core.errors import ErrorCode
from roboref_core.referring.answer import Status
from roboref_core.views.locate import DepthSource
from roboref_core.views.visibility import Visibility

from offline.eval.scoring.intervals import Share

HIDDEN = (Visibility.OCCLUDED.value, Visibility.OUT_OF_FRUSTUM.value, Visibility.CONFLICT.value)
"""Truths to which NOT_VISIBLE is the right answer."""
# 95 % quantile of the chi-squared distribution with three degrees of freedom.
_CHI2_95 = 7.814727903251179
_POINTING = (Status.FOUND, Status.AMBIGUOUS, Status.FOUND_WITHOUT_POSITION)


def error_3d(record: dict) -> float | None:
    """Distance of the first target from the true point [m]; None without a metric target or a true point."""
    targets = record["answer"]["targets"]
    if record["answer"]["status"] not in (Status.FOUND, Status.AMBIGUOUS) or not targets:
        return None
    if targets[0]["depth_source"] == DepthSource.NONE or record["question"]["truth"]["point"] is None:
        return None
    found = targets[0]["position"]
    return float(
        np.linalg.norm(np.subtract([found["x"], found["y"], found["z"]], record["question"]["truth"]["point"]))
    )


def error_2d(record: dict) -> float | None:
    """Distance of the first target's pixel from where the true point projects [pixel]; None without either."""
    targets, true = record["answer"]["targets"], record["question"]["truth"]["pixel"]
    if record["answer"]["status"] not in _POINTING or not targets or true is None:
        return None
    return float(np.hypot(targets[0]["pixel"]["u"] - true[0], targets[0]["pixel"]["v"] - true[1]))


def inside_ellipsoid(record: dict) -> bool | None:
    """Whether the true point lies in the 95 % ellipsoid of the stated covariance; None without a metric target."""
    if error_3d(record) is None:
        return None
    target = record["answer"]["targets"][0]
    found = target["position"]
    off = np.subtract([found["x"], found["y"], found["z"]], record["question"]["truth"]["point"])
    covariance = np.reshape(target["position_covariance"], (3, 3))
    return bool(off @ np.linalg.solve(covariance, off) <= _CHI2_95)


def hits_mask(record: dict, folder: Path) -> bool:
    """Whether the first target's pixel lies on the object's mask; not without a target."""
    targets, name = record["answer"]["targets"], record["files"]["mask"]
    if not targets:
        return False
    mask = cv2.imread(str(folder / name), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise ValueError(f"{folder / name}: mask of question {record['question']['question_id']} cannot be read")
    u, v = (int(np.floor(targets[0]["pixel"][axis] + 0.5)) for axis in ("u", "v"))
    return bool(0 <= v < mask.shape[0] and 0 <= u < mask.shape[1] and mask[v, u] > 0)


def outcome(record: dict) -> str:
    """One word for what came of a question; ``undecidable`` and ``error`` come before right and wrong."""
    truth, status = record["question"]["truth"], record["answer"]["status"]
    if status not in (*_POINTING, Status.NOT_VISIBLE):
        return "error"
    if not truth["decidable"]:
        return "undecidable"
    if truth["visibility"] in HIDDEN:
        return "rightly refused" if status == Status.NOT_VISIBLE else "false point"
    return "false refusal" if status == Status.NOT_VISIBLE else "pointed"


def score(records: Sequence[dict], folder: Path) -> dict:
    """All figures of one replay.

    Args:
        records: as ``record.make_record`` builds them.
        folder: where their mask files lie.

    Returns:
        A JSON-ready dictionary: counts, ``figures`` of all records, and under "fates" of those whose object was
        moved, removed or neither, where something changed; latency [s].
    """
    outcomes = Counter(outcome(record) for record in records)
    # Most sensor holes lie on outlines, where nothing is decidable: all of them count here.
    blind = [r for r in records if r["question"]["truth"]["visibility"] == Visibility.UNKNOWN.value]
    latencies = [r["latency"] for r in records]
    fates = defaultdict(list)
    for record in records:
        fates[record["question"]["fate"]].append(record)
    return {
        "questions": len(records),
        "decidable": sum(r["question"]["truth"]["decidable"] for r in records),
        "outcomes": dict(sorted(outcomes.items())),
        "truths": dict(sorted(Counter(r["question"]["truth"]["visibility"] for r in records).items())),
        "error_codes": dict(
            sorted(Counter(ErrorCode(r["answer"]["error_code"]).name for r in records if outcome(r) == "error").items())
        ),
        **figures(records, folder),
        "no_depth": {
            "count": len(blind),
            "without_position": sum(r["answer"]["status"] == Status.FOUND_WITHOUT_POSITION for r in blind),
            "wrong_position": sum((error_3d(r) or 0.0) > 0.1 for r in blind),
        },
        "fates": {fate: figures(own, folder) for fate, own in sorted(fates.items())} if len(fates) > 1 else {},
        "latency": {"p50": _percentile(latencies, 50), "p95": _percentile(latencies, 95)},
    }


def figures(records: Sequence[dict], folder: Path) -> dict:
    """3D error [m], 2D error [pixel] and Hit@Mask over visible points, and NOT_VISIBLE figures, of decidable cases.

    Errors are of what the node pointed at; shares are of all: an answer that is an error counts as wrong.
    """
    decidable = [r for r in records if r["question"]["truth"]["decidable"]]
    hidden = [r for r in decidable if r["question"]["truth"]["visibility"] in HIDDEN]
    visible = [r for r in decidable if r["question"]["truth"]["visibility"] == Visibility.VISIBLE.value]
    errors = [e for e in map(error_3d, visible) if e is not None]
    pixels = [e for e in map(error_2d, visible) if e is not None]
    measured = [r for r in visible if error_3d(r) is not None]
    masked = [r for r in visible if "mask" in r["files"]]
    masks = [hits_mask(r, folder) for r in masked]
    refused = sum(r["answer"]["status"] == Status.NOT_VISIBLE for r in hidden)
    shown = sum(r["answer"]["status"] in _POINTING for r in visible)
    return {
        "error_3d": {
            "count": len(errors),
            "median": _percentile(errors, 50),
            "p90": _percentile(errors, 90),
            "below_5cm": Share(sum(e < 0.05 for e in errors), len(visible)).to_json(),
            "inside_95": Share(sum(map(inside_ellipsoid, measured)), len(measured)).to_json(),
            "below_10cm": Share(sum(e < 0.10 for e in errors), len(visible)).to_json(),
        },
        "error_2d": {"count": len(pixels), "median": _percentile(pixels, 50), "p90": _percentile(pixels, 90)},
        "hit_at_mask": Share(sum(masks), len(masked)).to_json(),
        "not_visible": {
            "recall": Share(refused, len(hidden)).to_json(),
            "false_refusals": Share(
                sum(r["answer"]["status"] == Status.NOT_VISIBLE for r in visible), len(visible)
            ).to_json(),
            "accuracy": Share(refused + shown, len(hidden) + len(visible)).to_json(),
        },
    }


def _percentile(values: Sequence[float], q: float) -> float | None:
    return float(np.percentile(values, q)) if len(values) else None
