"""Scenes -> data -> training -> answers -> scores, with a tiny model from random weights.

It shows that the chain holds, not that so small a model is of use: it learns 64 questions by heart, and is scored on
them and on those of other rooms, beside the baselines.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
import yaml
from roboref_core.models.roborefer.random_checkpoint import Shape, write_random_checkpoint

from offline.data_engine.cli import Build
from offline.data_engine.files import read_json, write_json
from offline.data_engine.seeds import rng_of
from offline.eval.predict import RunConfig, predict
from offline.eval.predictions import read_predictions
from offline.eval.predictors import ModelConfig, load_predictor
from offline.eval.samples import read_samples
from offline.eval.score import score_file
from offline.train.check import check
from offline.train.inspection import inspect_run
from offline.train.plan import load_plan
from offline.train.run import Outcome, run
from sim.generate import GenerateConfig, generate

FIGURES = ("hit_at_mask", "success_at_0.10", "l2", "balanced_accuracy", "unparsable")
# RoboRefer's layout without depth, at a few thousandths of its size.
SHAPE = Shape(
    hidden=96, intermediate=256, layers=3, heads=4, kv_heads=4, vocabulary=600, tied=False, tower_hidden=64,
    tower_intermediate=128, tower_layers=4, tower_heads=4, image_size=112, patch_size=14, projector="mlp_downsample",
    aspect="resize", depth="none", max_length=1024,
)  # fmt: skip


@dataclass(frozen=True)
class Config:
    """Run the chain. What is there already is not made again.

    Attributes:
        out: everything goes here.
        scenes: rooms to make; a third of them is held out.
        frames: of each room's walk.
        samples: questions to learn.
        steps: of training, 16 samples each.
        held_out: questions of the other rooms to score.
        lr: peak learning rate.
        threads: of torch.
    """

    out: Path = Path("out/train-demo")
    scenes: int = 6
    frames: int = 150
    samples: int = 64
    steps: int = 400
    held_out: int = 100
    lr: float = 3e-3
    threads: int = 2


def data(config: Config) -> tuple[Path, Path]:
    """Files of the questions to learn, and of those held out."""
    files = [config.out / f"{split}.json" for split in ("train", "val")]
    if all(file.exists() for file in files):
        return files[0], files[1]
    scans, built = config.out / "scans", config.out / "data"
    generate(GenerateConfig(out=scans, scenes=config.scenes, frames=config.frames, triangles=40_000,
                            contact_sheet=False))  # fmt: skip
    if Build(scans=scans, out=built, validation_share=0.34)():
        raise ValueError(f"{built}: some scans could not be built, see above")
    for file, count in zip(files, (config.samples, config.held_out), strict=True):
        split = file.stem
        (source,) = built.rglob(f"t1_{split}_multi.json")
        samples = [sample for sample in read_json(source) if not sample["grid"]]
        chosen = rng_of("demo", split).permutation(len(samples))[:count]
        write_json(file, [samples[index] for index in sorted(chosen)])
    return files[0], files[1]


def score(config: Config, model: Path, file: Path, name: str) -> dict:
    """Scores of a model on a file, with those of the baselines."""
    samples = read_samples(file)
    out = config.out / f"{name}_{file.stem}.jsonl"
    predictor = load_predictor(ModelConfig("roborefer", path=str(model), name=name), samples.samples)
    print(f"{out}: {predict(samples.samples, predictor, out, run=RunConfig())}", file=sys.stderr)
    return score_file(read_predictions(out), samples)


def table(rows: Sequence[tuple[str, dict]]) -> str:
    """Markdown: a row per model and file, with 95 % intervals by Wilson where a figure is a share."""
    lines = ["| | samples | " + " | ".join(FIGURES) + " |", "|---" * (len(FIGURES) + 2) + "|"]
    for name, found in rows:
        cells = [_cell(found["figures"][figure]) for figure in FIGURES]
        lines.append(f"| {name} | {found['samples']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(figure: dict) -> str:
    if figure.get("value") is None:
        return "-"
    low_high = figure.get("wilson")
    return f"{figure['value']:.3f}" + (f" [{low_high[0]:.2f}, {low_high[1]:.2f}]" if low_high else "")


def demo(config: Config) -> int:
    """Runs it; prints the table and writes it to ``table.md``."""
    torch.set_num_threads(config.threads)
    config.out.mkdir(parents=True, exist_ok=True)
    learned, held_out = data(config)
    base = config.out / "base"
    if not (base / "config.json").exists():
        write_random_checkpoint(base, SHAPE, scale=0.05)
    plan_file = config.out / "plan.yaml"
    plan_file.write_text(yaml.safe_dump({
        "model": "base", "output": "run", "data_path": learned.name, "batch": 16, "micro_batch": 16,
        "precision": "fp32", "save_every": max(1, config.steps // 4), "log_every": 5, "warmup_ratio": 0.05,
        "stages": [{"name": "t1", "until_step": config.steps, "train": ["llm", "vision_tower", "mm_projector"],
                    "lr": config.lr}],
    }, sort_keys=False))  # fmt: skip
    plan = load_plan(plan_file)
    report = check(plan, samples=4)
    print(report.text())
    if report.errors:
        return 1
    if run(plan) is Outcome.PREEMPTED:
        return 75
    report = inspect_run(plan.output)
    print(report.text())
    rows = []
    for file, title in ((learned, "learned by heart"), (held_out, "other rooms")):
        before, after = (
            score(config, path, file, name) for path, name in ((base, "before"), (plan.output / "model", "after"))
        )
        rows += [(f"{title}: before", before["overall"]), (f"{title}: after", after["overall"])]
        rows += [(f"{title}: {name}", found) for name, found in after["baselines"].items()]
    text = table(rows)
    (config.out / "table.md").write_text(text + "\n")
    (config.out / "rows.json").write_text(json.dumps(rows))
    print(text)
    return 1 if report.errors else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    try:
        return demo(tyro.cli(Config, args=argv, description=__doc__))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
