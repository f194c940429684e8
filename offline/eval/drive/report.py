"""The evaluation as one HTML file: tables, plots, and episodes to look at."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

import jinja2
from roboref_core.atomic import write_text

from offline.eval.drive.figures import DIFFERENCE_HEADER, FIGURES, difference_rows, tables
from offline.eval.drive.settings import Condition
from offline.eval.reporting.plots import Dot, dots
from offline.eval.reporting.table import interval

_CASES = 3
"""Successes, and failures, of each agent under each condition."""
_MOST_BYTES = 25_000_000
_CONDITIONS = {
    Condition.EXACT: "exact camera poses, and the room stays as it is",
    Condition.DRIFTING: "camera poses are what odometry says since the tour began",
    Condition.MOVED: "the thing was put elsewhere after the tour",
    Condition.REMOVED: "the thing was taken away after the tour; right is to say so",
    Condition.OCCLUDED: "the robot starts facing the thing, and something hides all of it",
    Condition.DUPLICATES: "the room has another thing of the same kind",
}


def write_report(found: dict, lines: Sequence[dict], folder: Path) -> None:
    """Write report.html.

    Args:
        found: the figures, see ``figures.scored``.
        lines: of the episodes; pictures are read from ``folder``.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("offline.eval.drive", "templates"), autoescape=True, trim_blocks=True
    )
    shown = {condition: (header, rows) for condition, header, rows in tables(found)}
    budget = _MOST_BYTES
    sections = []
    for condition, (header, rows) in shown.items():
        cases, budget = _cases([line for line in lines if line["condition"] == condition], folder, budget)
        sections.append(
            {
                "name": condition,
                "about": _CONDITIONS[Condition(condition)],
                "header": header,
                "rows": rows,
                "cases": cases,
            }
        )
    page = environment.get_template("drive.html.jinja").render(
        found=found,
        sections=sections,
        plots=[_plot(found, name) for name in ("success", "lateral_2")],
        difference_header=DIFFERENCE_HEADER,
        differences=difference_rows(found),
        figures=FIGURES.values(),
    )
    write_text(folder / "report.html", page)


def _plot(found: dict, name: str) -> str:
    agents = list(dict.fromkeys(agent for own in found["conditions"].values() for agent in own))
    groups = []
    for condition, own in found["conditions"].items():
        block = []
        for agent in agents:
            figure = own[agent]["figures"][name] if agent in own else {"value": None}
            known = interval(figure) if figure["value"] is not None else None
            block.append(Dot(agent, figure["value"], known))
        if any(dot.value is not None for dot in block):
            groups.append((condition, block))
    return dots(FIGURES[name].title, groups)


def _cases(lines: Sequence[dict], folder: Path, budget: int) -> tuple[list[dict], int]:
    """Episodes with pictures, some of each agent, as long as the page has room."""
    chosen = []
    for agent in dict.fromkeys(line["agent"] for line in lines):
        for success in (False, True):
            own = [line for line in lines if line["agent"] == agent and line["figures"]["success"] is success]
            own = [line for line in own if (folder / picture_name(line["key"])).exists()]
            own.sort(key=lambda line: hashlib.sha256(line["key"].encode()).digest())
            chosen += own[:_CASES]
    cases = []
    for line in chosen:
        data = (folder / picture_name(line["key"])).read_bytes()
        budget -= 4 * len(data) // 3
        if budget < 0:
            break
        figures = line["figures"]
        story = [figures["end"], figures["said"]]
        if figures["distance"] is not None:
            story.append(f"{figures['distance']:.2f} m from it at the end")
        if figures["off"] is not None:
            story.append(f"last answer {100 * figures['off']:.1f} cm off its surface")
        story.append(f"{figures['questions']} questions, {figures['path']:.1f} m driven")
        cases.append(
            {
                "id": line["key"],
                "agent": line["agent"],
                "success": figures["success"],
                "label": line["goal"]["label"],
                "story": "; ".join(story),
                "picture": "data:image/jpeg;base64," + base64.b64encode(data).decode(),
            }
        )
    return cases, budget


def picture_name(key: str) -> str:
    """Where the picture of an episode lies in the folder."""
    return f"pictures/{key.replace('/', '-')}.jpg"
