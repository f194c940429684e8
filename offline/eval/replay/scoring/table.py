"""A replay's figures as rows of a table: their names, what they mean, and which cases to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from offline.eval.records.outcomes import Outcome
from offline.eval.records.replays import Record
from offline.eval.replay.scoring.live_score import LiveStats

OUTSIDE, FAR = "outside its ellipsoid", "over 5 cm off"
"""Marks of cases beside their outcome."""


@dataclass(frozen=True)
class Run:
    """One replay: its name in the report, what was replayed, its records and scores, where its pictures lie, and what
    came of it besides if it was live."""

    name: str
    description: str
    records: Sequence[Record]
    scores: dict
    folder: Path
    live: LiveStats | None = None


@dataclass(frozen=True)
class Row:
    """One figure of every run.

    Attributes:
        name: for people.
        cells: one per run.
        meaning: what the figure says; for a reader who hovers over the name, and the glossary.
        look_at: kind of the cases that make it worse; "" for none.
    """

    name: str
    cells: list[str]
    meaning: str = ""
    look_at: str = ""


@dataclass(frozen=True)
class _Figure:
    name: str
    cell: Callable[[dict], str]
    meaning: str = ""
    look_at: str = ""

    def row(self, scores: Sequence[dict | None], prefix: str = "") -> Row:
        cells = [self.cell(one) if one else "" for one in scores]
        return Row(prefix + self.name, cells, self.meaning, self.look_at)


def table(runs: Sequence[Run]) -> list[Row]:
    """The figures, for a terminal or a page; by fate where something was changed."""
    rows = [figure.row([run.scores for run in runs]) for figure in FIGURES]
    if any("live" in run.scores for run in runs):
        rows += [figure.row([run.scores.get("live") for run in runs]) for figure in _LIVE]
    for fate in sorted({fate for run in runs for fate in run.scores["fates"]}):
        scores = [run.scores["fates"].get(fate) for run in runs]
        rows += [figure.row(scores, f"{fate}: ") for figure in _BY_FATE[fate]]
    return rows


def _share(share: dict) -> str:
    if share["value"] is None:
        return "no case"
    interval = f"{100 * share['low']:.0f} to {100 * share['high']:.0f}"
    return f"{100 * share['value']:.1f} % ({share['hits']}/{share['total']}; {interval})"


def _centimetres(value: float | None) -> str:
    return "no case" if value is None else f"{100 * value:.2f} cm"


def _pair(a: float | None, b: float | None, unit: str, scale: float = 1.0) -> str:
    return "no case" if a is None or b is None else f"{scale * a:.1f} / {scale * b:.1f} {unit}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {code}" for code, n in counts.items()) or "none"


_WORLD = (
    "Distance of the answered position from the true point, in the world's frame. The queried view's own pose error is "
    "part of it."
)
_CAMERA = (
    "The same distance in the frame of the camera that took the queried view: what a robot meets that acts on what it "
    "sees now. The error of that view's pose cancels; the marked view's, and the registration's, stay."
)
_INSIDE = "Share of true points inside the 95 % ellipsoid of the covariance that the node states; 90 to 99 % is honest."
_HIT = "Share of visible things whose outline holds the pixel that the node points at."
_RIGHT_DECISION = "Share of questions in which the node points at what is visible, and refuses what is not."
_REFUSED = "Share of hidden, moved away or removed points to which the node says NOT_VISIBLE."

FIGURES = (
    _Figure(
        "questions (decidable)",
        lambda s: f"{s['questions']} ({s['decidable']})",
        "Decidable: neither within a few pixels of an outline or the picture's border, nor hidden by a hair. Only "
        "these are scored.",
    ),
    _Figure("3D error, median", lambda s: _centimetres(s["error_3d"]["median"]), _WORLD, FAR),
    _Figure("3D error, 90th percentile", lambda s: _centimetres(s["error_3d"]["p90"]), _WORLD, FAR),
    _Figure("within 5 cm of the truth", lambda s: _share(s["error_3d"]["below_5cm"]), _WORLD, FAR),
    _Figure("within 10 cm of the truth", lambda s: _share(s["error_3d"]["below_10cm"]), _WORLD, FAR),
    _Figure("truth inside the stated 95 % ellipsoid", lambda s: _share(s["error_3d"]["inside_95"]), _INSIDE, OUTSIDE),
    _Figure("camera frame: 3D error, median", lambda s: _centimetres(s["error_camera"]["median"]), _CAMERA, FAR),
    _Figure("camera frame: 90th percentile", lambda s: _centimetres(s["error_camera"]["p90"]), _CAMERA, FAR),
    _Figure("camera frame: within 5 cm", lambda s: _share(s["error_camera"]["below_5cm"]), _CAMERA, FAR),
    _Figure("camera frame: inside the ellipsoid", lambda s: _share(s["error_camera"]["inside_95"]), _INSIDE, OUTSIDE),
    _Figure(
        "2D error, median / 90th percentile",
        lambda s: _pair(s["error_2d"]["median"], s["error_2d"]["p90"], "px"),
        "Distance of the answered pixel from where the true point is in the queried picture.",
        Outcome.MISS,
    ),
    _Figure("Hit@Mask", lambda s: _share(s["hit_at_mask"]), _HIT, Outcome.MISS),
    _Figure(
        "NOT_VISIBLE decided right",
        lambda s: _share(s["not_visible"]["accuracy"]),
        _RIGHT_DECISION,
        Outcome.FALSE_POINT,
    ),
    _Figure(
        "NOT_VISIBLE recall on hidden points",
        lambda s: _share(s["not_visible"]["recall"]),
        _REFUSED,
        Outcome.FALSE_POINT,
    ),
    _Figure(
        "false refusals of visible points",
        lambda s: _share(s["not_visible"]["false_refusals"]),
        "Share of visible points to which the node says NOT_VISIBLE.",
        Outcome.FALSE_REFUSAL,
    ),
    _Figure(
        "points without sensor depth",
        lambda s: (
            f"{s['no_depth']['count']}, over 10 cm off {s['no_depth']['far_position']}, "
            f"wrong position {s['no_depth']['wrong_position']}"
        ),
        "Points in sight where the depth image has a hole. The right answer is a pixel without a position, or one "
        "whose covariance owns the doubt; wrong: in the camera's frame off by more than 10 cm and by more than 1 cm "
        "beyond 3 stated standard deviations.",
    ),
    _Figure(
        "errors",
        lambda s: _counts(s["error_codes"]),
        "Answers that are an error code; each counts as wrong.",
        Outcome.ERROR,
    ),
    _Figure(
        "pairs dropped of those played",
        lambda s: f"{s['pairs']['dropped']} of {s['pairs']['played']}",
        "Pairs of colour and depth with a pose that the node did not take.",
    ),
    _Figure(
        "latency at the client, p50 / p95",
        lambda s: _pair(s["latency"]["p50"], s["latency"]["p95"], "ms", 1000),
        "From the call of the service to its reply.",
    ),
)

_LIVE = (
    _Figure("live: speed, wanted and achieved", lambda s: f"{s['speed']:g} and {s['achieved']:.2f} times real time"),
    _Figure(
        "live: latency of all answers under load, p50 / p95",
        lambda s: (
            f"{_pair(s['latency']['p50'], s['latency']['p95'], 'ms', 1000)} ({s['answers']})"
            if s["answers"]
            else "no case"
        ),
    ),
    _Figure("live: errors under load", lambda s: _counts(s["load_errors"])),
    _Figure(
        "live: views behind the one meant, p50 / p95",
        lambda s: f"{s['behind']['p50']:g} / {s['behind']['p95']:g}" if s["behind"]["p50"] is not None else "no case",
    ),
    _Figure("live: not asked, their marked view was missed", lambda s: str(s["not_asked"])),
)

_MASK = _Figure("Hit@Mask", lambda s: _share(s["hit_at_mask"]), _HIT, Outcome.MISS)
_NEAR = _Figure("within 10 cm of the truth", lambda s: _share(s["error_3d"]["below_10cm"]), _WORLD, FAR)
_RECALL = _Figure("NOT_VISIBLE recall", lambda s: _share(s["not_visible"]["recall"]), _REFUSED, Outcome.FALSE_POINT)
_RIGHT = _Figure(
    "NOT_VISIBLE decided right", lambda s: _share(s["not_visible"]["accuracy"]), _RIGHT_DECISION, Outcome.FALSE_POINT
)
_BY_FATE = {"moved": (_NEAR, _MASK, _RIGHT), "removed": (_RECALL,), "unchanged": (_NEAR, _MASK, _RIGHT)}
