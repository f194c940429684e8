"""`roboref eval bench`: RefSpatial-Bench, Where2Place or CrossPoint-Bench, asked, scored, beside published figures.

    roboref eval bench refspatial --root data/RefSpatial-Bench --family roborefer --model roborefer --path ckpt
    roboref eval bench refspatial --root data/RefSpatial-Bench --family qwen --predictions answers.jsonl

Published figures are shown with the source of each; none of them was measured here. Without the data it says how to
get them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import tyro
from roboref_core.prompting.answer_text import format_answer
from roboref_core.prompting.prompt import Convention
from tyro.conf import Positional

from offline.eval.asking.baselines import Baseline, ImageCentre, NeverVisible, RandomInSizePrior, sizes_of
from offline.eval.asking.predict import Gone, RunConfig, predict
from offline.eval.asking.predictor import ModelConfig
from offline.eval.asking.predictors import load_predictor
from offline.eval.asking.show import ShowConfig
from offline.eval.benches.families import FAMILIES, Family
from offline.eval.benches.items import BENCHMARKS, Item
from offline.eval.benches.published import NOTICE, rows
from offline.eval.benches.score import score
from offline.eval.records.predictions import Predictions, collect, read_predictions
from offline.eval.reporting.table import markdown
from offline.files import write_json


@dataclass(frozen=True)
class Config:
    """Run one public benchmark.

    Attributes:
        benchmark: which.
        root: folder with its data in the published layout.
        family: how the model is asked, and in which scale it answers.
        convention: scale of its answers, where it is not the family's.
        predictions: score these answers instead of asking a model.
        out: folder for predictions and scores.
    """

    benchmark: Positional[Literal["refspatial", "where2place", "crosspoint"]]
    root: Path
    family: Literal[tuple(FAMILIES)]
    model: tyro.conf.OmitArgPrefixes[ModelConfig] = field(default_factory=lambda: ModelConfig(model=""))
    convention: Literal["", "normalised", "thousand", "pixels"] = ""
    predictions: Path | None = None
    out: Path = Path("out/bench")
    show: tyro.conf.OmitArgPrefixes[ShowConfig] = field(default_factory=ShowConfig)
    run: tyro.conf.OmitArgPrefixes[RunConfig] = field(default_factory=RunConfig)


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
        wrong = f"{one['strict']['unparsable']} unparsable, {one['strict']['missing']} missing"
        loose = f"; published scorer: {one['official']['line']}" if "official" in one else ""
        lines.append(f"{model}, {group}: {one['questions']} questions, {wrong}{loose}")
    lines += ["", markdown([f"model ({NOTICE})", "%", "source"], rows(benchmark))]
    return "\n".join(lines)


def _cell(figure: dict | None) -> str:
    if not figure or figure["value"] is None:
        return "-"
    shown = f"{100 * figure['value']:.2f}"
    ends = figure["interval"]
    return shown if ends is None else f"{shown} ({100 * ends[0]:.1f} to {100 * ends[1]:.1f})"


def _ask(config: Config, items: Sequence[Item]) -> Predictions:
    if config.predictions is not None:
        return read_predictions(config.predictions)
    if not config.model.model:
        raise ValueError("name a model to ask (--model), or answers to score (--predictions)")
    samples = [item.sample for item in items]
    predictor = load_predictor(config.model, samples)
    out = config.out / f"{config.benchmark}.jsonl"
    print(f"{out}: {predict(samples, predictor, out, config.show, config.run)}", file=sys.stderr)
    return read_predictions(out)


def _family(config: Config) -> Family:
    family = FAMILIES[config.family]
    return replace(family, convention=Convention(config.convention)) if config.convention else family


def main(argv: list[str]) -> int:
    config = tyro.cli(Config, args=argv, prog="roboref eval bench", description=__doc__)
    benchmark, family = BENCHMARKS[config.benchmark], _family(config)
    if not config.root.is_dir():
        print(
            f"{config.root}: no such folder. Get the data with:\n  {benchmark.fetch.format(root=config.root)}",
            file=sys.stderr,
        )
        return 1
    try:
        items = benchmark.read(config.root, family)[: config.run.limit]
        asked = _ask(config, items)
    except (ValueError, ImportError, Gone) as error:
        print(f"roboref eval bench: {error}", file=sys.stderr)
        return 1
    found = {one.name: score(items, one, family) for one in (asked, *baseline_predictions(items))}
    write_json(config.out / f"{config.benchmark}.json", found)
    print(render(config.benchmark, found))
    return 0
