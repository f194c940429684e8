"""`roboref eval replay`: scenes become bags, the node answers questions over DDS, a report scores it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from tqdm import tqdm

from offline.data_engine.sources import open_scene
from offline.eval.replay.questions import QuestionConfig, make_questions
from offline.eval.replay.record import digest
from offline.eval.replay.recorded import RecordedScene
from offline.eval.replay.report import Run, table, write_report
from offline.eval.replay.run import replay
from offline.eval.replay.score import score
from offline.eval.replay.session import NodeConfig
from offline.eval.replay.truth import GroundTruthScene
from sim.noise import DepthNoise
from sim.path import make_path
from sim.perturb import PoseNoise
from sim.recorder import RecordOptions, record
from sim.renderer import Renderer
from sim.rooms import make_scene
from sim.sim_source import SimSource


@dataclass(frozen=True)
class ReplayConfig:
    """Mark points in some views of a sequence, ask the node for them in later ones, and score what it says.

    The sequence is recorded as a rosbag2, which is played view by view over DDS to roboref_node, its own process.
    Procedural rooms are exact ground truth; a real recording (--scene) is compared with itself: a marked point must
    come back to the same place of the world.
    """

    out: Path = Path("out/replay")
    """Folder for report.html, report.json, the bags, pictures and one JSON line per question."""
    seeds: tuple[int, ...] = (7,)
    """Procedural rooms to replay; their figures are pooled."""
    scene: Path | None = None
    """Replay this recording instead: a ScanNet scan, or a folder of frames with poses (7-Scenes, TUM)."""
    color_intrinsics: tuple[float, float, float, float] | None = None
    """fx fy cx cy of a recording's colour camera, where its folder does not tell [pixel]."""
    depth_intrinsics: tuple[float, float, float, float] | None = None
    """The same of its depth camera."""
    frames: int = 300
    """Length of a procedural walk; at most so many frames of a recording."""
    rate: float = 10.0
    """Frames a second of a procedural walk."""
    objects: int | None = 22
    """Labelled objects in a procedural room, 8 to 25; None: as the seed has it."""
    questions: int = 48
    """Asked of each sequence."""
    depth: Literal["exact", "sensor"] = "exact"
    """Depth of procedural rooms: exact, or with a structured-light sensor's noise and holes."""
    pose_noise: tuple[float, float] = (0.0, 0.0)
    """Standard deviation of noise on the recorded poses, per axis [m, degrees]."""
    noise_seed: int = 0
    """Of the pose noise."""
    model: dict[str, str] = field(default_factory=dict)
    """The node's model, e.g. --model backend roborefer path CHECKPOINT. Default: reprojection."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a replay. Returns 0; 1 with a message if something it needs is missing or broken."""
    config = tyro.cli(ReplayConfig, args=argv, prog="roboref eval replay", description=ReplayConfig.__doc__)
    try:
        run = run_replay(config)
    except (RuntimeError, TimeoutError, OSError, ValueError) as error:
        print(f"roboref eval replay: {error}", file=sys.stderr)
        return 1
    print_table([run])
    print(f"\nreport   {config.out / 'report.html'}\nfigures  {config.out / 'report.json'}")
    print(f"digest   {digest(run.records)} (equal for equal answers)")
    return 0


def run_replay(config: ReplayConfig) -> Run:
    """Replay every sequence of ``config``, pool the records, write the report."""
    config.out.mkdir(parents=True, exist_ok=True)
    if config.scene is not None:
        opened = open_scene(
            config.scene, color_intrinsics=config.color_intrinsics, depth_intrinsics=config.depth_intrinsics
        )
        sequences = {config.scene.name: RecordedScene(opened)}
        description = f"{config.scene.name}: marked points against the recording's own depth and poses"
    else:
        sequences = {f"seed-{seed}": procedural(seed, config) for seed in config.seeds}
        description = f"procedural rooms of seeds {', '.join(map(str, config.seeds))}, {config.depth} depth"
    metres, degrees = config.pose_noise
    if metres or degrees:
        description += f", poses off by {100 * metres:g} cm and {degrees:g} degree per axis"
    runs = [replay_one(name, sequence, config) for name, sequence in sequences.items()]
    records = [
        record | {"files": {key: f"{run.folder.name}/{file}" for key, file in record["files"].items()}}
        for run in runs
        for record in run.records
    ]
    pairs = {key: sum(run.scores["pairs"][key] for run in runs) for key in ("dropped", "played")}
    pooled = Run("replay", description, records, score(records, config.out) | {"pairs": pairs}, config.out)
    facts = {"model": records[0]["answer"]["model"] if records else "", "sequences": ", ".join(sequences)}
    write_report("RoboRef replay", [pooled], facts, config.out / "report.html")
    return pooled


def procedural(seed: int, config: ReplayConfig) -> SimSource:
    """The room and walk of a seed."""
    renderer = Renderer(make_scene(seed, objects=config.objects))
    path = make_path(renderer, config.frames, seed=seed, rate_hz=config.rate)
    return SimSource(renderer, path, depth_noise=DepthNoise() if config.depth == "sensor" else None, seed=seed)


def replay_one(name: str, sequence: GroundTruthScene, config: ReplayConfig) -> Run:
    """Record, play and ask about one sequence."""
    metres, degrees = config.pose_noise
    noise = PoseNoise(metres, float(np.radians(degrees)), config.noise_seed)
    bag = config.out / name / "bag"
    record(sequence, bag, RecordOptions(noise=noise, overwrite=True, max_frames=config.frames), progress=True)
    with tqdm(desc=f"{name}: choosing questions", unit="frame", leave=False) as bar:
        questions = make_questions(sequence, QuestionConfig(count=config.questions), follow(bar))
    # A robot knows how good its localisation is; covariances are to say so.
    parameters = {"pose.translation_sigma": noise.translation, "pose.rotation_sigma": noise.rotation}
    node = NodeConfig(parameters=parameters | {f"model.{key}": value for key, value in config.model.items()})
    with tqdm(desc=f"{name}: {len(questions)} questions over DDS", unit="view") as bar:
        return replay(name, "", sequence, bag, questions, config.out / name, node, follow(bar))


def follow(bar: tqdm):
    """A progress function (done, total) that moves ``bar``."""

    def progress(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return progress


def print_table(runs: Sequence[Run]) -> None:
    """The report's figures, in the terminal."""
    rows = [("", [each.name for each in runs]), *table(runs)]
    widths = [max(len(name) for name, _ in rows)]
    widths += [max(len(cells[i]) for _, cells in rows) for i in range(len(runs))]
    print()
    for name, cells in rows:
        print("  ".join(text.ljust(width) for text, width in zip((name, *cells), widths, strict=True)).rstrip())


if __name__ == "__main__":
    sys.exit(main())
