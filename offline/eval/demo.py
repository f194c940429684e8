"""The main job, end to end: an indoor scene becomes a bag, the node answers questions over DDS, a report scores it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro
from roboref_core.command_line import run
from roboref_core.models.options import ModelOptions

from offline.eval.records.replays import digest
from offline.eval.replay.cli import Replay, print_table, procedural, replay_one
from offline.eval.replay.playing.perturbation import Perturbation
from offline.eval.replay.scoring.report import write_report
from offline.eval.replay.scoring.table import Run

_MOVED, _REMOVED = 4, 2


@dataclass(frozen=True)
class Demo:
    """Ask a robot where things are, and see how well it answers.

    Generates a furnished room, records a walk through it as rosbag2, starts roboref_node as its own process, plays
    the bag view by view over DDS, marks points of objects in some views and asks for them in later ones. Three times
    by geometry alone: with exact poses and depth, with a structured-light sensor's noise and holes, and with pose noise
    on top. Then geometry and roboref-nano, a vision-language model that looks at the pictures, answer as one: where
    things were moved and taken away, asked by the same marks, and in words.

      roboref demo --backend roborefer --path CHECKPOINT
    """

    out: Path = Path("out/demo")
    """Folder for report.html, report.json, the bags and one JSON line per question."""
    seed: int = 7
    """Seed of room, walk, noise and questions."""
    frames: int = 300
    """Length of the walk, at 10 frames a second."""
    questions: int = 48
    """How many are asked of each bag."""
    pose_noise: tuple[float, float] = (0.02, 1.0)
    """Standard deviation of the noisy poses, per axis [m, degrees]."""
    model: Annotated[ModelOptions, tyro.conf.arg(name="")] = field(default_factory=lambda: ModelOptions("fused"))

    def __call__(self) -> None:
        runs = replays(self)
        print_table(runs)
        print(f"\nreport   {self.out / 'report.html'}\nfigures  {self.out / 'report.json'}")
        for each in runs:
            print(f"answers  {each.folder / 'questions.jsonl'}  (digest {digest(each.records)})")


def replays(config: Demo) -> list[Run]:
    """Scene, bags, replays and report, as configured."""
    started = time.monotonic()
    exact = Replay(config.out, frames=config.frames, questions=config.questions)
    sensor = replace(exact, depth="sensor")
    looking = replace(sensor, model=config.model)
    metres, degrees = config.pose_noise
    cases = (
        ("exact", "exact poses and depth", exact),
        ("sensor-noise", "exact poses; a structured-light sensor's depth noise and holes", sensor),
        (
            "pose-noise",
            f"the same depth, and poses off by {100 * metres:g} cm and {degrees:g} degree per axis",
            replace(sensor, perturbation=Perturbation(pose_noise=config.pose_noise, noise_seed=config.seed)),
        ),
        (
            "moved-things",
            f"{_MOVED} things moved and {_REMOVED} taken away in the middle of the walk, the marks shown to the model",
            replace(looking, perturbation=Perturbation(moved=_MOVED, removed=_REMOVED, noise_seed=config.seed)),
        ),
        ("model-marks", "the bag with sensor noise, the same marks shown to the model", looking),
        ("model-words", "the same bag, the model asked in words alone", replace(looking, ask="words")),
    )
    what = f"{len(cases)} replays of {config.frames} views, {config.questions} questions each"
    print(f"room of seed {config.seed}: {what}")
    source = procedural(config.seed, exact)
    runs = []
    for name, description, case in cases:
        each = replay_one(name, procedural(config.seed, case), case)
        runs.append(replace(each, description=description))
    facts = {
        "scene": f"procedural room, seed {config.seed}, {len(source.scene.furniture)} labelled objects",
        "models": ", ".join(dict.fromkeys(each.records[0].answer.model for each in runs)),
        "replay": "stepped: the next view is played when the node has taken the last one",
        "duration": f"{time.monotonic() - started:.0f} s",
    }
    write_report("RoboRef: where is that?", runs, facts, config.out / "report.html")
    return runs


if __name__ == "__main__":
    raise SystemExit(run(Demo, "roboref demo"))
