"""Tables and the page: what was before, what is after, and what needs no model."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jinja2

from offline.eval.replay.scoring.table import Run
from offline.eval.replay.scoring.table import table as replay_table
from offline.eval.reporting import plots
from offline.eval.reporting.report import Section
from offline.eval.reporting.table import cell, interval, markdown
from offline.eval.scoring.compare import compare
from offline.eval.scoring.metrics import FIGURES
from offline.files import write_bytes

BEFORE, AFTER = "before", "after"
BY_HEART_TITLE = "Learned by heart: questions that the base model answered wrong, then others"
SHOWN = ("correct", "hit_at_mask", "balanced_accuracy", "l2", "unparsable")
_COMPARED = ("correct", "hit_at_mask", "balanced_accuracy")
_HEADER = ("data", "answered by", "questions", *(FIGURES[name].title for name in SHOWN))
_AGAINST = ("data", "after against", *(f"{FIGURES[name].title}, difference" for name in _COMPARED))


def score_rows(sections: Sequence[Section]) -> list[list[str]]:
    """A row per data file and model, baselines included."""
    return [
        [part.data.name, model, str(len(part.data.samples)), *(cell(found["overall"]["figures"][n]) for n in SHOWN)]
        for part in sections
        for model, found in part.scores.items()
    ]


def difference_rows(sections: Sequence[Section]) -> list[list[str]]:
    """The tuned model against every other one, paired: differences with their 95 % intervals by scene."""
    rows = []
    for part in sections:
        for other in part.judged:
            if other != AFTER:
                figures = compare(part.judged[other], part.judged[AFTER])["figures"]
                rows.append([part.data.name, other, *(difference(figures[name]) for name in _COMPARED)])
    return rows


def difference(figure: dict) -> str:
    """ "+0.210 (+0.150 to +0.270), better": one figure of ``compare``, of B."""
    if figure["difference"] is None:
        return "-"
    ends = figure["interval"]
    known = "" if ends is None else f" ({ends[0]:+.3f} to {ends[1]:+.3f})"
    verdict = {"B is better": "better", "A is better": "worse"}.get(figure["verdict"], figure["verdict"])
    return f"{figure['difference']:+.3f}{known}, {verdict}"


def tables(by_heart: Section, held_out: Sequence[Section], replays: Sequence[Run]) -> str:
    """All tables in Markdown."""
    return "\n\n".join(
        [
            BY_HEART_TITLE,
            markdown(_HEADER, score_rows([_models_only(by_heart)])),
            "Rooms that were held out",
            markdown(_HEADER, score_rows(held_out)),
            "Paired, 95 % by room",
            markdown(_AGAINST, difference_rows(held_out)),
            "Through the node over DDS, rooms of their own",
            markdown(["", *(run.name for run in replays)], [[row.name, *row.cells] for row in replay_table(replays)]),
        ]
    )


def write_page(
    out: Path,
    facts: dict[str, str],
    curves: dict[str, Path],
    by_heart: Section,
    held_out: Sequence[Section],
    replays: Sequence[Run],
) -> None:
    """Writes one HTML file that needs nothing beside itself.

    Args:
        facts: what was done, by name.
        curves: loss curves (PNG), by what was learned.
    """
    shown = {
        "facts": facts,
        "curves": {name: _embedded(path) for name, path in curves.items()},
        "plot": _plot(held_out),
        "tables": [
            (BY_HEART_TITLE, _HEADER, score_rows([_models_only(by_heart)])),
            ("Rooms that were held out", _HEADER, score_rows(held_out)),
            ("The same, after against the others: paired, 95 % by room", _AGAINST, difference_rows(held_out)),
            (
                "Through the node over DDS, in rooms of their own",
                ("", *(run.name for run in replays)),
                [[row.name, *row.cells] for row in replay_table(replays)],
            ),
        ],
    }
    templates = jinja2.PackageLoader("offline.train.demo", "templates")
    page = jinja2.Environment(loader=templates, autoescape=True, trim_blocks=True).get_template("page.html.jinja")
    write_bytes(out, page.render(shown).encode())


def _models_only(part: Section) -> Section:
    """Without the baselines: what was learned by heart says nothing against them."""
    names = [one.name for one in part.models]
    return replace(part, scores={name: part.scores[name] for name in names})


def _plot(sections: Sequence[Section]) -> str:
    groups = []
    for part in sections:
        found = {model: one["overall"]["figures"]["correct"] for model, one in part.scores.items()}
        shown = [plots.Dot(model, one["value"], interval(one)) for model, one in found.items()]
        groups.append((part.data.name, shown))
    return plots.dots("solved in rooms that were held out, 95 %", groups)


def _embedded(picture: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()
