"""`roboref eval replay`: scenes become bags, the node answers questions over DDS, a report scores it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro
from roboref_core.command_line import CommandTable
from roboref_core.models.options import ModelOptions
from roboref_core.progress import Progress

from offline.data_engine.sources import open_scene
from offline.eval.records.replays import digest, pooled
from offline.eval.replay.playing.live import LiveConfig
from offline.eval.replay.playing.perturbation import Perturbation
from offline.eval.replay.playing.progress import follow
from offline.eval.replay.playing.run import replay
from offline.eval.replay.playing.session import NodeConfig
from offline.eval.replay.scoring.live_score import live_figures
from offline.eval.replay.scoring.report import write_report
from offline.eval.replay.scoring.score import score
from offline.eval.replay.scoring.table import Run, table
from offline.eval.replay.truth.annotated import AnnotatedScene
from offline.eval.replay.truth.questions import QuestionConfig, make_questions
from offline.eval.replay.truth.recorded import RecordedScene
from offline.eval.replay.truth.truth import GroundTruthScene
from offline.eval.replay.truth.words import make_word_questions
from offline.files import as_json
from sim.bags.recorder import RecordOptions, on_time, record
from sim.rooms.changes import make_change
from sim.rooms.noise import DepthNoise
from sim.rooms.path import make_path
from sim.rooms.renderer import Renderer
from sim.rooms.rooms import make_scene
from sim.rooms.sim_source import CAMERA_640, SimSource


@dataclass(frozen=True)
class Replay:
    """Mark points in some views of a sequence, ask the node for them in later ones, and score what it says.

    The sequence is recorded as a rosbag2, which is played view by view over DDS to roboref_node, its own process.
    Procedural rooms are exact ground truth. Of a scan with mesh and annotated objects (--scene) the data engine's
    visibility is; any other recording is compared with itself: a marked point must come back to the same place of
    the world.

    Further commands: `roboref eval replay compare RUN_A RUN_B`: two models on one bag, answer against answer;
    `roboref eval replay closed-loop`: a virtual robot that goes where the answers say;
    `roboref eval replay verdicts`: how far geometry may be believed where things move.

      roboref eval replay --out out/replay --seeds 7 8 --frames 60 --questions 12
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
    ask: Literal["marks", "words"] = "marks"
    """By a mark in an earlier view (and what it is called), or in words alone; words in procedural rooms only."""
    depth: Literal["exact", "sensor"] = "exact"
    """Depth of procedural rooms: exact, or with a structured-light sensor's noise and holes."""
    perturbation: Annotated[Perturbation, tyro.conf.arg(name="")] = field(default_factory=Perturbation)
    live: bool = False
    """Play in real time and ask under load, instead of waiting for the node at each view."""
    speed: float = 1.0
    """Speed of --live, relative to the recording."""
    askers: int = 3
    """Who besides ask all the time while --live."""
    json: bool = False
    """Print the figures as JSON instead of a table, for scripts."""
    model: Annotated[ModelOptions, tyro.conf.arg(name="")] = field(default_factory=ModelOptions)

    def __post_init__(self):
        procedural_only = {"--ask words": self.ask == "words", "--moved": self.perturbation.moved > 0}
        procedural_only["--removed"] = self.perturbation.removed > 0
        for option, given in procedural_only.items():
            if given and self.scene is not None:
                raise ValueError(f"{self.scene}: {option} needs a procedural room, of which everything is known")
        if self.ask == "words" and (self.perturbation.moved or self.perturbation.removed):
            raise ValueError("--ask words needs a room that stays as it is: leave out --moved and --removed")
        # Each checks its own.
        self.model.node_parameters()
        if self.live:
            LiveConfig(self.speed, self.askers)

    def __call__(self) -> None:
        whole = run_replay(self)
        if self.json:
            print(as_json(whole.scores | {"digest": digest(whole.records)}))
            return
        print_table([whole])
        print(f"\nreport   {self.out / 'report.html'}\nfigures  {self.out / 'report.json'}")
        if not self.live:
            print(f"digest   {digest(whole.records)} (equal for equal answers)")


main = CommandTable(
    "roboref eval replay",
    {
        "compare": ("offline.eval.replay.scoring.compare:Compare", "two replays of one bag, answer against answer"),
        "closed-loop": (
            "offline.eval.replay.closed_loop.cli:ClosedLoop",
            "a virtual robot that goes where the answers say",
        ),
        "verdicts": ("offline.eval.replay.verdicts:Verdicts", "likelihoods of what geometry says of moved things"),
    },
    default="offline.eval.replay.cli:Replay",
)


def run_replay(config: Replay) -> Run:
    """Replay every sequence of ``config``, pool the records, write the report."""
    config.out.mkdir(parents=True, exist_ok=True)
    perturbation = config.perturbation
    sequences: dict[str, GroundTruthScene] = {}
    if config.scene is not None:
        opened = open_scene(
            config.scene, color_intrinsics=config.color_intrinsics, depth_intrinsics=config.depth_intrinsics
        )
        if opened.mesh() is not None and opened.instances() is not None:
            sequences[opened.scene_id] = AnnotatedScene(opened)
            description = f"{opened.scene_id}: annotated objects, visibility from mesh and depth together"
        else:
            sequences[opened.scene_id] = RecordedScene(opened)
            description = f"{opened.scene_id}: marked points against the recording's own depth and poses"
    else:
        sequences |= {f"seed-{seed}": procedural(seed, config) for seed in config.seeds}
        description = f"procedural rooms of seeds {', '.join(map(str, config.seeds))}, {config.depth} depth"
    if perturbation.describe():
        description += f"; {perturbation.describe()}"
    runs = [replay_one(name, sequence, config) for name, sequence in sequences.items()]
    records = pooled((each.folder.name, each.records) for each in runs)
    extra = {"live": live_figures([each.live for each in runs if each.live])} if config.live else {}
    pairs = {key: sum(each.scores["pairs"][key] for each in runs) for key in ("dropped", "played")}
    whole = Run("replay", description, records, score(records) | {"pairs": pairs} | extra, config.out)
    facts = {"model": records[0].answer.model if records else "", "sequences": ", ".join(sequences)}
    facts["replay"] = "live" if config.live else "stepped: the next view is played when the node has taken the last one"
    if perturbation.describe():
        facts["perturbations"] = perturbation.describe()
    write_report("RoboRef replay", [whole], facts, config.out / "report.html")
    return whole


def procedural(seed: int, config: Replay) -> SimSource:
    """The room and walk of a seed."""
    renderer = Renderer(make_scene(seed, objects=config.objects))
    path = make_path(renderer, config.frames, seed=seed, rate_hz=config.rate)
    depth_noise = DepthNoise() if config.depth == "sensor" else None
    moved, removed, change = config.perturbation.moved, config.perturbation.removed, None
    if moved or removed:
        change_seed = config.perturbation.noise_seed
        change = make_change(renderer, path, CAMERA_640, moved=moved, removed=removed, seed=change_seed)
    return SimSource(renderer, path, depth_noise=depth_noise, seed=seed, change=change)


def replay_one(name: str, sequence: GroundTruthScene, config: Replay) -> Run:
    """Record, play and ask about one sequence."""
    perturbation, exact = config.perturbation, sequence
    sequence = perturbation.seen(sequence)
    bag = config.out / name / "bag"
    options = perturbation.disturbed(RecordOptions(overwrite=True, max_frames=config.frames))
    recorded = record(sequence, bag, options, progress=True)
    with Progress(desc=f"{name}: choosing questions", unit="frame", leave=False) as bar:
        positions = on_time(recorded.positions)
        if config.ask == "words":
            questions = make_word_questions(exact, config.questions, positions=positions, progress=follow(bar))
        else:
            wanted = QuestionConfig(count=config.questions)
            questions = make_questions(sequence, wanted, positions=positions, progress=follow(bar))
    # A robot knows how good its localisation is; covariances are to say so.
    noise = options.noise
    parameters = {"pose.translation_sigma": noise.translation, "pose.rotation_sigma": noise.rotation}
    node = NodeConfig(parameters=parameters | config.model.node_parameters())
    live = LiveConfig(config.speed, config.askers) if config.live else None
    with Progress(desc=f"{name}: {len(questions)} questions over DDS", unit="view") as bar:
        return replay(name, "", sequence, bag, questions, config.out / name, node, live, perturbation, follow(bar))


def print_table(runs: Sequence[Run]) -> None:
    """The report's figures, in the terminal."""
    rows = [("", [each.name for each in runs]), *((row.name, row.cells) for row in table(runs))]
    widths = [max(len(name) for name, _ in rows)]
    widths += [max(len(cells[i]) for _, cells in rows) for i in range(len(runs))]
    print()
    for name, cells in rows:
        print("  ".join(text.ljust(width) for text, width in zip((name, *cells), widths, strict=True)).rstrip())


if __name__ == "__main__":
    sys.exit(main())
