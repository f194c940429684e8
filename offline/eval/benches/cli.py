"""`roboref eval bench`: public benchmarks, asked, scored, beside published figures."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from roboref_core.prompting import conventions
from roboref_core.prompting.answer_text import format_answer
from tyro.conf import Positional

from offline.eval.asking.baselines import Baseline, ImageCentre, NeverVisible, RandomInSizePrior, sizes_of
from offline.eval.asking.predict import RunConfig, predict
from offline.eval.asking.predictor import ModelConfig
from offline.eval.asking.predictors import load_predictor
from offline.eval.asking.show import ShowConfig
from offline.eval.benches.benchmarks import BENCHMARKS
from offline.eval.benches.families import FAMILIES
from offline.eval.benches.items import Item
from offline.eval.benches.published import NOTICE, rows
from offline.eval.benches.score import score
from offline.eval.records.predictions import Predictions, collect, read_predictions
from offline.eval.reporting.table import markdown
from offline.files import write_json

if TYPE_CHECKING:
    BenchmarkName = str
    FamilyName = str
    ConventionName = str
else:
    BenchmarkName = Literal[tuple(BENCHMARKS)]
    FamilyName = Literal[tuple(FAMILIES)]
    ConventionName = Literal[("", *conventions.FAMILIES)]


def baseline_predictions(items: Sequence[Item]) -> list[Predictions]:
    """The floor: image centre, chance in the prior of the masks' sizes, and always NOT_VISIBLE."""
    sizes = sizes_of(item.mask() for item in items if item.mask is not None)
    return [_answers(one, items) for one in (ImageCentre(), RandomInSizePrior(sizes), NeverVisible())]


def _answers(baseline: Baseline, items: Sequence[Item]) -> Predictions:
    lines = []
    for item in items:
        point = baseline.point(item.sample)
        points = [] if point is None else [list(point)]
        lines.append(
            {
                "kind": "prediction",
                "id": item.sample.id,
                "text": format_answer(points or None),
                "points": points,
                "visible": point is not None,
            }
        )
    return collect(lines, baseline.name)


def render(benchmark: str, found: dict[str, dict]) -> str:
    """Scores of every model and baseline, and what was published, as text."""
    groups = [*next(iter(found.values()))["groups"], "overall"]
    lines = []
    for mode in ("official", "strict"):
        body = []
        for name, scores in found.items():
            cells = [(scores["groups"] | {"overall": scores["overall"]})[group].get(mode) for group in groups]
            if any(cells):
                body.append([name, *(_cell(cell) for cell in cells)])
        if body:
            lines += [markdown([f"{mode}, %", *groups], body), ""]
    model = next(iter(found))
    for group in groups[:-1]:
        one = found[model]["groups"][group]
        strict = one["strict"]
        wrong = f"{strict['unparsable']} unparsable, {strict['not_visible']} NOT_VISIBLE, {strict['missing']} missing"
        loose = f"; published scorer: {one['official']['line']}" if "official" in one else ""
        lines.append(f"{model}, {group}: {one['questions']} questions, {wrong}{loose}")
    if by_steps := found[model].get("steps"):
        body = [
            [name, *(_cell(scores["steps"][count]["strict"]) for count in by_steps)] for name, scores in found.items()
        ]
        lines += ["", markdown(["strict, % by reasoning steps", *by_steps], body)]
    lines += ["", markdown([f"model ({NOTICE})", "%", "source"], rows(benchmark))]
    return "\n".join(lines)


def _cell(figure: dict | None) -> str:
    if not figure or figure["value"] is None:
        return "-"
    shown = f"{100 * figure['value']:.2f}"
    ends = figure["interval"]
    return shown if ends is None else f"{shown} ({100 * ends[0]:.1f} to {100 * ends[1]:.1f})"


@dataclass(frozen=True)
class Bench:
    """Run one public benchmark: asked, scored, beside published figures.

      roboref eval bench refspatial --root data/RefSpatial-Bench --family roborefer --backend roborefer --path ckpt
      roboref eval bench refspatial --root data/RefSpatial-Bench --family qwen --predictions answers.jsonl

    Published figures are shown with the source of each; none of them was measured here. Without the data it says how
    to get them.
    """

    benchmark: Positional[BenchmarkName]
    """Which."""
    root: Path
    """Folder with its data in the published layout."""
    family: FamilyName
    """How the model is asked, and in which scale it answers."""
    model: tyro.conf.OmitArgPrefixes[ModelConfig] = field(default_factory=lambda: ModelConfig("nano"))
    convention: ConventionName = ""
    """Family or scale of its coordinates, where they are not the family's."""
    predictions: Path | None = None
    """Score these answers instead of asking a model."""
    out: Path = Path("out/bench")
    """Folder for predictions and scores."""
    show: tyro.conf.OmitArgPrefixes[ShowConfig] = field(default_factory=ShowConfig)
    run: tyro.conf.OmitArgPrefixes[RunConfig] = field(default_factory=RunConfig)

    def __call__(self) -> None:
        benchmark, family = BENCHMARKS[self.benchmark], FAMILIES[self.family]
        if self.convention:
            family = replace(family, coordinates=conventions.family_of(self.convention))
        if not self.root.is_dir():
            fetch = benchmark.fetch.replace("{root}", str(self.root))
            raise ValueError(f"{self.root}: no such folder. Get the data with:\n  {fetch}")
        items = benchmark.read(self.root, family)[: self.run.limit]
        asked = self._answers(items)
        if not any(item.sample.id in asked.by_id for item in items):
            raise ValueError(asked.no_match(items[0].sample.id, str(self.root)))
        found = {
            one.name: score(items, one, family, benchmark.combine) for one in (asked, *baseline_predictions(items))
        }
        write_json(self.out / f"{self.benchmark}.json", found)
        print(render(self.benchmark, found))

    def _answers(self, items: Sequence[Item]) -> Predictions:
        if self.predictions is not None:
            return read_predictions(self.predictions)
        samples = [item.sample for item in items]
        predictor = load_predictor(self.model, samples)
        out = self.out / f"{self.benchmark}.jsonl"
        print(f"{out}: {predict(samples, predictor, out, self.show, self.run)}", file=sys.stderr)
        return read_predictions(out)
