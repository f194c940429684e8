"""`roboref eval report`: one HTML file with tables, plots and cases to look at."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import jinja2
import numpy as np
import tyro
from tyro.conf import Positional

from offline.eval.asking.baselines import Reprojection, answers, floor
from offline.eval.asking.predict import git_revision
from offline.eval.records.outcomes import Outcome
from offline.eval.records.predictions import Predictions, read_predictions
from offline.eval.records.samples import Sample, SampleFile, read_samples
from offline.eval.reporting import plots
from offline.eval.reporting.gallery import cases
from offline.eval.reporting.table import HEADLINE, PROBABILITY, REASONING, cell, figure_rows, interval, reasoning_rows
from offline.eval.scoring.compare import HEADER, compare, rows
from offline.eval.scoring.judge import Judged, judge_all
from offline.eval.scoring.metrics import FIGURES
from offline.eval.scoring.score import overall, score
from offline.eval.scoring.steps import score_reasoning
from offline.files import write_bytes, write_json

_SHARES = ("correct", "hit_at_mask", "not_visible_recall", "false_refusals")
_LARGEST_RADIUS = 0.3


@dataclass(frozen=True)
class Section:
    """One data file with the models that answered it, and the baselines.

    Attributes:
        scores: model -> ``score``; the baselines' hold "overall" only.
    """

    data: SampleFile
    models: tuple[Predictions, ...]
    judged: dict[str, Judged]
    scores: dict[str, dict]


def section(data: SampleFile, models: Sequence[Predictions], scenes: Path | None = None) -> Section:
    """Judge and score the models and the baselines on one file.

    Args:
        scenes: folder of scenes for the reprojection baseline; None: without it. Only samples with a mark to carry
            over (T1, T2A) can be answered by it.
    """
    known = {one.name for one in models}
    baselines = [one for one in floor(data.samples) if one.name not in known]
    if scenes is not None and Reprojection.name not in known and any(_has_mark(sample) for sample in data.samples):
        baselines.append(answers(Reprojection(scenes), data.samples))
    names = [one.name for one in models] + [one.name for one in baselines]
    if len(set(names)) != len(names):
        raise ValueError(f"{data.name}: two predictions have the same name: {', '.join(sorted(names))}")
    judged = judge_all(data.samples, [*models, *baselines])
    scores = {one.name: score(j) for one, j in zip(models, judged, strict=False)}
    scores |= {one.name: {"overall": overall(j)} for one, j in zip(baselines, judged[len(models) :], strict=True)}
    return Section(data, tuple(models), dict(zip(names, judged, strict=True)), scores)


def _has_mark(sample: Sample) -> bool:
    return sample.extra.get("ref_point") is not None


def gather(paths: Sequence[Path]) -> list[Predictions]:
    """The predictions of each model; several files of one model are joined unless they answer the same samples."""
    found: dict[str, Predictions] = {}
    for path in paths:
        one = read_predictions(path)
        before = found.get(one.name)
        if before is None:
            found[one.name] = one
        elif before.by_id.keys() & one.by_id.keys():
            found[path.stem] = replace(one, name=path.stem)
        else:
            found[one.name] = before.joined(one)
    return list(found.values())


def write_report(title: str, sections: Sequence[Section], out: Path, per_outcome: int = 24) -> None:
    """Write the page, and beside it the figures as JSON (suffix .json)."""
    runs = {name: run for part in sections for one in part.models for name, run in one.runs.items()}
    page = (
        jinja2.Environment(loader=jinja2.PackageLoader("offline.eval", "templates"), autoescape=True, trim_blocks=True)
        .get_template("report.html.jinja")
        .render(
            title=title,
            revision=git_revision(),
            summary=summary(sections),
            runs=runs,
            sections=[_render(part, per_outcome) for part in sections],
            order=list(Outcome),
            difference=HEADER,
        )
    )
    write_bytes(out, page.encode())
    write_json(out.with_suffix(".json"), {part.data.name: part.scores for part in sections})


def summary(sections: Sequence[Section]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the one table: a row per data file and model, baselines included."""
    names = ("hit_at_mask", "not_visible_accuracy", "l2", *(name for name in FIGURES if name.startswith("success")))
    header = ["data", "model", "samples", *(FIGURES[name].title for name in names)]
    body = [
        [part.data.name, model, str(len(part.data.samples)), *(cell(found["overall"]["figures"][n]) for n in names)]
        for part in sections
        for model, found in part.scores.items()
    ]
    return header, body


def _render(part: Section, per_outcome: int) -> dict:
    return {
        "name": part.data.name,
        "samples": len(part.data.samples),
        "scenes": next(iter(part.scores.values()))["scenes"] if part.models else 0,
        "problems": _problems(part),
        "header": list(part.scores),
        "rows": figure_rows([found["overall"] for found in part.scores.values()], (*HEADLINE, *PROBABILITY)),
        "groups": [
            *(_group_table(part, kind) for kind in ("reason", "relation", "steps", "area", "baseline", "label")),
            *_reasoning(part),
        ],
        "comparisons": _comparisons(part),
        "plots": _plots(part),
        "galleries": [
            {"model": one.name, "cases": cases(part.judged[one.name], one, per_outcome)} for one in part.models
        ],
    }


def _problems(part: Section) -> list[str]:
    lines = [f"data: {n} x {kind} ({part.data.examples[kind]})" for kind, n in part.data.problems.items()]
    for one in part.models:
        found = part.scores[one.name]
        lines += [
            f"{one.name}: {n} x {kind} ({found['examples'].get(kind, '')})" for kind, n in found["problems"].items()
        ]
    return lines


def _group_table(part: Section, kind: str) -> dict:
    figure = "not_visible_recall" if kind == "reason" else "hit_at_mask"
    names = list(dict.fromkeys(name for one in part.models for name in part.scores[one.name]["groups"].get(kind, {})))
    body = []
    for name in names:
        groups = [part.scores[one.name]["groups"][kind][name] for one in part.models]
        body.append([name, str(groups[0]["samples"]), *(cell(group["figures"][figure]) for group in groups)])
    header = [f"by {kind}", "samples", *(f"{FIGURES[figure].title}, {one.name}" for one in part.models)]
    return {"header": header, "rows": body}


def _reasoning(part: Section) -> list[dict]:
    """How far the steps of each model's answers are right, where they were asked for."""
    found = {one.name: score_reasoning(part.judged[one.name], one) for one in part.models}
    rows = [[model, *row] for model, groups in found.items() for row in reasoning_rows(groups)]
    return [{"header": ["", *REASONING], "rows": rows}] if rows else []


def _comparisons(part: Section) -> list[dict]:
    """Each further model against the first."""
    found = []
    for other in part.models[1:]:
        first = part.models[0]
        one = compare(part.judged[first.name], part.judged[other.name])
        found.append({"a": first.name, "b": other.name, "rows": rows(one), "note": one["note"]})
    return found


def _plots(part: Section) -> list[str]:
    found = [
        plots.dots(
            "shares with 95 % intervals",
            [
                (FIGURES[name].title, [_dot(model, s["overall"]["figures"][name]) for model, s in part.scores.items()])
                for name in _SHARES
            ],
        ),
        plots.curves(
            "Success within a radius",
            "L2, normalised",
            "share of visible",
            [plots.Curve(name, _success_curve(judged)) for name, judged in part.judged.items()],
            _LARGEST_RADIUS,
        ),
    ]
    for kind, figure in (("reason", "not_visible_recall"), ("area", "hit_at_mask"), ("baseline", "hit_at_mask")):
        names = list(dict.fromkeys(n for one in part.models for n in part.scores[one.name]["groups"].get(kind, {})))
        groups = [
            (
                name,
                [_dot(one.name, part.scores[one.name]["groups"][kind][name]["figures"][figure]) for one in part.models],
            )
            for name in names
        ]
        if groups:
            found.append(plots.dots(f"{FIGURES[figure].title} by {kind}", groups))
    reliable = {
        model: s["overall"]["figures"]["calibration_error"]
        for model, s in part.scores.items()
        if s["overall"]["figures"]["calibration_error"]["value"] is not None
    }
    if reliable:
        lines = [
            plots.Curve(f"{model} (error {one['value']:.3f})", [(p, share) for p, share, _ in one["bins"]], dots=True)
            for model, one in reliable.items()
        ]
        found.append(plots.curves("calibration", "p(visible)", "share visible", lines, 1.0, diagonal=True))
    return found


def _dot(name: str, figure: dict) -> plots.Dot:
    return plots.Dot(name, figure["value"], interval(figure) if figure["value"] is not None else None)


def _success_curve(judged: Judged) -> list[tuple[float, float]]:
    radii = np.linspace(0.0, _LARGEST_RADIUS, 61)
    l2 = np.nan_to_num(judged.l2[judged.visible], nan=np.inf)
    return [(float(r), float((l2 <= r).mean()) if len(l2) else 0.0) for r in radii]


def _of(models: Sequence[Predictions], data: SampleFile) -> list[Predictions]:
    """The models that answer samples of a file, with those answers only."""
    ids = {sample.id for sample in data.samples}
    chosen = [replace(m, by_id={name: line for name, line in m.by_id.items() if name in ids}) for m in models]
    return [one for one in chosen if one.by_id]


@dataclass(frozen=True)
class Report:
    """One HTML file with tables, plots and cases to look at; it needs nothing beside itself.

      roboref eval report base.jsonl tuned.jsonl --data t1_val_multi.json t2b_val_multi.json --out report.html

    Each predictions file counts for every data file that it answers samples of.
    """

    predictions: Positional[tuple[Path, ...]]
    """One or more files of `roboref eval predict`, or of anybody, with "id" and "text"."""
    data: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE.json ...")]
    """One or more files of samples."""
    out: Path = Path("report.html")
    """The report; the same figures go beside it as JSON."""
    scenes: Path | None = None
    """Folder with the posed RGB-D scenes: adds the reprojection baseline."""
    cases: int = 24
    """Most cases shown of each outcome of each model."""
    title: str = "Spatial tasks"
    """Title of the page."""

    def __call__(self) -> None:
        models = gather(self.predictions)
        files = [read_samples(path) for path in self.data]
        known = {sample.id for data in files for sample in data.samples}
        for one in models:
            if not one.by_id.keys() & known:
                raise ValueError(one.no_match(files[0].samples[0].id, ", ".join(map(str, self.data))))
            if strange := one.by_id.keys() - known:
                print(f"{one.name}: {len(strange)} predictions of samples in none of the files", file=sys.stderr)
        sections = [section(data, _of(models, data), self.scenes) for data in files]
        write_report(self.title, sections, self.out, self.cases)
        print(self.out)
