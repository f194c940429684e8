"""Do stated 95 % ellipsoids hold 95 % of the truths, and how large are they? Rooms and recordings, without ROS.

Questions of `roboref eval replay` are answered by `reprojection` in this process: a point marked in one view, asked
for in a later one. Truth of a room is ray casting; of a recording it is its own depth and poses, which are not exact.
The volume is that of the stated ellipsoid, as the radius of the ball of equal volume.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro
from roboref_core.geometry.pose import exponential
from roboref_core.models.reprojection import ReprojectionModel
from roboref_core.referring.answer import Status, Target
from roboref_core.referring.query import MarkedPoint, Query
from roboref_core.referring.refer import ReferConfig, answer
from roboref_core.views.locate import DepthSource, LocateConfig
from roboref_core.views.view import View
from roboref_core.views.view_buffer import SECOND, ViewBuffer, ViewBufferConfig
from roboref_core.views.visibility import Visibility

from offline.data_engine.sources.discover import open_scene
from offline.eval.replay.cli import Replay, procedural
from offline.eval.replay.scoring.score import CHI2_95
from offline.eval.replay.truth.questions import QuestionConfig, make_questions
from offline.eval.replay.truth.recorded import RecordedScene
from offline.eval.replay.truth.truth import GroundTruthScene

_MEMORY_STEP = 5
"""Of the frames before a question, every such one is in the robot's memory."""


@dataclass(frozen=True)
class EllipsoidBenchmark:
    """What is measured."""

    seeds: tuple[int, ...] = (1, 2)
    """Procedural rooms, each with exact depth, with a sensor's noise and holes, and with noisy poses."""
    recordings: tuple[Path, ...] = ()
    """Folders of posed RGB-D frames without annotation."""
    color_intrinsics: tuple[float, float, float, float] | None = None
    """fx fy cx cy of the recordings' colour cameras, where their folders do not tell [pixel]."""
    depth_intrinsics: tuple[float, float, float, float] | None = None
    """The same of their depth cameras."""
    frames: int = 120
    """Length of a walk through a room."""
    questions: int = 120
    """Asked of each sequence."""
    question_seed: int = 0
    """Seed of the choice of questions."""
    pose_noise: tuple[float, float] = (0.02, 1.0)
    """Standard deviation of noisy poses, per axis [m, degree]."""
    undeclared: bool = False
    """The node is not told of the noise of poses."""


@dataclass
class Tally:
    """Answers of one condition: squared Mahalanobis distances, errors and radii [m], errors without sensor depth."""

    name: str
    chi2: list[float]
    errors: list[float]
    radii: list[float]
    blind: list[float]
    filled: list[float]

    def row(self) -> str:
        inside = np.mean(np.array(self.chi2) <= CHI2_95) if self.chi2 else np.nan
        radius, error = (np.median(part) if part else np.nan for part in (self.radii, self.errors))
        wrong = sum(e > 0.1 for e in self.blind)
        return (
            f"{self.name:28}{len(self.chi2):6}{100 * inside:8.1f} %{100 * radius:9.2f} cm{100 * error:9.2f} cm"
            f"{len(self.blind):7}{wrong:7}{len(self.filled):8}"
        )


def ask_all(name: str, scene: GroundTruthScene, config: EllipsoidBenchmark, poses: np.ndarray, locate: LocateConfig):
    """The tally of one sequence whose views state ``poses``, (N, 4, 4)."""
    chosen = make_questions(scene, QuestionConfig(config.questions, seed=config.question_seed))
    tally = Tally(name, [], [], [], [], [])
    buffer = ViewBuffer(ViewBufferConfig(sharpness_window=1, min_interval=0.0, max_interval=0.0))
    views: dict[int, View] = {}

    def view(i: int) -> View:
        if i not in views:
            views[i] = View(
                view_id=buffer.next_id(), stamp_ns=(i + 1) * SECOND // 10, color=scene.color(i),
                camera=scene.color_camera, depth=scene.depth(i), depth_camera=scene.depth_camera,
                T_world_camera=poses[i], frame_id="camera", world_frame="world",
            )  # fmt: skip
        return views[i]

    for question in chosen:
        truth = question.truth
        if truth.visibility not in (Visibility.VISIBLE, Visibility.UNKNOWN) or truth.point is None:
            continue
        assert question.reference is not None and question.mark is not None
        own = ViewBuffer(ViewBufferConfig(sharpness_window=1, min_interval=0.0, max_interval=0.0))
        # The robot has seen what lies before, too.
        for i in sorted({*range(0, question.query, _MEMORY_STEP), question.reference, question.query}):
            own.add(view(i))
        query = Query(question.text, regions=(MarkedPoint(question.mark, view(question.reference).view_id),))
        reply = answer(query, own, ReprojectionModel(), ReferConfig(locate=locate))
        if reply.status is Status.FOUND:
            _count(tally, reply.targets[0], np.array(truth.point), truth.visibility, truth.decidable)
    return tally


def _count(tally: Tally, target: Target, truth: np.ndarray, visibility: Visibility, decidable: bool) -> None:
    assert target.position is not None and target.covariance is not None
    off = target.position - truth
    error = float(np.linalg.norm(off))
    if visibility is Visibility.UNKNOWN:
        tally.blind.append(error)
    if target.depth_source is DepthSource.FILLED:
        tally.filled.append(error)
    if decidable:
        tally.chi2.append(float(off @ np.linalg.solve(target.covariance, off)))
        tally.errors.append(error)
        radius = (np.linalg.det(target.covariance) * CHI2_95**3) ** (1 / 6)
        tally.radii.append(float(radius))


def noisy(poses: np.ndarray, sigma: tuple[float, float], seed: int) -> np.ndarray:
    """(N, 4, 4) poses, each off by its own error of [m, degree] per axis."""
    rng = np.random.default_rng(seed)
    scale = np.array([sigma[0]] * 3 + [np.radians(sigma[1])] * 3)
    return np.stack([T @ exponential(rng.standard_normal(6) * scale) for T in poses])


def main(config: EllipsoidBenchmark) -> None:
    print(f"{'':28}{'found':>6}{'inside':>10}{'radius':>12}{'error':>12}{'blind':>7}{'>10cm':>7}{'filled':>8}")
    declared = LocateConfig()
    if not config.undeclared:
        metres, degrees = config.pose_noise
        declared = replace(declared, pose_translation_sigma=metres, pose_rotation_sigma=float(np.radians(degrees)))
    for seed in config.seeds:
        for depth in ("exact", "sensor"):
            scene = procedural(seed, Replay(frames=config.frames, depth=depth))
            print(ask_all(f"room {seed}, {depth} depth", scene, config, scene.poses, LocateConfig()).row(), flush=True)
        poses = noisy(scene.poses, config.pose_noise, seed)
        print(ask_all(f"room {seed}, and noisy poses", scene, config, poses, declared).row(), flush=True)
    for folder in config.recordings:
        opened = open_scene(folder, color_intrinsics=config.color_intrinsics, depth_intrinsics=config.depth_intrinsics)
        recorded = RecordedScene(opened)
        print(ask_all(f"{folder.name}", recorded, config, recorded.poses, LocateConfig()).row(), flush=True)
        poses = noisy(recorded.poses, config.pose_noise, 0)
        print(ask_all(f"{folder.name}, noisy", recorded, config, poses, declared).row(), flush=True)


if __name__ == "__main__":
    main(tyro.cli(EllipsoidBenchmark, description=__doc__))
