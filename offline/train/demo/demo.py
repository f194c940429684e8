"""The whole demo, step by step."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from offline.eval.records.samples import read_samples
from offline.eval.replay.scoring.table import Run
from offline.eval.reporting.report import Section, section
from offline.files import write_bytes, write_json
from offline.train.demo.chain import Lesson, answer, calibrate, fine_tune, replayed
from offline.train.demo.config import DemoConfig, RoomsConfig, TuningConfig
from offline.train.demo.page import AFTER, BEFORE, MIXED, tables, write_page
from offline.train.demo.questions import HELD_OUT, TRAIN, TUNING, write_questions
from offline.train.demo.rooms import aside, build, make_rooms
from offline.train.inspection import CURVE

KNOWN = "known_"
"""Before the names of data sets about rooms that the base model knows."""
_COPIES = {TRAIN[2]: "*6", TRAIN[3]: "*3"}
"""T2B's questions are few, and so are pictures with phrases: an epoch holds each so often."""


def mixture(names: Sequence[str] = TRAIN, grids: Sequence[str] = ("",), suffix: str = "", prefix: str = "") -> str:
    """All tasks."""
    return "+".join(f"{prefix}{name}{grid}{suffix}{_COPIES.get(name, '')}" for name in names for grid in grids)


def prepare(out: Path, data: RoomsConfig, tuning: TuningConfig) -> Path:
    """Rooms, data, and the demo's questions, whose folder is returned."""
    built = build(out / "rooms", data, tuning.threads)
    questions = out / "questions"
    in_other_words = data.look == "workshop"
    write_questions(built, questions, tuning.base, data.questions, in_other_words, aside(data), variants=data.variants)
    return questions


def write_registry(file: Path, folders: Mapping[str, Path]) -> Path:
    """The registry of all training files of some folders of questions, each with a prefix to its names."""
    entries: dict[str, Any] = {
        f"{prefix}{name}": {"json": str((folder / f"{name}.json").absolute())}
        for prefix, folder in folders.items()
        for name in TRAIN
    }
    write_bytes(file, yaml.safe_dump(entries).encode())
    return file


def demo(config: DemoConfig) -> list[Section]:
    """Runs it; prints the tables, writes table.md, figures.json and report.html. Returns the sections: workshops, then
    known rooms.

    Raises:
        ValueError, RuntimeError, TimeoutError, OSError: something is wrong, or missing.
        Preempted: a signal asked to stop.
    """
    started, cpu, tuning, out = time.monotonic(), os.times(), config.tuning, config.out
    asked = {"": prepare(out / "workshop", config.data, tuning), KNOWN: prepare(out / "known", config.known, tuning)}
    registry = write_registry(out / "registry.yaml", asked)
    models = {BEFORE: tuning.base}
    models[AFTER] = fine_tune(out / "tuned.yaml", tuning, registry, [Lesson(mixture())])
    both = f"{mixture()}+{mixture(prefix=KNOWN)}"
    models[MIXED] = fine_tune(out / "mixed.yaml", tuning.replaying(models[AFTER]), registry, [Lesson(both)])
    for name, prefixes in ((AFTER, ("",)), (MIXED, ("", KNOWN))):
        # Of the kinds of rooms that each has learned from.
        files = [asked[prefix] / f"{task}.json" for prefix in prefixes for task in TUNING]
        calibrate(models[name], files, out / "calibration" / name)
    workshops, known = (judged(out, prefix, questions, models) for prefix, questions in asked.items())
    scans = replay_scans(config)
    replays: list[Run] = [
        replayed(models[name], name, out / "replay", scans, config.replay_questions) for name in (BEFORE, MIXED)
    ]
    text = tables(workshops, known, replays)
    used = os.times()
    facts = {
        "base": str(tuning.base),
        "fine-tuned": f"{config.data.rooms} workshops, {tuning.steps} steps of {tuning.batch}",
        "mixed": f"from there {tuning.replay_steps} steps more, with questions about {config.known.rooms} known rooms",
        "held out": f"{config.data.held_out} workshops, {config.known.held_out} known rooms",
        "replayed": f"{config.replays} workshops, {config.replay_questions} questions each, depth with noise",
        "this call took": f"{time.monotonic() - started:.0f} s, "
        f"{sum(used[:4]) - sum(cpu[:4]):.0f} s of CPU (without rooms' and the node's)",
    }
    curves = {name: out / f"{name}_run" / CURVE for name in ("tuned", "mixed")}
    write_bytes(out / "table.md", f"{text}\n".encode())
    write_json(
        out / "figures.json",
        {
            "held_out": {
                f"{prefix}{part.data.name}": part.scores
                for prefix, parts in (("", workshops), (KNOWN, known))
                for part in parts
            },
            "replays": {run.name: run.scores for run in replays},
        },
    )
    write_page(out / "report.html", facts, curves, workshops, known, replays)
    print(f"{text}\n\nreport   {out / 'report.html'}\ntables   {out / 'table.md'}\nmodel    {models[MIXED]}")
    return [*workshops, *known]


def judged(out: Path, prefix: str, questions: Path, models: Mapping[str, Path]) -> list[Section]:
    """Files of held-out questions, answered by every model, beside the baselines."""
    found = []
    for name in HELD_OUT:
        data = read_samples(questions / f"{name}.json")
        said = [
            answer(model, who, data, out / "answers" / f"{prefix}{name}_{who}.jsonl") for who, model in models.items()
        ]
        found.append(section(data, said))
    return found


def replay_scans(config: DemoConfig) -> list[Path]:
    """Workshops that are in none of the data, to be played to the node."""
    seeds = range(config.data.free_seed, config.data.free_seed + config.replays)
    folder = config.out / "replay" / "scans"
    names = make_rooms(folder, seeds, config.replay_frames, config.tuning.threads, config.data.look)
    return [folder / name for name in names]
