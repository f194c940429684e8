"""Several models and several errors of poses on the same questions, in one process, without ROS.

The questions, bags' pictures, disturbances, scores and paired comparisons are those of `roboref eval replay`; the views
go straight into the buffer that the node has. A room is rendered once for all columns of the table.

    python -m benchmarks.conditions --seeds 1 2 3 --conditions exact noise:0.02:1 noise:0.05:3 drift:0.01:0.2
    python -m benchmarks.conditions --seeds 41 42 --moved 4 --removed 2 --models reprojection nano fused
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import simplejpeg
import tyro
from roboref_core.errors import ErrorCode
from roboref_core.models.pointing_model import PointingModel
from roboref_core.models.registry import load_model
from roboref_core.referring.answer import Answer, Target
from roboref_core.referring.query import MarkedPoint, Query
from roboref_core.referring.refer import ReferConfig, answer
from roboref_core.views.locate import LocateConfig
from roboref_core.views.view import View
from roboref_core.views.view_buffer import ViewBuffer

from offline.data_engine.sources.discover import open_scene
from offline.eval.records.node_answer import POINTING, NodeAnswer, Place
from offline.eval.records.replays import Question, Record
from offline.eval.replay.cli import Replay, print_table, procedural
from offline.eval.replay.playing.perturbation import Perturbation
from offline.eval.replay.scoring.compare import Replayed, compare, render
from offline.eval.replay.scoring.score import CHI2_95, score
from offline.eval.replay.scoring.table import Run
from offline.eval.replay.truth.questions import QuestionConfig, make_questions
from offline.eval.replay.truth.recorded import MARKED_POINT, RecordedScene
from offline.eval.replay.truth.truth import GroundTruthScene
from sim.bags.recorder import RecordOptions, as_millimetres, bag_stamps

_FRAME = "camera"
_FRAMES = ("in_world", "in_camera")


@dataclass(frozen=True)
class ConditionsBenchmark:
    """What is measured."""

    seeds: tuple[int, ...] = (1, 2)
    """Procedural rooms."""
    scene: Path | None = None
    """A recording instead: a folder of RGB-D frames with poses."""
    color_intrinsics: tuple[float, float, float, float] | None = None
    """fx fy cx cy of the recording's colour camera, where its folder does not tell [pixel]."""
    frames: int = 200
    """Length of a walk through a room."""
    questions: int = 120
    """Asked of each sequence."""
    depth: Literal["exact", "sensor"] = "sensor"
    """Depth of rooms: exact, or with a structured-light sensor's noise and holes."""
    moved: int = 0
    """Things put elsewhere in the middle of the walk."""
    removed: int = 0
    """Things taken away in the middle of the walk."""
    models: tuple[str, ...] = ("reprojection",)
    """Backends, as the node's parameter model.backend names them."""
    conditions: tuple[str, ...] = ("exact",)
    """exact, noise:METRES:DEGREES (the node is told) or drift:METRES:DEGREES (it is not), as the replay's options."""


@dataclass(frozen=True)
class Filmed:
    """A sequence as a bag has it: encoded pictures, exact poses, and the questions about it."""

    name: str
    scene: GroundTruthScene
    questions: list[Question]
    color: list[bytes]
    depth: list[np.ndarray]
    stamps_ns: np.ndarray
    masks: dict[str, str]


def prepared(name: str, scene: GroundTruthScene, count: int, folder: Path) -> Filmed:
    """Renders or reads what is asked about, and writes the masks of what is in sight to ``folder``."""
    questions = make_questions(scene, QuestionConfig(count=count))
    color, depth, masks = [], [], {}
    for i in range(1 + max(question.query for question in questions)):
        color.append(simplejpeg.encode_jpeg(np.ascontiguousarray(scene.color(i)), quality=95, colorspace="RGB"))
        depth.append(as_millimetres(scene.depth(i), 1.0))
    for question in questions:
        if question.label not in ("", MARKED_POINT) and question.fate != "removed":
            masks[question.question_id] = f"{question.question_id}.png"
            mask = (scene.ids(question.query) == question.object_id).astype(np.uint8) * 255
            cv2.imwrite(str(folder / masks[question.question_id]), mask)
    return Filmed(name, scene, questions, color, depth, bag_stamps(scene), masks)


def disturbance(condition: str) -> RecordOptions:
    """Raises ValueError if the text is not a condition."""
    kind, *numbers = condition.split(":")
    if (kind, len(numbers)) not in (("exact", 0), ("noise", 2), ("drift", 2)):
        raise ValueError(f"a condition is exact, noise:METRES:DEGREES or drift:METRES:DEGREES, found {condition!r}")
    metres, degrees = (float(number) for number in numbers or ("0", "0"))
    sigma, none = (metres, degrees), (0.0, 0.0)
    wrong = Perturbation(pose_noise=sigma if kind == "noise" else none, pose_drift=sigma if kind == "drift" else none)
    return wrong.disturbed(RecordOptions())


def views(sequence: Filmed, options: RecordOptions) -> Iterator[View]:
    scene = sequence.scene
    poses = options.drift.perturb(scene.poses, sequence.stamps_ns, scene.scene_id)
    for i, (color, depth) in enumerate(zip(sequence.color, sequence.depth, strict=True)):
        yield View(
            view_id=str(i),
            stamp_ns=int(sequence.stamps_ns[i]),
            color=simplejpeg.decode_jpeg(color),
            camera=scene.color_camera,
            depth=depth.astype(np.float32) * np.float32(0.001),
            depth_camera=scene.depth_camera,
            T_world_camera=options.noise.perturb(poses[i], scene.scene_id, int(scene.frame_ids[i])),
            frame_id=_FRAME,
        )


def ask_all(sequence: Filmed, model: PointingModel, options: RecordOptions, folder: Path) -> list[Record]:
    """Every question at its frame, of a buffer that has seen all frames until then."""
    noise = options.noise
    config = ReferConfig(
        locate=LocateConfig(pose_translation_sigma=noise.translation, pose_rotation_sigma=noise.rotation)
    )
    buffer = ViewBuffer()
    marked = {question.reference for question in sequence.questions}
    asked = defaultdict(list)
    for question in sequence.questions:
        asked[question.query].append(question)
    records = []
    for i, view in enumerate(views(sequence, options)):
        buffer.add(view)
        if i in marked:
            buffer.pin(view.view_id)
        for question in asked[i]:
            assert question.mark is not None
            started = time.perf_counter()
            region = MarkedPoint(question.mark, str(question.reference))
            query = Query(question.text, regions=(region,))
            told = answer(query, buffer, model, config)
            latency = time.perf_counter() - started
            in_camera = answer(replace(query, target_frame=_FRAME), buffer, model, config)
            files = {"mask": sequence.masks[question.question_id]} if question.question_id in sequence.masks else {}
            records.append(Record(question, as_node(told, in_camera), latency, files, folder))
    return records


def as_node(told: Answer, in_camera: Answer) -> NodeAnswer:
    """The answer as the node's message would be read, and its place in the camera's frame as a second one told it."""
    target, seen = (one.targets[0] if one.targets and one.status in POINTING else None for one in (told, in_camera))
    pixel = None if target is None else target.pixel
    error = ErrorCode(told.error_code).name
    return NodeAnswer(
        {}, told.status, pixel, _place(target), _place(seen), error, told.model, told.raw_answer, told.error_msg
    )


def _place(target: Target | None) -> Place | None:
    if target is None or target.position is None:
        return None
    return Place(target.position, target.covariance)


def rooms(config: ConditionsBenchmark, folder: Path) -> Iterator[Filmed]:
    if config.scene is not None:
        scene = RecordedScene(open_scene(config.scene, color_intrinsics=config.color_intrinsics))
        yield prepared(config.scene.name, scene, config.questions, folder)
        return
    change = Perturbation(moved=config.moved, removed=config.removed)
    for seed in config.seeds:
        room = procedural(seed, Replay(frames=config.frames, depth=config.depth, perturbation=change))
        yield prepared(f"seed-{seed}", room, config.questions, folder)


def main(config: ConditionsBenchmark) -> None:
    disturbances = {condition: disturbance(condition) for condition in config.conditions}
    models = {name: load_model(name) for name in config.models}
    records: dict[tuple[str, str], list[Record]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        for sequence in rooms(config, Path(name)):
            # Comparisons are by room: the folder's name tells which.
            own = Path(name) / sequence.name
            own.symlink_to(name, target_is_directory=True)
            for condition, options in disturbances.items():
                for model in models:
                    records[model, condition] += ask_all(sequence, models[model], options, own)
                    print(f"{sequence.name}: {model}, {condition}", flush=True)
        report(records)


def report(records: dict[tuple[str, str], list[Record]]) -> None:
    scored = {key: score(own) | {"pairs": {"dropped": 0, "played": 0}} for key, own in records.items()}
    print_table([Run(", ".join(key), "", records[key], scored[key], Path()) for key in records])
    for key in records:
        world, camera = (_radius(getattr(record.answer, frame) for record in records[key]) for frame in _FRAMES)
        print(f"{', '.join(key)}: median radius of ellipsoids {world:.1f} cm (world), {camera:.1f} cm (camera's frame)")
    for (a, condition), (b, other) in combinations(records, 2):
        if condition == other:
            found = compare(_replayed(records[a, condition]), _replayed(records[b, condition]))
            print(f"\n{condition}\n{render(found, a, b)}")


def _radius(places: Iterable[Place | None]) -> float:
    """Median radius [cm] of the balls that have the volumes of the stated 95 % ellipsoids; NaN without any."""
    covariances = [place.covariance for place in places if place is not None and place.covariance is not None]
    if not covariances:
        return float("nan")
    return 100 * float(np.median([(np.linalg.det(covariance) * CHI2_95**3) ** (1 / 6) for covariance in covariances]))


def _replayed(records: Sequence[Record]) -> Replayed:
    rooms_asked = sorted({record.folder.name for record in records})
    return Replayed({record.question.question_id: record for record in records}, dict.fromkeys(rooms_asked, ""), set())


if __name__ == "__main__":
    main(tyro.cli(ConditionsBenchmark, description=__doc__))
