"""Scores as text: cells that name their counts and intervals, and tables of them in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from offline.eval.scoring.metrics import FIGURES

# The table of the zero-shot protocol, in its order.
HEADLINE = (
    "correct", "hit_at_mask", "not_visible_accuracy", "not_visible_recall", "false_refusals", "balanced_accuracy",
    "f1", "l2", "l2_diagonal", "success_at_0.02", "success_at_0.05", "success_at_0.10", "unparsable", "missing",
)  # fmt: skip
PROBABILITY = {"auroc": "AUROC of p_visible", "calibration_error": "calibration error"}


def title(figure: str) -> str:
    return FIGURES[figure].title if figure in FIGURES else PROBABILITY[figure]


def cell(figure: dict) -> str:
    """ "47.0 % (37.5 to 56.7)": shares in percent with the wider of their two intervals; other figures with theirs."""
    if figure["value"] is None:
        return "-"
    low_high = interval(figure)
    if "hits" in figure:
        shown = f"{100 * figure['value']:.1f} %"
        return shown if low_high is None else f"{shown} ({100 * low_high[0]:.1f} to {100 * low_high[1]:.1f})"
    shown = f"{figure['value']:.3f}"
    return shown if low_high is None else f"{shown} ({low_high[0]:.3f} to {low_high[1]:.3f})"


def interval(figure: dict) -> tuple[float, float] | None:
    """The wider of the Wilson and the clustered interval: neither clustering nor few samples may narrow it."""
    known = [figure[kind] for kind in ("wilson", "bootstrap") if figure.get(kind)]
    return max(known, key=lambda ends: ends[1] - ends[0]) if known else None


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    cells = [list(header), *([str(value) for value in row] for row in rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(header))]
    lines = ["| " + " | ".join(v.ljust(w) for v, w in zip(row, widths, strict=True)) + " |" for row in cells]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)


def figure_rows(scores: Sequence[dict], names: Sequence[str] = HEADLINE) -> list[list[str]]:
    """One row per figure, one column per scored group (a dict with ``figures``)."""
    return [[title(name), *(cell(one["figures"][name]) for one in scores)] for name in names]


REASONING = ("reasoned in", "samples", "answer right", "of each chain right", "whole chain right", "in the form")


def reasoning_rows(found: dict[str, dict]) -> list[list[str]]:
    """Answers with steps, by how many things had to be found."""
    return [
        [
            name,
            str(group["samples"]),
            _share(group["solved"]),
            f"{100 * group['steps']['value']:.1f} %",
            _share(group["chain"]),
            _share(group["form"]),
        ]
        for name, group in found.items()
    ]


def _share(share: dict) -> str:
    return f"{100 * share['value']:.1f} % ({100 * share['low']:.1f} to {100 * share['high']:.1f})"


def render_score(found: dict) -> str:
    """One file's scores for a terminal."""
    lines = [f"{found['model']} on {found['data']}: {found['samples']} samples, {found['scenes']} scenes", ""]
    splits = found["groups"].get("split", {})
    shown = (splits if len(splits) > 1 else {}) | {found["model"]: found["overall"]} | found["baselines"]
    names = (*HEADLINE, *PROBABILITY)
    lines += [markdown(["", *shown], figure_rows(list(shown.values()), names)), ""]
    grouped = {"reason": "not_visible_recall", "steps": "correct", "area": "hit_at_mask", "baseline": "hit_at_mask"}
    for kind, figure in grouped.items():
        if found["groups"].get(kind):
            rows = [[name, str(g["samples"]), cell(g["figures"][figure])] for name, g in found["groups"][kind].items()]
            lines += [markdown([f"by {kind}", "samples", title(figure)], rows), ""]
    if "reasoning" in found:
        lines += [markdown(REASONING, reasoning_rows(found["reasoning"])), ""]
    lines.append(f"outcomes: {', '.join(f'{n} {name}' for name, n in found['outcomes'].items())}")
    for where in ("data_problems", "problems"):
        for name, count in found[where].items():
            example = found["examples"].get(name)
            lines.append(f"{where.replace('_', ' ')}: {count} x {name}{f' (e.g. {example})' if example else ''}")
    return "\n".join(lines)
