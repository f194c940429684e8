"""A replay's report: one HTML file that needs nothing else, for reading figures and looking at cases."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import jinja2
import numpy as np
from roboref_core.errors import ErrorCode
from roboref_core.referring.answer import Status

from offline.eval.replay.scoring.live_score import LiveStats
from offline.eval.replay.scoring.pictures import query_picture, reference_picture
from offline.eval.replay.scoring.score import error_3d, hits_mask, outcome

_PICTURE_WIDTH = 420
_JPEG_QUALITY = 82
# Cases worth looking at first.
_ORDER = ("error", "false point", "false refusal", "missed", "pointed", "rightly refused", "undecidable")


@dataclass(frozen=True)
class Run:
    """One replay: its name in the report, what was replayed, its records and scores, where its pictures lie, and what
    came of it besides if it was live."""

    name: str
    description: str
    records: Sequence[dict]
    scores: dict
    folder: Path
    live: LiveStats | None = None


def write_report(title: str, runs: Sequence[Run], facts: dict[str, str], path: Path) -> None:
    """Write ``path`` (HTML) and beside it the same figures as JSON (suffix .json)."""
    page = (
        environment()
        .get_template("report.html.jinja")
        .render(
            title=title,
            facts=facts,
            rows=_rows(runs),
            runs=[{"name": r.name, "description": r.description, "cases": _cases(r)} for r in runs],
            order=_ORDER,
        )
    )
    figures = {"title": title, "facts": facts, "runs": {r.name: r.scores for r in runs}}
    _write(path, page)
    _write(path.with_suffix(".json"), json.dumps(figures, indent=2, sort_keys=True) + "\n")


def table(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """The figures as (name, one cell per run), for a terminal or a page; by fate where something was changed."""
    rows = [(name, [cell(run.scores) for run in runs]) for name, cell in _FIGURES]
    if any("live" in run.scores for run in runs):
        rows += [(name, [cell(r.scores["live"]) if "live" in r.scores else "" for r in runs]) for name, cell in _LIVE]
    for fate in sorted({fate for run in runs for fate in run.scores["fates"]}):
        scores = [run.scores["fates"].get(fate) for run in runs]
        rows += [(f"{fate}: {name}", [cell(s) if s else "" for s in scores]) for name, cell in _BY_FATE[fate]]
    return rows


def _rows(runs: Sequence[Run]):
    return {"header": [run.name for run in runs], "body": table(runs)}


def _share(share: dict) -> str:
    if share["value"] is None:
        return "no case"
    interval = f"{100 * share['low']:.0f} to {100 * share['high']:.0f}"
    return f"{100 * share['value']:.1f} % ({share['hits']}/{share['total']}; {interval})"


def _centimetres(value: float | None) -> str:
    return "no case" if value is None else f"{100 * value:.2f} cm"


_FIGURES = (
    ("questions (decidable)", lambda s: f"{s['questions']} ({s['decidable']})"),
    ("3D error, median", lambda s: _centimetres(s["error_3d"]["median"])),
    ("3D error, 90th percentile", lambda s: _centimetres(s["error_3d"]["p90"])),
    ("within 5 cm of the truth", lambda s: _share(s["error_3d"]["below_5cm"])),
    ("within 10 cm of the truth", lambda s: _share(s["error_3d"]["below_10cm"])),
    ("truth inside the stated 95 % ellipsoid", lambda s: _share(s["error_3d"]["inside_95"])),
    (
        "2D error, median / 90th percentile",
        lambda s: (
            "no case"
            if s["error_2d"]["median"] is None
            else f"{s['error_2d']['median']:.1f} / {s['error_2d']['p90']:.1f} px"
        ),
    ),
    ("Hit@Mask", lambda s: _share(s["hit_at_mask"])),
    ("NOT_VISIBLE decided right", lambda s: _share(s["not_visible"]["accuracy"])),
    ("NOT_VISIBLE recall on hidden points", lambda s: _share(s["not_visible"]["recall"])),
    ("false refusals of visible points", lambda s: _share(s["not_visible"]["false_refusals"])),
    (
        "points without sensor depth",
        lambda s: f"{s['no_depth']['count']}, wrong position {s['no_depth']['wrong_position']}",
    ),
    ("errors", lambda s: ", ".join(f"{n} {code}" for code, n in s["error_codes"].items()) or "none"),
    ("pairs dropped of those played", lambda s: f"{s['pairs']['dropped']} of {s['pairs']['played']}"),
    (
        "latency at the client, p50 / p95",
        lambda s: (
            "no case"
            if s["latency"]["p50"] is None
            else f"{1000 * s['latency']['p50']:.1f} / {1000 * s['latency']['p95']:.1f} ms"
        ),
    ),
)


_LIVE = (
    ("live: speed, wanted and achieved", lambda s: f"{s['speed']:g} and {s['achieved']:.2f} times real time"),
    (
        "live: latency of all answers under load, p50 / p95",
        lambda s: (
            f"{1000 * s['latency']['p50']:.1f} / {1000 * s['latency']['p95']:.1f} ms ({s['answers']})"
            if s["answers"]
            else "no case"
        ),
    ),
    ("live: errors under load", lambda s: ", ".join(f"{n} {code}" for code, n in s["load_errors"].items()) or "none"),
    (
        "live: views behind the one meant, p50 / p95",
        lambda s: f"{s['behind']['p50']:g} / {s['behind']['p95']:g}" if s["behind"]["p50"] is not None else "no case",
    ),
    ("live: not asked, their marked view was missed", lambda s: str(s["not_asked"])),
)

_MASK = ("Hit@Mask", lambda s: _share(s["hit_at_mask"]))
_NEAR = ("within 10 cm of the truth", lambda s: _share(s["error_3d"]["below_10cm"]))
_RECALL = ("NOT_VISIBLE recall", lambda s: _share(s["not_visible"]["recall"]))
_RIGHT = ("NOT_VISIBLE decided right", lambda s: _share(s["not_visible"]["accuracy"]))
_BY_FATE = {"moved": (_NEAR, _MASK, _RIGHT), "removed": (_RECALL,), "unchanged": (_NEAR, _MASK, _RIGHT)}


def _cases(run: Run) -> list[dict]:
    cases = [_case(run, record) for record in run.records]
    return sorted(cases, key=lambda case: (_ORDER.index(case["outcome"]), -(case["error"] or 0.0)))


def _case(run: Run, record: dict) -> dict:
    question, answer, error = record["question"], record["answer"], error_3d(record)
    target = answer["targets"][0] if answer["targets"] else None
    predicted = (target["pixel"]["u"], target["pixel"]["v"]) if target else None
    mask = _read(run.folder, record["files"].get("mask"), cv2.IMREAD_GRAYSCALE)
    reference = _read(run.folder, record["files"].get("reference"), cv2.IMREAD_COLOR_RGB)
    query = _read(run.folder, record["files"]["query"], cv2.IMREAD_COLOR_RGB)
    truth = question["truth"]
    return {
        "id": question["question_id"],
        "text": question["text"],
        "fate": question["fate"],
        "outcome": _kind(record, run.folder),
        "truth": truth["visibility"].replace("_", " ") + ("" if truth["decidable"] else " (by a hair)"),
        "status": Status(answer["status"]).name,
        "message": answer["error_msg"],
        "code": ErrorCode(answer["error_code"]).name,
        "error": error,
        "error_text": "" if error is None else f"{100 * error:.1f} cm off",
        "sigma_text": _sigma(target),
        "reference": None if reference is None else embedded(reference_picture(reference, question["mark"])),
        "query": embedded(query_picture(query, truth["pixel"], predicted, mask)),
        "raw": answer["raw_answer"],
        "latency": f"{1000 * record['latency']:.1f} ms",
    }


def _kind(record: dict, folder: Path) -> str:
    """The outcome, in which pointing beside what is visible is "missed"."""
    found = outcome(record)
    return "missed" if found == "pointed" and "mask" in record["files"] and not hits_mask(record, folder) else found


def _sigma(target: dict | None) -> str:
    if target is None or target["covariance_type"] == 0:
        return ""
    variance = target["position_covariance"]
    return f"stated 1 sigma {100 * (variance[0] + variance[4] + variance[8]) ** 0.5:.1f} cm"


def _read(folder: Path, name: str | None, flags: int):
    if name is None:
        return None
    image = cv2.imread(str(folder / name), flags)
    if image is None:
        raise ValueError(f"{folder / name}: picture of the report cannot be read")
    return image


def embedded(picture: np.ndarray, width: int = _PICTURE_WIDTH) -> str:
    """An RGB picture, ``width`` pixels wide, as the source of an HTML image."""
    height = round(picture.shape[0] * width / picture.shape[1])
    small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def environment() -> jinja2.Environment:
    """Of this folder's templates."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("offline.eval.replay", "templates"), autoescape=True, trim_blocks=True
    )


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
