"""Tables and the page: what was before, what is after, and what needs no model."""

from __future__ import annotations

import base64
from collections.abc import Sequence
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

BEFORE, AFTER, MIXED = "before", "after", "mixed"
"""The base model; fine-tuned on workshops alone; then a little longer on workshops and known rooms."""
SHOWN = ("correct", "hit_at_mask", "balanced_accuracy", "l2", "unparsable")
_COMPARED = ("correct", "hit_at_mask", "balanced_accuracy")
_HEADER = ("data", "answered by", "questions", *(FIGURES[name].title for name in SHOWN))
_AGAINST = ("data", "", "against", *(f"{FIGURES[name].title}, difference" for name in _COMPARED))
_SHIFT = ("data", "base, in rooms it knows", "base, in workshops", AFTER, MIXED, "of the gap, closed by mixed")


def score_rows(sections: Sequence[Section]) -> list[list[str]]:
    """A row per data file and model, baselines included."""
    return [
        [part.data.name, model, str(len(part.data.samples)), *(cell(found["overall"]["figures"][n]) for n in SHOWN)]
        for part in sections
        for model, found in part.scores.items()
    ]


def difference_rows(sections: Sequence[Section]) -> list[list[str]]:
    """Every tuned model against the base and the baselines, paired: differences with their 95 % intervals by scene."""
    rows = []
    for part in sections:
        for tuned in (name for name in (AFTER, MIXED) if name in part.judged):
            for other in part.judged:
                if other not in (AFTER, MIXED) or (tuned, other) == (MIXED, AFTER):
                    figures = compare(part.judged[other], part.judged[tuned])["figures"]
                    shown = (difference(figures[name]) for name in _COMPARED)
                    rows.append([part.data.name, tuned, other, *shown])
    return rows


def shift_rows(workshops: Sequence[Section], known: Sequence[Section], figure: str) -> list[list[str]]:
    """A figure task by task: how far the base falls among workshops, and how much of that comes back."""
    rows = []
    for part, at_home in zip(workshops, known, strict=True):
        found = {name: one["overall"]["figures"][figure] for name, one in part.scores.items()}
        home = at_home.scores[BEFORE]["overall"]["figures"][figure]
        gap = home["value"] - found[BEFORE]["value"]
        closed = f"{100 * (found[MIXED]['value'] - found[BEFORE]['value']) / gap:.0f} %" if gap > 0 else "-"
        rows.append([part.data.name, cell(home), *(cell(found[name]) for name in (BEFORE, AFTER, MIXED)), closed])
    return rows


def difference(figure: dict) -> str:
    """ "+0.210 (+0.150 to +0.270), better": one figure of ``compare``, of B."""
    if figure["difference"] is None:
        return "-"
    ends = figure["interval"]
    known = "" if ends is None else f" ({ends[0]:+.3f} to {ends[1]:+.3f})"
    verdict = {"B is better": "better", "A is better": "worse"}.get(figure["verdict"], figure["verdict"])
    return f"{figure['difference']:+.3f}{known}, {verdict}"


def tables(workshops: Sequence[Section], known: Sequence[Section], replays: Sequence[Run]) -> str:
    """All tables in Markdown."""
    return "\n\n".join(
        f"{title}\n\n{markdown(header, rows)}" for title, header, rows in _tables(workshops, known, replays)
    )


def _tables(workshops, known, replays) -> list[tuple[str, Sequence[str], list[list[str]]]]:
    return [
        *(
            (f"{FIGURES[name].title}, in workshops that were held out", _SHIFT, shift_rows(workshops, known, name))
            for name in ("hit_at_mask", "correct")
        ),
        ("Workshops that were held out", _HEADER, score_rows(workshops)),
        ("The same, paired, 95 % by room", _AGAINST, difference_rows(workshops)),
        ("What was known before: rooms of the base model's kind, held out", _HEADER, score_rows(known)),
        ("The same, paired, 95 % by room", _AGAINST, difference_rows(known)),
        (
            "Through the node over DDS, in workshops of their own",
            ("", *(run.name for run in replays)),
            [[row.name, *row.cells] for row in replay_table(replays)],
        ),
    ]


def write_page(
    out: Path,
    facts: dict[str, str],
    curves: dict[str, Path],
    workshops: Sequence[Section],
    known: Sequence[Section],
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
        "plot": _plot(workshops),
        "tables": _tables(workshops, known, replays),
    }
    templates = jinja2.PackageLoader("offline.train.demo", "templates")
    page = jinja2.Environment(loader=templates, autoescape=True, trim_blocks=True).get_template("page.html.jinja")
    write_bytes(out, page.render(shown).encode())


def _plot(sections: Sequence[Section]) -> str:
    groups = []
    for part in sections:
        found = {model: one["overall"]["figures"]["correct"] for model, one in part.scores.items()}
        shown = [plots.Dot(model, one["value"], interval(one)) for model, one in found.items()]
        groups.append((part.data.name, shown))
    return plots.dots("solved in workshops that were held out, 95 %", groups)


def _embedded(picture: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()
