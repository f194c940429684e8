"""Manipulation records by their own metrics: boxes, contact points, trajectories, choices and free text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from roboref_core.prompting.final_answer import unwrapped, without_thoughts
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from offline.data_engine.formats.manipulation import GroundingRecord, Kind, coordinates_in
from offline.eval.benches.score import choice
from offline.eval.records.predictions import Predictions, digest
from offline.eval.records.samples import Sample
from offline.eval.scoring.intervals import ClusterBootstrap

IOU_LEVELS = (0.1, 0.5)
"""A box counts as found from here on; 0.1 is RoboInter's own level."""
_LETTERS = tuple("ABCDEFGH")


def score_records(samples: Sequence[Sample], predictions: Predictions, seed: int = 0) -> dict[str, dict]:
    """Figures of manipulation samples by task, JSON-ready.

    Each group has its ``kind``, its counts of ``samples``, ``missing`` and ``unparsable`` answers, and ``figures``:
    name -> mean, the number of answers it is over, and a 95 % interval bootstrapped by picture (None with fewer than
    five pictures). IoU, accuracy and exact match count every record, without a usable answer as 0; distances are over
    usable answers only, so read them with the other counts. Distances are in units of the picture's sides, and in
    pixels where the records state its size ("_px"). An answer of several parts has no metric here.

    Args:
        samples: with ``record``; others are passed over.
    """
    groups: dict[tuple[str, Kind], list[tuple[Sample, GroundingRecord]]] = defaultdict(list)
    for sample in samples:
        if sample.record is not None:
            groups[sample.task, sample.record.kind].append((sample, sample.record))
    counts: dict[str, int] = defaultdict(int)
    for task, _ in groups:
        counts[task] += 1
    return {
        task if counts[task] == 1 else f"{task} ({kind.value})": _group(kind, members, predictions, seed)
        for (task, kind), members in sorted(groups.items(), key=lambda item: (item[0][0], item[0][1].value))
    }


def _group(kind: Kind, members: list[tuple[Sample, GroundingRecord]], predictions: Predictions, seed: int) -> dict:
    pictures = sorted({sample.images[-1] for sample, _ in members})
    places = {path: k for k, path in enumerate(pictures)}
    bootstrap = ClusterBootstrap(np.array([places[sample.images[-1]] for sample, _ in members]), seed=seed)
    missing = unparsable = 0
    rows: list[dict[str, float]] = []
    for sample, record in members:
        text = _answer(sample, predictions)
        found = None if text is None else judge_record(record, text)
        missing += text is None
        unparsable += text is not None and found is None
        rows.append(_WRONG.get(kind, {}) if found is None else found)
    names = dict.fromkeys(name for row in rows for name in row)
    figures = {name: _mean([row.get(name) for row in rows], bootstrap) for name in names}
    return {
        "kind": kind.value,
        "samples": len(members),
        "missing": missing,
        "unparsable": unparsable,
        "figures": figures,
    }


_WRONG: dict[Kind, dict[str, float]] = {
    Kind.BOX: {"iou": 0.0} | {f"iou_above_{level:g}": 0.0 for level in IOU_LEVELS},
    Kind.CHOICE: {"accuracy": 0.0},
    Kind.TEXT: {"exact_match": 0.0},
}


def _answer(sample: Sample, predictions: Predictions) -> str | None:
    line = predictions.by_id.get(sample.id)
    if line is None or ("asked" in line and line["asked"] != digest(sample.prompt)):
        return None
    return line["text"] if isinstance(line.get("text"), str) else None


def _mean(values: Sequence[float | None], bootstrap: ClusterBootstrap) -> dict:
    known = np.array([value is not None for value in values])
    table = np.stack([np.array([value or 0.0 for value in values]), known.astype(float)], axis=1)
    total = table.sum(axis=0)
    sums = bootstrap.sums(table)
    with np.errstate(divide="ignore", invalid="ignore"):
        interval = bootstrap.interval(sums[:, 0] / sums[:, 1])
    return {"value": float(total[0] / total[1]), "total": int(total[1]), "bootstrap": interval}


def judge_record(record: GroundingRecord, text: str) -> dict[str, float] | None:
    """The metrics of one answer to a record; None if it is not of the record's kind, {} if the kind has no metric."""
    answer = without_thoughts(text)
    if answer is None:
        return None
    answer = unwrapped(answer).strip()
    if record.kind is Kind.SEVERAL:
        return {}
    if record.kind is Kind.TEXT:
        return {"exact_match": float(_words(answer) == _words(record.text))} if answer else None
    if record.kind is Kind.CHOICE:
        named = choice(text, ("yes", "no") if record.choice in ("yes", "no") else _LETTERS)
        return {"accuracy": float(named == record.choice)} if named else None
    said, true = np.array(coordinates_in(answer)).reshape(-1, 2), np.array(record.coordinates)
    if record.kind is Kind.BOX:
        if len(said) != 2:
            return None
        iou = box_iou(said, true)
        return {"iou": iou} | {f"iou_above_{level:g}": float(iou > level) for level in IOU_LEVELS}
    if record.kind is Kind.POINT:
        if len(said) != len(true):
            return None
        return _both_units(record, said, true, {"distance": matched_distance})
    if len(said) < 2:
        return None
    return _both_units(record, said, true, {"dfd": frechet, "rmse": rmse})


def _both_units(record: GroundingRecord, said: np.ndarray, true: np.ndarray, metrics: dict) -> dict[str, float]:
    found = {name: metric(said, true) for name, metric in metrics.items()}
    if record.size is not None:
        found |= {f"{name}_px": metric(said * record.size, true * record.size) for name, metric in metrics.items()}
    return found


def _words(text: str) -> list[str]:
    return text.lower().strip().rstrip(".!").split()


def box_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes, each (2, 2): its top left and bottom right corner."""
    overlap = np.prod(np.clip(np.minimum(a[1], b[1]) - np.maximum(a[0], b[0]), 0, None))
    union = np.prod(np.clip(a[1] - a[0], 0, None)) + np.prod(b[1] - b[0]) - overlap
    return float(overlap / union) if union > 0 else 0.0


def matched_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance of two sets of n points, (n, 2) each, under the assignment that makes it least."""
    costs = cdist(a, b)
    return float(costs[linear_sum_assignment(costs)].mean())


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Discrete Fréchet distance of two paths, (n, 2) and (m, 2) (Eiter & Mannila 1994)."""
    distances = cdist(a, b)
    reach = np.full((len(a) + 1, len(b) + 1), np.inf)
    reach[0, 0] = 0.0
    for i in range(len(a)):
        for j in range(len(b)):
            before = min(reach[i, j], reach[i, j + 1], reach[i + 1, j])
            reach[i + 1, j + 1] = max(before, distances[i, j])
    return float(reach[-1, -1])


def rmse(said: np.ndarray, true: np.ndarray) -> float:
    """Root of the mean squared distance of corresponding points of two paths, (n, 2) and (m, 2).

    A path with another number of points than the true one is read at m points of equal steps along its length.
    """
    if len(said) != len(true):
        length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(said, axis=0).T))])
        steps = np.linspace(0.0, length[-1], len(true))
        said = np.stack([np.interp(steps, length, said[:, k]) for k in range(2)], axis=1)
    return float(np.sqrt(np.mean(np.sum((said - true) ** 2, axis=1))))


def render_records(groups: dict[str, dict]) -> str:
    """The figures of ``score_records`` in words, a task a paragraph."""
    lines = []
    for task, group in groups.items():
        counts = f"{group['samples']} samples, {group['missing']} missing, {group['unparsable']} unparsable"
        lines.append(f"{task} ({group['kind']}): {counts}")
        for name, figure in group["figures"].items():
            interval = "" if figure["bootstrap"] is None else "  [{:.4f}, {:.4f}]".format(*figure["bootstrap"])
            lines.append(f"  {name:16s} {figure['value']:.4f}{interval}  of {figure['total']}")
        if not group["figures"]:
            lines.append("  no metric of this kind of answer, or no usable answer")
    return "\n".join(lines)
