"""Cases to look at: both pictures, where the object is, where the model points, and its own words."""

from __future__ import annotations

import hashlib

import cv2
import numpy as np
from roboref_core.geometry.camera import normalised_to_pixel
from roboref_core.prompting.prompt import Form

from offline.eval.records.outcomes import Outcome
from offline.eval.records.predictions import Predictions
from offline.eval.records.samples import Sample, side_by_side
from offline.eval.replay.scoring.pictures import embedded, query_picture
from offline.eval.scoring.judge import Judged
from offline.files import read_mask, read_picture

_PICTURE_WIDTH = 400


def cases(judged: Judged, predictions: Predictions, per_outcome: int) -> list[dict]:
    """Up to ``per_outcome`` cases of each kind, chosen by a hash of their ids, ready for the template.

    A case whose pictures cannot be read says so instead of showing them.
    """
    chosen, outcomes = [], judged.outcomes
    for kind in Outcome:
        members = np.flatnonzero(outcomes == kind).tolist()
        members.sort(key=lambda i: hashlib.sha256(judged.samples[i].id.encode()).digest())
        chosen += [_case(judged, predictions, i, kind, len(members)) for i in members[:per_outcome]]
    return chosen


def _case(judged: Judged, predictions: Predictions, i: int, kind: str, total: int) -> dict:
    sample = judged.samples[i]
    line = predictions.by_id.get(sample.id, {})
    try:
        pictures, error = _pictures(judged, i), ""
    except ValueError as problem:
        pictures, error = {}, str(problem)
    l2 = judged.l2[i]
    return {
        "id": sample.id,
        "outcome": kind,
        "total": total,
        "label": sample.label,
        "reason": sample.reason,
        "prompt": sample.prompt,
        "text": str(line.get("text") or "(nothing)"),
        "p_visible": "" if np.isnan(judged.p_visible[i]) else f"p(visible) {judged.p_visible[i]:.3f}",
        "l2": "" if np.isnan(l2) else f"L2 {l2:.3f}",
        "error": error,
        **pictures,
    }


def _pictures(judged: Judged, i: int) -> dict[str, str]:
    sample = judged.samples[i]
    query, layout = read_picture(sample.query), None
    reference: np.ndarray | None = None
    if sample.form is Form.CONCAT:
        layout = side_by_side(sample)
        reference = read_picture(sample.images[-1])[: layout.left_size[1], : layout.left_size[0]]
    elif len(sample.images) > 1:
        reference = read_picture(sample.images[0])
    # Marks are drawn in the size that is shown: pictures down-sampled by 3 would vanish under them.
    query = _shown(query)
    size = query.shape[1::-1]
    truth = None if sample.truth is None else np.array(sample.truth[0])
    point = judged.point[i]
    if layout is not None:
        truth = None if truth is None else layout.whole_to_right(truth)
        if sample.truth is None:  # where nothing is to be hit, judging leaves the whole picture's coordinates
            point = layout.whole_to_right(point)
    drawn = query_picture(
        query,
        None if truth is None else tuple(normalised_to_pixel(truth, *size)),
        None if np.isnan(point).any() else tuple(normalised_to_pixel(point, *size)),
        _mask(sample, size),
    )
    shown = {"query": embedded(drawn, _PICTURE_WIDTH)}
    return shown if reference is None else shown | {"reference": embedded(_shown(reference), _PICTURE_WIDTH)}


def _mask(sample: Sample, size: tuple[int, int]) -> np.ndarray | None:
    if sample.mask is None:
        return None
    try:
        mask = read_mask(sample.mask)
    except ValueError:
        return None  # counted where it is scored
    return cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT)


def _shown(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) in the width that the page shows."""
    height, width = picture.shape[:2]
    size = _PICTURE_WIDTH, max(1, round(height * _PICTURE_WIDTH / width))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if width > size[0] else cv2.INTER_LINEAR)
