"""`roboref eval ablation`: what the grid, the form and the depth pictures are worth to one model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import tyro
from roboref_core.command_line import ExitStatus

from offline.eval.asking.predict import RunConfig
from offline.eval.asking.predictor import ModelConfig, Predictor
from offline.eval.asking.predictors import load_predictor
from offline.eval.asking.show import ShowConfig
from offline.eval.records.samples import SampleFile
from offline.eval.reporting.table import cell, markdown
from offline.eval.scoring.compare import compare
from offline.eval.scoring.judge import Judged
from offline.eval.scoring.metrics import FIGURES
from offline.eval.scoring.paired import BETTER
from offline.eval.zeroshot import read_files, run
from offline.files import write_bytes, write_json

FORMS = ("t1_val_multi", "t1_val_concat")
_FIGURES = ("correct", "hit_at_mask", "not_visible_accuracy", "l2", "success_at_0.05", "unparsable")


@dataclass(frozen=True, eq=False)
class Variant:
    """One way to show a file."""

    data: SampleFile
    show: ShowConfig

    @property
    def name(self) -> str:
        return f"{self.data.name}{'_grid' if self.show.grid else ''}{'_depth' if self.show.depth else ''}"


def variants(files: list[SampleFile], predictor: Predictor, show: ShowConfig) -> Iterator[Variant]:
    """Every combination that the model and the files allow."""
    for data in files:
        with_depth = predictor.uses_depth and any(sample.depths for sample in data.samples)
        for grid, depth in product((False, True), (False, True) if with_depth else (False,)):
            yield Variant(data, replace(show, grid=grid, depth=depth))


def differences(judged: dict[Variant, Judged]) -> list[list[str]]:
    """What adding grid, or depth, to a variant does: rows of figures with their intervals, paired."""
    rows = []
    for without, one in judged.items():
        for with_it, other in judged.items():
            added = _added(without, with_it)
            if added is None:
                continue
            found = compare(one, other)
            for name in ("correct", "hit_at_mask", "not_visible_accuracy"):
                figure = found["figures"][name]
                if figure["difference"] is None:
                    continue
                ends = figure["interval"]
                interval = "-" if ends is None else f"{ends[0]:+.3f} to {ends[1]:+.3f}"
                verdict = {BETTER["B"]: "helps", BETTER["A"]: "hurts"}.get(figure["verdict"], figure["verdict"])
                difference = f"{figure['difference']:+.3f}"
                rows.append([added, without.name, FIGURES[name].title, difference, interval, verdict])
    return rows


def _added(a: Variant, b: Variant) -> str | None:
    """What ``b`` has beyond ``a``, if it is one thing and the samples are the same."""
    if a.data is not b.data:
        return None
    change = (b.show.grid - a.show.grid, b.show.depth - a.show.depth)
    return {(1, 0): "grid", (0, 1): "depth"}.get(change)


@dataclass(frozen=True)
class Ablation:
    """What the grid, the form and the depth pictures are worth to one model.

      roboref eval ablation --tasks-dir tasks --backend roborefer --path checkpoints/2b --out out/ablation

    T1, the same pairs each time: with and without a coordinate grid, as two pictures and side by side in one, with and
    without depth pictures (where the model takes them). Grid and depth are compared paired, on the same samples.
    """

    model: tyro.conf.OmitArgPrefixes[ModelConfig]
    tasks_dir: Path
    """Folder with t1_val_multi.json and t1_val_concat.json."""
    out: Path = Path("out/ablation")
    """Folder for predictions and the tables."""
    show: tyro.conf.OmitArgPrefixes[ShowConfig] = field(default_factory=ShowConfig)
    run: tyro.conf.OmitArgPrefixes[RunConfig] = field(default_factory=RunConfig)

    def __call__(self) -> ExitStatus:
        files = read_files(self.tasks_dir, FORMS, self.run.limit)
        predictor = load_predictor(self.model, files[0].samples)
        judged: dict[Variant, Judged] = {}
        rows, scores, complete = [], {}, True
        for variant in variants(files, predictor, self.show):
            out = self.out / f"{variant.name}.jsonl"
            found, whole = run(variant.data, predictor, out, variant.show, self.run, None)
            complete &= whole
            (model,) = found.models
            judged[variant] = found.judged[model.name]
            scores[variant.name] = found.scores[model.name]["overall"]
            rows.append([variant.name, *(cell(scores[variant.name]["figures"][name]) for name in _FIGURES)])
        tables = [
            markdown(["T1 shown as", *(FIGURES[name].title for name in _FIGURES)], rows),
            markdown(["adding", "to", "", "difference", "95 % by scene", "verdict"], differences(judged)),
        ]
        text = f"{predictor.name}\n\n" + "\n\n".join(tables) + "\n"
        write_bytes(self.out / "ablation.md", text.encode())
        write_json(self.out / "ablation.json", scores)
        print(text)
        return ExitStatus.DONE if complete else ExitStatus.BAD
