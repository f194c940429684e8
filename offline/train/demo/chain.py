"""The steps behind the data: fine-tune by a plan, answer and judge, replay through the node."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from roboref_core.command_line import Stopped
from roboref_core.models.options import ModelOptions
from roboref_core.models.roborefer import calibration

from offline.eval.asking.predict import predict
from offline.eval.asking.predictor import ModelConfig
from offline.eval.asking.predictors import load_predictor
from offline.eval.asking.show import ShowConfig
from offline.eval.records.predictions import Predictions, read_predictions
from offline.eval.records.replays import pooled, read_records
from offline.eval.records.samples import SampleFile, read_samples
from offline.eval.replay.cli import Replay, run_replay
from offline.eval.replay.scoring.score import score
from offline.eval.replay.scoring.table import Run
from offline.eval.scoring.calibrate import fit, model_name
from offline.files import read_json, write_bytes
from offline.train.check import check
from offline.train.demo.config import TuningConfig
from offline.train.inspection import inspect_run
from offline.train.plan import load_plan
from offline.train.run import Outcome, run
from offline.train.run_folder import MODEL, RunFolder

# The base model is no better with depth; see its card.
COLOUR = ShowConfig(depth=False)
# As the base model learned, and as the evaluation and the node ask.
_FORM = "inference"
PARTS = ("llm", "vision_tower", "mm_projector")
DEPTH_PARTS = (*PARTS, "depth_tower", "depth_projector")
FROZEN_VISION = ("llm", "mm_projector")
_CHECKED = 2


class Preempted(Stopped):
    """A signal asked to stop; the run's last step is saved, and the next call goes on from there."""


@dataclass(frozen=True)
class Lesson:
    """A stage: a mixture of the registry, learned up to a share of the steps.

    Attributes:
        until: in (0, 1], of all steps.
    """

    mixture: str
    until: float = 1.0


def fine_tune(
    plan_file: Path, tuning: TuningConfig, registry: Path, lessons: Sequence[Lesson], parts: Sequence[str] = PARTS
) -> Path:
    """Writes a plan, checks it, runs it, looks at what it left; returns the model's folder.

    Args:
        registry: of the data sets that the lessons name.
        parts: of the model, that learn.

    Raises:
        ValueError: check or inspection found something wrong, or the run's folder holds the run of another plan.
        Preempted: a signal asked to stop.
    """
    steps = tuning.steps
    stages = [
        {
            "name": f"{plan_file.stem}_{number}",
            "mixture": lesson.mixture,
            "until_step": round(lesson.until * steps),
            "train": list(parts),
            "lr": tuning.lr,
        }
        for number, lesson in enumerate(lessons)
    ]
    keys = {
        "model": str(tuning.base.absolute()),
        "output": f"{plan_file.stem}_run",
        "registry": str(registry.absolute()),
        "batch": tuning.batch,
        "micro_batch": min(tuning.batch, 4),
        "precision": "fp32",
        "prompt_form": _FORM,
        "warmup_ratio": 0.1,
        "embedding_lr_scale": tuning.embedding_lr_scale,
        "save_every": max(1, steps // 4),
        "keep": 1,
        "log_every": max(1, steps // 100),
        "report_to": [],
        "stages": stages,
    }
    write_bytes(plan_file, yaml.safe_dump(keys, sort_keys=False).encode())
    torch.set_num_threads(tuning.threads)
    plan = load_plan(plan_file)
    if not RunFolder(plan.output).finished:
        _passed(check(plan, _CHECKED))
    if run(plan) is Outcome.PREEMPTED:
        raise Preempted(f"{plan.output}: stopped; the same command goes on")
    _passed(inspect_run(plan.output))
    return plan.output / MODEL


def _passed(report) -> None:
    print(report.text(), file=sys.stderr)
    if report.errors:
        raise ValueError(report.errors[0])


def answer(model: Path, name: str, data: SampleFile, out: Path, show: ShowConfig = COLOUR) -> Predictions:
    """A checkpoint's answers to every sample of a file; those that ``out`` holds are not asked for again.

    Raises ValueError if a sample cannot be shown or answered.
    """
    config = ModelConfig("roborefer", path=str(model), name=name)
    done = predict(data.samples, load_predictor(config, data.samples), out, show)
    print(f"{out}: {done}", file=sys.stderr)
    if done.failed or done.unreadable:
        raise ValueError(f"{out}: {done}")
    return read_predictions(out)


def calibrate(model: Path, questions: Sequence[Path], out: Path) -> None:
    """Fits a checkpoint's p_visible and stores it beside it; one that is there is kept.

    Training moves the odds of pointing against refusing, and takes the base model's own calibration away.

    Args:
        questions: task files about scenes that it was not trained on.
        out: folder of its answers to them.
    """
    if (model / calibration.FILE_NAME).exists():
        return
    name = model_name(model)
    # Files of the same task come from several folders, one for each kind of rooms.
    logs = [out / f"{number}_{file.stem}.jsonl" for number, file in enumerate(questions)]
    answered = [(answer(model, name, read_samples(file), log), file) for file, log in zip(questions, logs, strict=True)]
    fitted = fit(answered, name)
    calibration.save(fitted, model)
    print(f"{model}: p_visible fitted on {fitted.samples} questions", file=sys.stderr)


def replayed(model: Path, name: str, folder: Path, scans: Sequence[Path], questions: int) -> Run:
    """What came of asking the node, with this checkpoint, about recorded scans. A finished one is read back."""
    runs = [_replayed(model, folder / name / scan.name, scan, questions) for scan in scans]
    records = pooled((run.folder.name, run.records) for run in runs)
    pairs = {key: sum(run.scores["pairs"][key] for run in runs) for key in ("dropped", "played")}
    return Run(name, "", records, score(records) | {"pairs": pairs}, folder / name)


def _replayed(model: Path, out: Path, scan: Path, questions: int) -> Run:
    # In colour alone, too.
    config = Replay(out, scene=scan, questions=questions, model=ModelOptions("nano", str(model.absolute())))
    figures = out / "report.json"
    if not figures.exists():
        return run_replay(config)
    records = [record for file in sorted(out.glob("*/questions.jsonl")) for record in read_records(file)]
    return Run("replay", "", records, score(records) | {"pairs": read_json(figures)["runs"]["replay"]["pairs"]}, out)
