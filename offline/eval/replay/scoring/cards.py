"""The cases of a replay's report as cards: both pictures with what is marked, true and answered, drawn by the page."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import cv2
import numpy as np

from offline.eval.records.node_answer import NodeAnswer
from offline.eval.records.outcomes import Outcome
from offline.eval.records.replays import Record
from offline.eval.replay.scoring.pictures import embedded
from offline.eval.replay.scoring.score import CHI2_95, error_3d, outcomes, placed
from offline.eval.replay.scoring.space import Cloud, space_of
from offline.eval.replay.scoring.table import FAR, OUTSIDE, Run
from offline.files import read_mask, read_picture

_ORDER = list(Outcome)
_FIRST = 12


class Pictures:
    """The pictures of a page, each once: questions share views, and replays of one room share bags.

    Attributes:
        sources: name -> the picture as the source of an HTML image.
        clouds: name -> points of a view.
    """

    def __init__(self) -> None:
        self.sources: dict[str, str] = {}
        self.clouds: dict[str, Cloud] = {}

    def add(self, picture: np.ndarray) -> dict:
        """Name and size of an (H, W, 3) uint8 RGB picture, for the template."""
        name = "p" + hashlib.sha256(picture.tobytes()).hexdigest()[:12]
        if name not in self.sources:
            self.sources[name] = embedded(picture)
        height, width = picture.shape[:2]
        return {"name": name, "width": width, "height": height}


def cards(run: Run, pictures: Pictures) -> list[dict]:
    """Every case of a run, ready for the template, the worst first."""
    found = [
        _card(run, number, record, outcome, pictures)
        for number, (record, outcome) in enumerate(zip(run.records, outcomes(run.records), strict=True))
    ]
    return sorted(found, key=_badness)


def worst(all_cards: Sequence[Sequence[dict]]) -> list[dict]:
    """The cases to look at first, over all runs: what a model got wrong before what geometry got wrong."""
    wrong = (Outcome.ERROR, Outcome.FALSE_POINT, Outcome.FALSE_REFUSAL, Outcome.MISS, Outcome.UNPARSABLE)
    bad = [card for own in all_cards for card in own if card["outcome"] in wrong]
    return sorted(bad, key=lambda card: (card["by_geometry"], _badness(card)))[:_FIRST]


def _badness(card: dict) -> tuple[int, float]:
    return _ORDER.index(card["outcome"]), -(card["error"] or 0.0)


def _card(run: Run, number: int, record: Record, outcome: Outcome, pictures: Pictures) -> dict:
    question, answer, error = record.question, record.answer, error_3d(record)
    in_camera, truth = error_3d(record, "camera"), question.truth
    mask = read_mask(record.file["mask"]) if "mask" in record.files else None
    reference = pictures.add(read_picture(record.file["reference"])) if "reference" in record.files else None
    scored = truth.decidable and not truth.hidden
    return {
        "anchor": f"{run.name}-{number}",
        "run": run.name,
        "by_geometry": answer.model.startswith("reprojection"),
        "id": question.question_id,
        "text": question.text,
        "fate": question.fate,
        "outcome": outcome,
        "marks": _marks(record, error) if scored else [],
        "truth": truth.visibility.value.replace("_", " ") + ("" if truth.decidable else " (by a hair)"),
        "status": answer.status.name,
        "message": answer.error_msg,
        "code": answer.error,
        "error": error,
        "error_text": "" if error is None else f"{100 * error:.1f} cm off",
        "camera_text": "" if in_camera is None else f"{100 * in_camera:.1f} cm in the camera's frame",
        "sigma_text": _sigma(answer),
        "reference": reference,
        "mark": question.mark,
        "query": pictures.add(read_picture(record.file["query"])),
        "truth_at": truth.pixel,
        "answered": answer.pixel,
        "outlines": [] if mask is None else _outlines(mask),
        "raw": answer.raw_answer,
        "latency": f"{1000 * record.latency:.1f} ms",
        "space": space_of(record, pictures.clouds),
    }


def _marks(record: Record, error: float | None) -> list[str]:
    """What a scored case is found by, beside its outcome."""
    place = placed(record)
    far = [FAR] if error is not None and error >= 0.05 else []
    return far + ([OUTSIDE] if place is not None and not place[0].holds(place[1], CHI2_95) else [])


def _sigma(answer: NodeAnswer) -> str:
    if answer.in_world is None or answer.in_world.covariance is None:
        return ""
    return f"stated 1 sigma {100 * np.trace(answer.in_world.covariance) ** 0.5:.1f} cm"


def _outlines(mask: np.ndarray) -> list[str]:
    """The outlines of a mask as SVG points [pixel], simplified by less than a pixel."""
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    simple = [cv2.approxPolyDP(outline, 0.8, True)[:, 0] for outline in found]
    return [" ".join(f"{u},{v}" for u, v in outline.tolist()) for outline in simple if len(outline) > 2]
