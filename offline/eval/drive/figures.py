"""Figures of agents under conditions, with 95 % intervals by room, and paired differences between agents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from offline.eval.reporting.table import cell, markdown
from offline.eval.scoring import paired
from offline.eval.scoring.intervals import ClusterBootstrap, wilson

_NONE = float("nan")


@dataclass(frozen=True)
class Figure:
    """One column.

    Attributes:
        title, help: for a person.
        value: of an episode; NaN where the figure has no meaning for it.
        share: the values are 0 or 1.
    """

    title: str
    help: str
    value: Callable[[dict], float]
    share: bool = False


def _of(name: str) -> Callable[[dict], float]:
    return lambda line: _NONE if line["figures"][name] is None else float(line["figures"][name])


def _within(limit: float) -> Callable[[dict], float]:
    """Of the episodes that ended before the thing: the share whose lateral error is below."""

    def value(line: dict) -> float:
        figures = line["figures"]
        if figures["distance"] is None:
            return _NONE
        return float(figures["success"] and figures["lateral"] is not None and figures["lateral"] <= limit)

    return value


FIGURES = {
    "success": Figure(
        "success",
        "Arrived within the success distance of the thing's surface, the thing in view, and the last answer on it and "
        "not on another of its kind. Of a thing that was taken away: it says that it is lost or gone.",
        _of("success"),
        share=True,
    ),
    "wrong_stop": Figure(
        "wrong stops", "It says that it arrived, but the episode is not a success.", _of("wrong_stop"), True
    ),
    "lost_wrongly": Figure(
        "lost, wrongly", "It says that the thing is lost or gone, and it is there.", _of("lost_wrongly"), True
    ),
    "spl": Figure("SPL", "Success weighted by the shortest way over the way driven.", _of("spl")),
    "soft_spl": Figure(
        "soft SPL", "The same with the share of the distance that was covered instead of success.", _of("soft_spl")
    ),
    "distance": Figure("distance [m]", "Of the robot from the thing's surface at the end.", _of("distance")),
    "collisions": Figure("collisions", "How often something stopped the robot, per episode.", _of("collisions")),
    "questions": Figure("questions", "Asked per episode.", _of("questions")),
    "lateral_1": Figure(
        "within 1 cm",
        "A success whose last answer's ray from the camera passes the thing's surface by at most so much: what a "
        "gripper that comes along it would miss by.",
        _within(0.01),
        True,
    ),
    "lateral_2": Figure("within 2 cm", "The same, 2 cm.", _within(0.02), True),
    "lateral_5": Figure("within 5 cm", "The same, 5 cm.", _within(0.05), True),
}
COMPARED = ("success", "spl", "lateral_2")


def figures_of(lines: Sequence[dict], rooms: Sequence[int]) -> dict:
    """Figures of one agent under one condition.

    Args:
        rooms: all rooms of the evaluation, which are what the bootstrap draws.
    """
    clusters = np.array([list(rooms).index(line["room"]) for line in lines], dtype=np.int64)
    bootstrap = ClusterBootstrap(clusters)
    found = {}
    for name, figure in FIGURES.items():
        values = np.array([figure.value(line) for line in lines])
        counted = np.isfinite(values)
        total = int(counted.sum())
        one: dict = {"value": float(values[counted].mean()) if total else None, "total": total}
        if figure.share:
            hits = int(values[counted].sum())
            one |= {"hits": hits, "wilson": wilson(hits, total) if total else None}
        columns = np.column_stack([np.where(counted, values, 0.0), counted]).astype(float)
        one["bootstrap"] = bootstrap.interval(_mean(bootstrap.sums(columns))) if total else None
        found[name] = one
    ends: dict[str, int] = {}
    for line in lines:
        end = line["figures"]["end"]
        ends[end] = ends.get(end, 0) + 1
    return {
        "episodes": len(lines),
        "rooms": len({line["room"] for line in lines}),
        "figures": found,
        "ends": dict(sorted(ends.items(), key=lambda item: (-item[1], item[0]))),
        "wall_seconds": float(np.sum([line["wall_seconds"] for line in lines])),
    }


def _mean(sums: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums[:, 0] / sums[:, 1])


def compared(a: Sequence[dict], b: Sequence[dict]) -> dict | None:
    """Agent B against A over the episodes that both drove; None if there is none."""
    of_a = {line["episode"]: line for line in a}
    both = [(of_a[line["episode"]], line) for line in b if line["episode"] in of_a]
    if not both:
        return None
    clusters = paired.Clusters.choose(
        [str(one["room"]) for one, _ in both], [str(one["goal"]["id"]) for one, _ in both], "room"
    )
    bootstrap = clusters.bootstrap()
    found = {}
    for name in COMPARED:
        figure = FIGURES[name]
        values = np.array([[figure.value(one), figure.value(other)] for one, other in both])
        counted = np.isfinite(values).all(axis=1)
        columns = [np.column_stack([np.where(counted, v, 0.0), counted]).astype(float) for v in values.T]
        interval = bootstrap.difference(columns[1], columns[0], _mean) if counted.any() else None
        mean_a, mean_b = (float(v[counted].mean()) if counted.any() else _NONE for v in values.T)
        won = paired.better_in(values[:, 0], values[:, 1], 1)
        found[name] = paired.difference(mean_a, mean_b, interval, won, int(counted.sum()), 1)
    return {
        "episodes": len(both),
        "figures": found,
        "clusters": clusters.of,
        "note": paired.note(clusters, bootstrap.count, "rooms"),
    }


def scored(lines: Sequence[dict]) -> dict:
    """Everything: {"conditions": {condition: {agent: figures}}, "comparisons": [...]}, JSON-ready."""
    rooms = sorted({line["room"] for line in lines})
    groups: dict[str, dict[str, list[dict]]] = {}
    for line in lines:
        groups.setdefault(line["condition"], {}).setdefault(line["agent"], []).append(line)
    comparisons = []
    for condition, agents in groups.items():
        names = [name for name in agents if name not in ("oracle", "never-moves", "random-walk")]
        for i, b in enumerate(names):
            for a in names[:i]:
                found = compared(agents[a], agents[b])
                if found is not None:
                    comparisons.append({"condition": condition, "a": a, "b": b, **found})
    return {
        "conditions": {
            condition: {agent: figures_of(own, rooms) for agent, own in agents.items()}
            for condition, agents in groups.items()
        },
        "comparisons": comparisons,
    }


def tables(found: dict) -> list[tuple[str, list[str], list[list[str]]]]:
    """(condition, header, rows) for a terminal or a page."""
    shown = []
    for condition, agents in found["conditions"].items():
        names = [name for name in FIGURES if any(one["figures"][name]["value"] is not None for one in agents.values())]
        header = ["agent", "episodes", *(FIGURES[name].title for name in names)]
        rows = [
            [agent, str(one["episodes"]), *(cell(one["figures"][name]) for name in names)]
            for agent, one in agents.items()
        ]
        shown.append((condition, header, rows))
    return shown


DIFFERENCE_HEADER = ("condition", "B against A", "figure", "A", "B", "B - A", "95 %", "exact p", "verdict")


def difference_rows(found: dict) -> list[list[str]]:
    rows = []
    for one in found["comparisons"]:
        for name, figure in one["figures"].items():
            if figure["difference"] is None:
                continue
            interval = "-" if figure["interval"] is None else "{:+.3f} to {:+.3f}".format(*figure["interval"])
            values = [f"{figure['a']:.3f}", f"{figure['b']:.3f}", f"{figure['difference']:+.3f}"]
            rows.append(
                [
                    one["condition"],
                    f"{one['b']} against {one['a']}",
                    FIGURES[name].title,
                    *values,
                    interval,
                    f"{figure['p']:.2g}",
                    figure["verdict"],
                ]
            )
    return rows


def render(found: dict) -> str:
    """Everything for a terminal."""
    parts = []
    for condition, header, rows in tables(found):
        parts += [f"\n{condition}", markdown(header, rows)]
    differences = difference_rows(found)
    if differences:
        parts += ["\npaired, by room", markdown(DIFFERENCE_HEADER, differences)]
    return "\n".join(parts)
