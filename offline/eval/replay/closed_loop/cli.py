"""`roboref eval replay closed-loop`: a virtual robot asks, goes towards the answer, and asks again from there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from roboref_core.models.options import ModelOptions
from roboref_core.progress import Progress
from roboref_core.views.visibility import Visibility

from offline.data_engine.sources import open_scene
from offline.eval.records.node_answer import NodeAnswer
from offline.eval.records.replays import Question
from offline.eval.replay.closed_loop.closed_loop import (
    Drive,
    LoopConfig,
    drive,
    over_floor,
    pooled,
    summary,
)
from offline.eval.replay.closed_loop.logged_views import LoggedViews
from offline.eval.replay.closed_loop.report import Way, print_loop, write_loop_report
from offline.eval.replay.closed_loop.survey import survey
from offline.eval.replay.playing.perturbation import Perturbation
from offline.eval.replay.playing.progress import follow
from offline.eval.replay.playing.session import NodeConfig, ReplaySession
from offline.eval.replay.truth.annotated import AnnotatedScene
from offline.eval.replay.truth.questions import QuestionConfig, make_questions
from offline.eval.replay.truth.surface import ObjectSurface
from offline.eval.replay.truth.truth import GroundTruthScene
from sim.bags.recorder import RecordOptions, bag_stamps, on_time, record
from sim.rooms.noise import DepthNoise
from sim.rooms.path import make_path
from sim.rooms.renderer import Renderer
from sim.rooms.rooms import make_scene
from sim.rooms.sim_source import SimSource

_WALK_HZ = 10.0


@dataclass(frozen=True)
class ClosedLoop:
    """Ask about an object, go a step towards the answer, look from there, ask again, until it is within reach.

    The robot is virtual and gets the recorded view nearest to where it is. Success is that it arrives at the answered
    place and the object's true surface is there. How often no recorded view was near enough, which ends its way, is
    reported as coverage. The object is marked once, in a view of its own.

      roboref eval replay closed-loop --seed 7
    """

    out: Path = Path("out/closed_loop")
    """Folder for closed_loop.html, closed_loop.json, a picture of each way, and the bag."""
    seed: int = 7
    """Procedural room."""
    scene: Path | None = None
    """Instead: a scan with mesh and annotated objects."""
    log: Literal["survey", "walk"] = "survey"
    """What is recorded of a procedural room: every free place of a grid in all directions, or somebody's walk."""
    spacing: float = 0.3
    """Spacing of a survey's grid [m]."""
    frames: int = 600
    """Length of a walk; at most so many frames of a scan."""
    objects: int | None = 22
    """Labelled objects in a procedural room, 8 to 25; None: as the seed has it."""
    ways: int = 12
    """How many ways, each to another object as far as there are so many."""
    depth: Literal["exact", "sensor"] = "sensor"
    """Depth of a procedural room: exact, or with a structured-light sensor's noise and holes."""
    loop: Annotated[LoopConfig, tyro.conf.arg(name="")] = field(default_factory=LoopConfig)
    perturbation: Annotated[Perturbation, tyro.conf.arg(name="")] = field(default_factory=Perturbation)
    model: Annotated[ModelOptions, tyro.conf.arg(name="")] = field(default_factory=ModelOptions)

    def __post_init__(self):
        if self.perturbation.moved or self.perturbation.removed:
            raise ValueError("the closed loop needs a room that stays as it is: its views are not seen in their order")

    def __call__(self) -> None:
        print_loop(run_closed_loop(self))
        print(f"\nreport   {self.out / 'closed_loop.html'}\nfigures  {self.out / 'closed_loop.json'}")


def run_closed_loop(config: ClosedLoop) -> dict:
    """Record, choose objects, drive to each, write the report. Returns its figures."""
    config.out.mkdir(parents=True, exist_ok=True)
    scene, description = _scene(config)
    options = config.perturbation.disturbed(RecordOptions(overwrite=True, max_frames=_limit(config)))
    recorded = record(scene, config.out / "bag", options, progress=True)
    questions = choose(scene, on_time(recorded.positions), config)
    noise = options.noise
    parameters = {"pose.translation_sigma": noise.translation, "pose.rotation_sigma": noise.rotation}
    node = NodeConfig(parameters=parameters | config.model.node_parameters())
    with ReplaySession(config.out / "bag", config.out / "node.log", node) as session:
        views = LoggedViews(session, session.arrivals(bag_stamps(scene)), len(scene))
        drives = [_drive(session, views, question, config.loop) for question in Progress(questions, unit="way")]
    mesh, instances = scene.mesh(), scene.instances()
    if mesh is None or instances is None:
        raise ValueError(f"{scene.scene_id}: no mesh with objects: nothing tells whether the robot arrives")
    ways = []
    for question, done in zip(questions, drives, strict=True):
        surface = ObjectSurface(mesh, instances, question.object_id)
        ways.append(Way(question, done, surface, summary(done, surface, config.loop)))
    figures = {
        "log": description,
        "views": recorded.frames,
        "model": drives[0].stops[0].answer.model,
        "loop": asdict(config.loop),
        "pooled": pooled([way.figures for way in ways]),
        "ways": [{"object": way.question.label, "id": way.question.question_id, **way.figures} for way in ways],
    }
    write_loop_report(scene, mesh, views.poses, ways, figures, config.out)
    return figures


def _limit(config: ClosedLoop) -> int | None:
    return None if config.scene is None and config.log == "survey" else config.frames


def _scene(config: ClosedLoop) -> tuple[GroundTruthScene, str]:
    if config.scene is not None:
        scene: GroundTruthScene = AnnotatedScene(open_scene(config.scene))
        description = f"{scene.scene_id}, at most {config.frames} frames"
    else:
        renderer = Renderer(make_scene(config.seed, objects=config.objects))
        if config.log == "survey":
            path = survey(renderer.scene, config.spacing)
        else:
            path = make_path(renderer, config.frames, seed=config.seed, rate_hz=_WALK_HZ)
        noise = DepthNoise() if config.depth == "sensor" else None
        scene = SimSource(renderer, path, depth_noise=noise, seed=config.seed)
        description = f"{config.log} of the procedural room of seed {config.seed}, {config.depth} depth"
    if config.perturbation.describe():
        description += f"; {config.perturbation.describe()}"
    return config.perturbation.seen(scene), description


def choose(scene: GroundTruthScene, positions: Sequence[int], config: ClosedLoop) -> list[Question]:
    """Of each object the farthest view in which its mark can be seen; objects that are far first.

    Raises ValueError if there is none further away than within reach and two steps.
    """
    wanted = QuestionConfig(count=2000, references=16, queries=48, shares={Visibility.VISIBLE: 1.0})
    with Progress(desc="choosing objects", unit="frame", leave=False) as bar:
        possible = make_questions(scene, wanted, positions=positions, progress=follow(bar))
    far: dict[int, tuple[float, Question]] = {}
    for question in possible:
        distance = over_floor(scene.poses[question.query][:3, 3], np.array(question.truth.point))
        if question.truth.decidable and distance > far.get(question.object_id, (0.0,))[0]:
            far[question.object_id] = distance, question
    least = config.loop.reach + 2 * config.loop.step
    chosen = sorted((one for one in far.values() if one[0] >= least), key=lambda one: (-one[0], one[1].object_id))
    if not chosen:
        raise ValueError(f"{scene.scene_id}: no object is seen from {least:.1f} m away or more")
    return [replace(question, question_id=f"way-{n:02d}") for n, (_, question) in enumerate(chosen[: config.ways])]


def _drive(session: ReplaySession, views: LoggedViews, question: Question, config: LoopConfig) -> Drive:
    capture = session.begin_capture()
    assert question.reference is not None, "a way begins with a mark"
    reference_id = session.end_capture(capture, views.show(question.reference))

    def ask(position: int) -> NodeAnswer:
        views.show(position)
        return session.refer(question, reference_id).answer

    return drive(ask, views.poses, question.query, config)
