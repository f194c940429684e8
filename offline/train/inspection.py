"""What a run left behind: its curve, and whether the model is whole, finite and changed where it should be."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from safetensors import safe_open

from offline.train import checkpoints
from offline.train.check import Report
from offline.train.curve import draw_curve
from offline.train.families import family_of
from offline.train.plan import Plan, load_plan
from offline.train.run_folder import CURVE, LOG, MODEL, QUARANTINE, RunFolder
from offline.train.summary import read_log, write_summary


def inspect_run(run: Path) -> Report:
    """Draws ``loss.png`` and writes ``summary.html`` into the run's folder.

    Raises ValueError if the folder holds no run.
    """
    report = Report()
    whole = checkpoints.find(run)
    if not whole:
        raise ValueError(f"{run}: no whole checkpoint here")
    for folder in checkpoints.found(run):
        if (problem := checkpoints.defect(folder)) is not None:
            report.errors.append(f"{folder}: {problem}")
    plan = load_plan(whole[-1] / checkpoints.PLAN)
    position = checkpoints.read_position(whole[-1])
    end = position.until[-1]
    report.lines.append(f"{run}: step {position.step} of {end}, checkpoints {', '.join(f.name for f in whole)}")
    _inspect_curve(run, plan, position.until, report)
    if (run / QUARANTINE).is_file():
        problems = [json.loads(line)["problem"] for line in (run / QUARANTINE).read_text().splitlines()]
        report.lines.append(f"{len(problems)} samples in quarantine, first: {problems[0]}")
    trained: set[str] = {
        part
        for stage, until in zip(plan.stages, (0, *position.until), strict=False)
        if until < position.step
        for part in stage.train
    }
    _inspect_model(whole[-1] / "model", plan, trained, report)
    ledger = RunFolder(run)
    if position.step >= end and not ledger.finished:
        report.errors.append(f"{run / MODEL} is missing or not whole: run it once more to write it")
    page = write_summary(ledger, plan, read_log(run / LOG), f"step {position.step} of {end}")
    report.lines.append(f"summary: {page}")
    return report


def _inspect_curve(run: Path, plan: Plan, until: tuple[int, ...], report: Report) -> None:
    steps = [line for line in read_log(run / LOG) if "loss" in line]
    if not steps:
        report.errors.append(f"{run / LOG}: no losses")
        return
    if [line["step"] for line in steps] != sorted({line["step"] for line in steps}):
        report.errors.append(f"{run / LOG}: steps do not grow")
    if bad := [line["step"] for line in steps if not math.isfinite(line["loss"])]:
        report.errors.append(f"loss is not finite in step {bad[0]}")
    start = 0
    for stage, end in zip(plan.stages, until, strict=True):
        losses = [line["loss"] for line in steps if start < line["step"] <= end]
        if losses:
            third = max(1, len(losses) // 3)
            first, last = sum(losses[:third]) / third, sum(losses[-third:]) / third
            trend = "falls" if last < first else "does NOT fall"
            report.lines.append(f"stage {stage.name}: loss {trend}, {first:.4f} -> {last:.4f}")
        start = end
    borders = {end: stage.name for stage, end in zip(plan.stages, until, strict=True)}
    draw_curve(RunFolder(run).claim(CURVE), [line["step"] for line in steps], [line["loss"] for line in steps], borders)
    report.lines.append(f"curve: {run / CURVE}")


def _inspect_model(model: Path, plan: Plan, trained: set[str], report: Report) -> None:
    try:
        family = family_of(plan.model)
        after, before = family.stored(model), family.stored(plan.model)
    except ValueError as error:
        report.errors.append(str(error))
        return
    for part, tensors in after.items():
        if lost := sorted(before[part].keys() - tensors.keys()):
            report.errors.append(f"{part}: {model} lacks {len(lost)} tensors of {plan.model}, first {lost[0]}")
        changed = bad = 0
        for name, stored in tensors.items():
            value = _read(stored.file, name)
            bad += not torch.isfinite(value).all()
            if (base := before[part].get(name)) is None:
                changed += 1
                continue
            # Embeddings have as many rows as the tokenizer has tokens; bases often have others.
            rows = min(len(value), base.shape[0])
            changed += not torch.equal(value[:rows], _read(base.file, name)[:rows].to(value.dtype))
        if bad:
            report.errors.append(f"{part}: {bad} tensors are not finite")
        if part in trained and not changed:
            report.errors.append(f"{part} was to learn, but is what it was")
        if part not in trained and changed:
            report.errors.append(f"{part} was frozen, but {changed} tensors differ from {plan.model}")
        state = "learned" if part in trained else "frozen"
        report.lines.append(f"{part}: {state}, {changed} of {len(tensors)} tensors differ from the base")


def _read(file: Path, name: str) -> torch.Tensor:
    with safe_open(file, "pt") as tensors:
        return tensors.get_tensor(name)
