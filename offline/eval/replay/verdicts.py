"""`roboref eval replay verdicts`: how often geometry says what of things that stayed, moved, or are not in sight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from roboref_core.atomic import write_json
from roboref_core.geometry.pose import exponential
from roboref_core.models.fused import earlier_at
from roboref_core.models.model_answer import Outcome
from roboref_core.models.options import ModelOptions
from roboref_core.models.pointing_model import PointingModel, PointingRequest, Prediction
from roboref_core.models.registry import load_model, parse_options
from roboref_core.referring.query import MarkedPoint, Query
from roboref_core.referring.refer import ReferConfig, answer
from roboref_core.views.locate import LocateConfig
from roboref_core.views.registration import Change, ChangeEvidence
from roboref_core.views.view import View
from roboref_core.views.view_buffer import ViewBuffer, ViewBufferConfig
from roboref_core.views.visibility import Visibility

from offline.eval.records.replays import Question
from offline.eval.replay.cli import Replay, procedural
from offline.eval.replay.playing.perturbation import Perturbation
from offline.eval.replay.truth.questions import QuestionConfig, make_questions
from sim.rooms.design import seeded
from sim.rooms.sim_source import SimSource

Case = Literal["here", "elsewhere", "absent"]
CASES: tuple[Case, ...] = ("here", "elsewhere", "absent")
_STEP = 10
"""Of the frames before a mark, every such one is in the robot's memory."""


@dataclass(frozen=True)
class Verdicts:
    """Measure the likelihoods by which the fused model weighs geometry (`roboref_core.models.fusion`).

    Things are moved and taken away in procedural rooms; points marked before are asked for after. For each verdict of
    geometry on the marked surface: how often it falls where the thing is still in sight there, in sight elsewhere, and
    not in sight (VERDICTS). And what earlier views say of the points that a model gives, by mark and in words, where
    the surface is not unchanged: of those on the thing, and of those on others (EARLIER). Half the rooms have exact
    poses and depth, half have sensor noise and poses off by 2 cm and 1 degree.

      roboref eval replay verdicts --seeds 61 62
    """

    out: Path = Path("out/verdicts.json")
    """Counts and likelihoods."""
    seeds: tuple[int, ...] = tuple(range(61, 73))
    """Rooms; those of reported figures must not be among them."""
    questions: int = 72
    """Asked in each."""
    moved: int = 4
    """Things put elsewhere."""
    removed: int = 2
    """Things taken away."""
    model: Annotated[ModelOptions, tyro.conf.arg(name="")] = field(default_factory=lambda: ModelOptions("nano"))

    def __call__(self) -> None:
        surfaces: Counter[tuple[str, str]] = Counter()
        earlier: Counter[tuple[str, str]] = Counter()
        options = self.model
        model = load_model(
            options.backend,
            options.path,
            options.one_url,
            options.device,
            options.dtype,
            **parse_options(options.options),
        )
        for n, seed in enumerate(self.seeds):
            noisy = bool(n % 2)
            perturbation = Perturbation(moved=self.moved, removed=self.removed)
            source = procedural(seed, Replay(depth="sensor" if noisy else "exact", perturbation=perturbation))
            for found in verdicts(source, model, self.questions, seed, noisy):
                surfaces[found.surface, found.case] += 1
                earlier.update(found.earlier)
            print(f"room {seed}: {surfaces.total()} decidable questions", flush=True)
        tables = {"VERDICTS": likelihoods(surfaces, CASES), "EARLIER": likelihoods(earlier, ("moved_there", "other"))}
        for name, table in tables.items():
            print(name)
            for verdict, row in table.items():
                print(f"  {verdict:12}" + "".join(f"{case} {share:.4f}  " for case, share in row.items()))
        self.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.out, {"seeds": list(self.seeds), "questions": self.questions, **tables})


@dataclass(frozen=True)
class Found:
    """What geometry said of one question.

    Attributes:
        surface: its verdict on the marked surface.
        case: the truth.
        earlier: what earlier views say of each of the model's points, with "moved_there" or "other".
    """

    surface: str
    case: Case
    earlier: tuple[tuple[str, str], ...] = ()


def likelihoods(counts: Counter[tuple[str, str]], cases: Sequence[str]) -> dict[str, dict[str, float]]:
    """Verdict -> case -> share of the case's questions; what was never seen counts as seen half a time."""
    names = sorted({verdict for verdict, _ in counts})
    totals = {case: sum(counts[name, case] + 0.5 for name in names) for case in cases}
    return {name: {case: round((counts[name, case] + 0.5) / totals[case], 4) for case in cases} for name in names}


def verdicts(source: SimSource, model: PointingModel, count: int, seed: int, noisy: bool) -> Iterator[Found]:
    """Geometry's verdict and the truth of each decidable question about a room."""
    translation, rotation = (0.02, float(np.radians(1.0))) if noisy else (0.0, 0.0)
    config = ReferConfig(locate=LocateConfig(pose_translation_sigma=translation, pose_rotation_sigma=rotation))
    views: dict[int, View] = {}

    def view(i: int) -> View:
        if i not in views:
            rng = seeded("verdicts", seed, i)
            error = exponential(np.concatenate([rng.normal(0, translation, 3), rng.normal(0, rotation, 3)]))
            views[i] = _view(source, i, source.poses[i] @ error)
        return views[i]

    for question in make_questions(source, QuestionConfig(count=count)):
        case = case_of(question)
        if case is None or question.reference is None or question.mark is None:
            continue
        buffer = ViewBuffer(ViewBufferConfig(max_views=1000, min_interval=0.0, max_interval=1e-9, sharpness_window=1))
        for i in sorted({*range(0, question.reference, _STEP), question.reference, question.query}):
            buffer.add(view(i))
        region = MarkedPoint(question.mark, str(question.reference))
        listener = _Listener(model)
        answer(Query(question.text, view_id=str(question.query), regions=(region,)), buffer, listener, config)
        ids = source.ids(question.query)
        points = [(verdict, ids[round(v), round(u)] == question.object_id) for (u, v), verdict in listener.pointed]
        named = tuple((verdict, "moved_there" if on_it else "other") for verdict, on_it in points)
        yield Found(listener.verdict, case, named)


class _Listener:
    """A PointingModel that keeps what geometry says of the mark, and of where another model points.

    Attributes:
        verdict: on the marked surface.
        pointed: the other model's pixels, with what earlier views say of them.
    """

    name = "listener"

    def __init__(self, model: PointingModel):
        self._model = model
        self.verdict = Change.NOT_CHECKED.name
        self.pointed: list[tuple[tuple[float, float], str]] = []

    def predict(self, request: PointingRequest) -> Prediction:
        surface = request.surface or ChangeEvidence()
        self.verdict = surface.change.name
        if surface.change is not Change.UNCHANGED:
            for asked in (request, replace(request, marks=())):
                self._listen(request, self._model.predict(asked))
        return Prediction("NOT_VISIBLE", Outcome.NOT_VISIBLE)

    def _listen(self, request: PointingRequest, said: Prediction) -> None:
        if len(said.points):
            verdict = earlier_at(request, said)
            self.pointed.append(((float(said.points[0, 0]), float(said.points[0, 1])), verdict.name))


def case_of(question: Question) -> Case | None:
    """What is true of the thing; None where that is open."""
    truth = question.truth
    if not truth.decidable and truth.visibility is not Visibility.UNKNOWN:
        return None
    if truth.hidden:
        return "absent"
    return "here" if question.fate == "unchanged" else "elsewhere"


def _view(source: SimSource, i: int, T_world_camera: np.ndarray) -> View:
    return View(
        view_id=str(i),
        stamp_ns=int(source.stamps_ns[i]),
        color=source.color(i),
        camera=source.color_camera,
        depth=source.depth(i),
        depth_camera=source.depth_camera,
        T_world_camera=T_world_camera,
    )
