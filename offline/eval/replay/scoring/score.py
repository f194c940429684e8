"""Scores of a replay: a pure function of its records. No node, no bag, no clock."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from roboref_core.referring.answer import Status
from roboref_core.views.visibility import Visibility

from offline.eval.records.answers import Answer
from offline.eval.records.node_answer import Place
from offline.eval.records.outcomes import Decisions, Outcome
from offline.eval.records.replays import Point3, Record
from offline.eval.scoring.intervals import Share
from offline.eval.scoring.mask_hits import on_mask
from offline.eval.scoring.metrics import decision_shares
from offline.files import read_mask

# 95 % quantile of the chi-squared distribution with three degrees of freedom.
CHI2_95 = 7.814727903251179
FRAMES = {"world": "error_3d", "camera": "error_camera"}
"""Frame in which a target is compared with the truth -> key of its figures. In the camera's frame at the queried view
that view's own pose error cancels: it is what a robot that acts on what it sees meets."""


def placed(record: Record, frame: str = "world") -> tuple[Place, Point3] | None:
    """The first target and the true point in a frame of ``FRAMES``; None without a metric target or a true point."""
    answer, truth = record.answer, record.question.truth
    place, true = (answer.in_world, truth.point) if frame == "world" else (answer.in_camera, truth.in_camera)
    return None if place is None or true is None else (place, true)


def error_3d(record: Record, frame: str = "world") -> float | None:
    """Distance of the first target from the true point [m]; None where there is not both."""
    found = placed(record, frame)
    return None if found is None else found[0].error(found[1])


def error_2d(record: Record) -> float | None:
    """Distance of the first target's pixel from where the true point projects [pixel]; None without either."""
    pixel, true = record.answer.pixel, record.question.truth.pixel
    return None if pixel is None or true is None else float(np.hypot(pixel[0] - true[0], pixel[1] - true[1]))


def decisions(records: Sequence[Record]) -> Decisions:
    """The decisions of records whose truths are visible or hidden. Masks count where something is to be seen.

    Raises ValueError naming the question whose mask cannot be read.
    """
    visible = np.array([not record.question.truth.hidden for record in records], dtype=bool)
    has_mask = visible & np.array(["mask" in record.files for record in records], dtype=bool)
    hit = [known and _hits(record) for record, known in zip(records, has_mask, strict=True)]
    answer = np.array([record.answer.answer for record in records], dtype=np.int8)
    return Decisions(visible, answer, np.array(hit, dtype=bool), has_mask)


def outcomes(records: Sequence[Record]) -> list[Outcome]:
    """What came of each question; an answer that is an error stays one where the truth is undecidable."""
    found = [Outcome(name) for name in decisions(records).outcomes]
    failed = (Outcome.ERROR, Outcome.UNPARSABLE)
    return [
        name if record.question.truth.decidable or name in failed else Outcome.UNDECIDABLE
        for record, name in zip(records, found, strict=True)
    ]


def score(records: Sequence[Record]) -> dict:
    """All figures of one replay.

    Returns:
        A JSON-ready dictionary: counts, ``figures`` of all records, and under "fates" of those whose object was
        moved, removed or neither, where something changed; latency [s].
    """
    # Most sensor holes lie on outlines, where nothing is decidable: all of them count here.
    blind = [r for r in records if r.question.truth.visibility is Visibility.UNKNOWN]
    latencies = [r.latency for r in records]
    fates = defaultdict(list)
    for record in records:
        fates[record.question.fate].append(record)
    failed = [r.answer.error for r in records if r.answer.answer in (Answer.ERROR, Answer.UNPARSABLE)]
    return {
        "questions": len(records),
        "decidable": sum(r.question.truth.decidable for r in records),
        "outcomes": _counted(outcomes(records)),
        "truths": _counted(r.question.truth.visibility.value for r in records),
        "error_codes": _counted(failed),
        **figures(records),
        "no_depth": {
            "count": len(blind),
            "without_position": sum(r.answer.status == Status.FOUND_WITHOUT_POSITION for r in blind),
            "far_position": sum(_is_far(r) for r in blind),
            "wrong_position": sum(_is_far(r, 3.0) for r in blind),
        },
        "fates": {fate: figures(own) for fate, own in sorted(fates.items())} if len(fates) > 1 else {},
        "latency": {"p50": _percentile(latencies, 50), "p95": _percentile(latencies, 95)},
    }


def figures(records: Sequence[Record]) -> dict:
    """3D errors in world and camera [m], 2D error [pixel] and Hit@Mask over visible points, and NOT_VISIBLE figures,
    of decidable cases.

    Errors are of what the node pointed at; shares are of all: an answer that is an error counts as wrong.
    """
    decidable = [r for r in records if r.question.truth.decidable]
    visible = [r for r in decidable if r.question.truth.visibility is Visibility.VISIBLE]
    hidden = [r for r in decidable if r.question.truth.hidden]
    pixels = [e for e in map(error_2d, visible) if e is not None]
    shares = {name: share.to_json() for name, share in decision_shares(decisions([*visible, *hidden])).items()}
    return {
        **{key: _errors(visible, frame) for frame, key in FRAMES.items()},
        "error_2d": {"count": len(pixels), "median": _percentile(pixels, 50), "p90": _percentile(pixels, 90)},
        "hit_at_mask": shares["hit_at_mask"],
        "not_visible": {
            "recall": shares["not_visible_recall"],
            "false_refusals": shares["false_refusals"],
            "accuracy": shares["not_visible_accuracy"],
        },
    }


def _is_far(record: Record, sigmas: float = 0.0) -> bool:
    """Whether the first target is over 10 cm off, and 1 cm more than so many of its stated standard deviations, in the
    camera's frame, where the view's own pose has no part, if that is known."""
    found = placed(record, "camera") or placed(record)
    if found is None:
        return False
    place, true = found
    return place.error(true) > max(0.1, sigmas * place.sigma + 0.01)


def _errors(visible: Sequence[Record], frame: str) -> dict:
    """Figures of the distances in one frame. Shares of questions count answers without a position as wrong."""
    if frame == "camera":
        visible = [record for record in visible if record.question.truth.in_camera is not None]
    known = [found for found in (placed(record, frame) for record in visible) if found is not None]
    errors = [place.error(true) for place, true in known]
    inside = sum(place.holds(true, CHI2_95) for place, true in known)
    return {
        "count": len(errors),
        "median": _percentile(errors, 50),
        "p90": _percentile(errors, 90),
        "below_5cm": Share(sum(e < 0.05 for e in errors), len(visible)).to_json(),
        "inside_95": Share(inside, len(known)).to_json(),
        "below_10cm": Share(sum(e < 0.10 for e in errors), len(visible)).to_json(),
    }


def _hits(record: Record) -> bool:
    if record.answer.pixel is None:
        return False
    try:
        mask = read_mask(record.file["mask"])
    except ValueError as error:
        raise ValueError(f"mask of question {record.question.question_id}: {error}") from error
    return bool(on_mask(mask, np.add(record.answer.pixel, 0.5)))


def _counted(names) -> dict[str, int]:
    return dict(sorted(Counter(map(str, names)).items()))


def _percentile(values: Sequence[float], q: float) -> float | None:
    return float(np.percentile(values, q)) if len(values) else None
