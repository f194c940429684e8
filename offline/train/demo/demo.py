"""The whole demo, step by step."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import yaml

from offline.eval.records.samples import SampleFile, read_samples
from offline.eval.replay.scoring.table import Run
from offline.eval.reporting.report import Section, section
from offline.eval.scoring.judge import judge
from offline.files import write_bytes, write_json
from offline.train.demo.chain import answer, fine_tune, replayed
from offline.train.demo.config import DemoConfig, RoomsConfig, TuningConfig
from offline.train.demo.page import AFTER, BEFORE, tables, write_page
from offline.train.demo.questions import BY_HEART, HELD_OUT, TRAIN, right, write_by_heart, write_questions
from offline.train.demo.rooms import build
from offline.train.inspection import CURVE

_GRIDS = ("", "_grid")


def mixture(grids: Sequence[str] = _GRIDS, suffix: str = "") -> str:
    """All tasks; an epoch holds each question of T2B, which are few, twice."""
    return "+".join(f"{name}{grid}{suffix}{'*2' if 't2b' in name else ''}" for name in TRAIN for grid in grids)


def prepare(out: Path, data: RoomsConfig, tuning: TuningConfig) -> tuple[Path, Path]:
    """Rooms, data, and the demo's questions.

    Returns the folder of the data engine's task files, and that of the questions with the registry of those to learn.
    """
    built = build(out / "rooms", data, tuning.threads)
    questions = out / "questions"
    write_questions(built, questions, tuning.base, data.questions)
    names = [f"{name}{grid}" for name in TRAIN for grid in _GRIDS]
    registry = {name: {"json": f"{name}.json"} for name in names}
    write_bytes(questions / "registry.yaml", yaml.safe_dump(registry).encode())
    return built, questions


def demo(config: DemoConfig) -> list[Section]:
    """Runs it; prints the tables, writes table.md, figures.json and report.html. Returns the held-out sections.

    Raises:
        ValueError, RuntimeError, TimeoutError, OSError: something is wrong, or missing.
        Preempted: a signal asked to stop.
    """
    started, tuning, out = time.monotonic(), config.tuning, config.out
    built, questions = prepare(out, config.data, tuning)
    write_by_heart(built, questions, config.data.by_heart, partial(solved, config))
    heart = fine_tune(
        out / "by_heart.yaml",
        tuning,
        {"data_path": str((questions / f"{BY_HEART}.json").absolute())},
        config.by_heart_steps,
        config.by_heart_lr,
    )
    by_heart = judged(config, BY_HEART, heart)
    learned = {"registry": str((questions / "registry.yaml").absolute()), "mixture": mixture()}
    tuned = fine_tune(out / "tuned.yaml", tuning, learned, tuning.steps, tuning.lr)
    held_out = [judged(config, name, tuned) for name in HELD_OUT]
    replays = [replay(config, name, model) for name, model in ((BEFORE, tuning.base), (AFTER, tuned))]
    text = tables(by_heart, held_out, replays)
    facts = {
        "base": str(tuning.base),
        "learned by heart": f"{len(by_heart.data.samples)} questions, {config.by_heart_steps} steps of {tuning.batch}",
        "fine-tuned": f"{config.data.rooms} rooms, {tuning.steps} steps of {tuning.batch}",
        "held out": f"{config.data.held_out} rooms",
        "replayed": f"{config.replays} rooms, {config.replay_questions} questions each, depth with a sensor's noise",
        "this call took": f"{time.monotonic() - started:.0f} s",
    }
    curves = {"learned by heart": out / "by_heart_run" / CURVE, "fine-tuned": out / "tuned_run" / CURVE}
    write_bytes(out / "table.md", f"{text}\n".encode())
    write_json(
        out / "figures.json",
        {
            "held_out": {part.data.name: part.scores for part in held_out},
            "by_heart": by_heart.scores,
            "replays": {run.name: run.scores for run in replays},
        },
    )
    write_page(out / "report.html", facts, curves, by_heart, held_out, replays)
    print(f"{text}\n\nreport   {out / 'report.html'}\ntables   {out / 'table.md'}\nmodel    {tuned}")
    return [by_heart, *held_out]


def solved(config: DemoConfig, data: SampleFile) -> np.ndarray:
    """(N,) bool: which samples of a file the base model answers right."""
    said = answer(config.tuning.base, BEFORE, data, config.out / "answers" / f"{BY_HEART}_choice_{data.name}.jsonl")
    return right(judge(data.samples, said))


def judged(config: DemoConfig, name: str, tuned: Path) -> Section:
    """A file of questions, answered by the base model and by a tuned one, beside the baselines."""
    data = read_samples(config.out / "questions" / f"{name}.json")
    models = ((BEFORE, config.tuning.base), (AFTER, tuned))
    folder = config.out / "answers"
    return section(data, [answer(model, who, data, folder / f"{name}_{who}.jsonl") for who, model in models])


def replay(config: DemoConfig, name: str, model: Path) -> Run:
    """The node with one checkpoint, asked in rooms that are in none of the data."""
    seeds = range(config.data.free_seed, config.data.free_seed + config.replays)
    run = replayed(model, name, config.out / "replay", seeds, config.replay_frames, config.replay_questions)
    return replace(run, name=name)
