"""Questions with known answers: a point of an object marked in one frame, asked for in a later one.

Where things were moved or taken away in between, marks lie in frames before and questions at frames after that, and
each fate (unchanged, moved, removed) has its share of the questions.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from roboref_core.geometry.pose import transform
from roboref_core.views.view import valid_depth
from roboref_core.views.visibility import Visibility

from offline.data_engine.sources.labels import structural_family
from offline.eval.records.replays import Fate, Question, Truth
from offline.eval.replay.truth.truth import GroundTruthScene, TruthConfig, judge


@dataclass(frozen=True)
class QuestionConfig:
    """Which questions to ask.

    Attributes:
        count: how many.
        references, queries: how many frames are marked, and at how many frames questions are asked.
        min_area: least visible area of a marked object [pixel].
        edge_distance: a mark lies at least this far inside its object's outline [pixel].
        shares: shares of the questions by truth; what one kind lacks the next fills, and visible points what all lack.
        seed: seed of the choice of questions.
    """

    count: int = 48
    references: int = 8
    queries: int = 32
    min_area: int = 250
    edge_distance: float = 4.0
    shares: dict[Visibility, float] = field(
        default_factory=lambda: {
            Visibility.VISIBLE: 0.55,
            Visibility.UNKNOWN: 0.1,
            Visibility.OCCLUDED: 0.2,
            Visibility.OUT_OF_FRUSTUM: 0.15,
            Visibility.CONFLICT: 0.0,
        }
    )
    seed: int = 0
    truth: TruthConfig = field(default_factory=TruthConfig)


def make_questions(
    scene: GroundTruthScene,
    config: QuestionConfig,
    *,
    positions: Sequence[int] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Question]:
    """Choose questions, in the order of the frames at which they are asked; a pure function of scene and config.

    Args:
        positions: frames that may be marked and asked about; default: all.

    Raises ValueError if the scene has too few posed frames or shows no object that can be marked.
    """
    posed = np.flatnonzero(np.isfinite(scene.poses).all(axis=(1, 2)))
    posed = posed if positions is None else np.intersect1d(posed, positions)
    before, after = (posed[: max(2 * len(posed) // 3, 1)], posed[1:])
    if scene.change_at is not None:
        before, after = posed[posed < scene.change_at], posed[posed >= scene.change_at]
    if not len(before) or not len(after):
        raise ValueError(
            f"{scene.scene_id}: questions need a frame with a pose to mark and a later one to ask at, found "
            f"{len(posed)} with a pose"
            + ("" if scene.change_at is None else f", {len(before)} of them before position {scene.change_at}")
        )
    references, queries = _spread(before, config.references), _spread(after, config.queries)
    total = len(references) + len(queries)
    marks: list[_Mark] = []
    for n, reference in enumerate(references):
        marks += _marks(scene, int(reference), config)
        progress(n + 1, total)
    if not marks:
        raise ValueError(
            f"{scene.scene_id}: no object fills {config.min_area} pixels in any of frames "
            f"{scene.frame_ids[references].tolist()}"
        )
    cases = []
    for n, query in enumerate(queries):
        cases += _cases(scene, int(query), [mark for mark in marks if mark.reference < query], config)
        progress(len(references) + n + 1, total)
    return _choose(scene, cases, config)


def truth_at(scene: GroundTruthScene, question: Question, query: int) -> tuple[Truth, Fate]:
    """What is true of the mark of a question in the frame at position ``query``, and its object's fate by then."""
    if question.mark is None or question.reference is None:
        raise ValueError(f"question {question.question_id} has no mark")
    u, v = question.mark
    depth = scene.true_color_depth(question.reference)[int(v), int(u)]
    in_camera = scene.color_camera.unproject(np.array([[u, v]]), depth)
    point = transform(scene.poses[question.reference], in_camera)[0]
    mark = _Mark(question.reference, question.object_id, question.mark, point)
    (case,) = _cases(scene, query, [mark], QuestionConfig())
    return case.truth, case.fate


@dataclass(frozen=True)
class _Mark:
    """A point (3,) of an object in the world and its pixel (u, v) in the frame at position ``reference``."""

    reference: int
    object_id: int
    pixel: tuple[float, float]
    point: np.ndarray


@dataclass(frozen=True)
class _Case:
    """What could be asked at a frame."""

    mark: _Mark
    query: int
    truth: Truth
    fate: Fate


def _cases(scene: GroundTruthScene, query: int, marks: Sequence[_Mark], config: QuestionConfig):
    camera, T = scene.color_camera, scene.poses[query]
    exact, sensor = scene.true_color_depth(query), scene.depth(query)
    for mark in marks:
        motion = scene.motion(mark.object_id, mark.reference, query)
        point = mark.point if motion is None else transform(motion, mark.point)
        truth = judge(point, camera, T, exact, sensor, scene.depth_camera, config.truth)
        if motion is None:
            in_sight = truth.visibility in (Visibility.VISIBLE, Visibility.UNKNOWN)
            state = Visibility.CONFLICT if in_sight else truth.visibility
            yield _Case(mark, query, replace(truth, visibility=state, decidable=True), "removed")
            continue
        hidden = truth.visibility in (Visibility.OCCLUDED, Visibility.OUT_OF_FRUSTUM)
        if hidden and not scene.out_of_sight(mark.object_id, query):
            # The point is hidden, another part of its object may be in sight: whether "it" is visible is open.
            truth = replace(truth, decidable=False)
        yield _Case(mark, query, truth, "unchanged" if np.array_equal(motion, np.eye(4)) else "moved")


def _spread(positions: np.ndarray, count: int) -> np.ndarray:
    return positions[np.unique(np.linspace(0, len(positions) - 1, count).round().astype(int))]


def _marks(scene: GroundTruthScene, reference: int, config: QuestionConfig):
    """One mark on every object of a frame that can be marked."""
    depth, sensor = scene.true_color_depth(reference), scene.depth(reference)
    for object_id, inner in _regions(scene, reference, depth, config):
        v, u = np.nonzero(inner)
        rng = np.random.default_rng(_seed(config.seed, scene.scene_id, reference, object_id))
        for k in rng.permutation(len(u))[:8]:
            pixel = np.array([[u[k], v[k]]], dtype=np.float64)
            in_camera = scene.color_camera.unproject(pixel, depth[v[k], u[k]])
            on_sensor = np.floor(scene.depth_camera.project(in_camera)[0] + 0.5)
            if not scene.depth_camera.contains(on_sensor)[0]:
                continue
            # An operator marks what the picture shows; a mark on a sensor hole is refused, which a test covers.
            if valid_depth(sensor[int(on_sensor[1]), int(on_sensor[0])]):
                point = transform(scene.poses[reference], in_camera)[0]
                yield _Mark(reference, object_id, (float(u[k]), float(v[k])), point)
                break


def _regions(scene: GroundTruthScene, reference: int, depth: np.ndarray, config: QuestionConfig):
    """(object id, (H, W) bool) of where each object of a frame may be marked: well inside its outline."""
    ids, labels = scene.ids(reference), _labels(scene)
    for object_id in np.unique(ids):
        label = labels.get(int(object_id))
        if label is None or structural_family(label):
            continue
        mask = ((ids == object_id) & valid_depth(depth)).astype(np.uint8)
        if mask.sum() >= config.min_area:
            distance = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
            yield int(object_id), distance >= config.edge_distance


def _labels(scene: GroundTruthScene) -> dict[int, str]:
    instances = scene.instances()
    return {} if instances is None else instances.labels


def _choose(scene: GroundTruthScene, cases: Sequence[_Case], config: QuestionConfig) -> list[Question]:
    """As many of each fate; what one fate lacks the others fill."""
    fates = defaultdict(list)
    for case in cases:
        fates[case.fate].append(case)
    chosen: list[_Case] = []
    for n, own in enumerate(sorted(fates.values(), key=len)):
        chosen += _fill_quota(own, (config.count - len(chosen)) // (len(fates) - n), config)
    chosen.sort(key=lambda case: (case.query, case.mark.reference, case.mark.object_id))
    labels = _labels(scene)
    return [
        Question(
            question_id=f"{scene.scene_id}-q{n:03d}",
            text=f"the {labels[case.mark.object_id]}",
            object_id=case.mark.object_id,
            label=labels[case.mark.object_id],
            reference=case.mark.reference,
            query=case.query,
            mark=case.mark.pixel,
            truth=case.truth,
            fate=case.fate,
        )
        for n, case in enumerate(chosen)
    ]


def _fill_quota(cases: Sequence[_Case], count: int, config: QuestionConfig) -> list[_Case]:
    """Of each visibility its share, objects in turn so that no single one dominates."""
    kinds = defaultdict(list)
    for case in cases:
        kinds[case.truth.visibility].append(case)
    queues = {kind: _in_turn(own, config.seed) for kind, own in kinds.items()}
    chosen: list[_Case] = []
    wanted = 0.0
    for kind, share in config.shares.items():
        wanted += share * count
        useful = sum(map(_is_useful, queues.get(kind, [])))
        taken = [queues[kind].pop(0) for _ in range(min(round(wanted), useful))]
        chosen, wanted = chosen + taken, wanted - len(taken)
    rest = [case for kind in config.shares for case in queues.get(kind, [])]
    return (chosen + sorted(rest, key=lambda case: not _is_useful(case)))[:count]


def _is_useful(case: _Case) -> bool:
    """To a score: most sensor holes lie on outlines, where nothing is decidable, and all of them count."""
    return case.truth.decidable or case.truth.visibility == Visibility.UNKNOWN


def _in_turn(cases: Sequence[_Case], seed: int) -> list[_Case]:
    by_object = defaultdict(list)
    for case in sorted(cases, key=lambda c: _seed(seed, c.mark.reference, c.query, c.mark.object_id)):
        by_object[case.mark.object_id].append(case)
    turns = [
        (not _is_useful(case), turn, _seed(seed, object_id), case)
        for object_id, own in by_object.items()
        for turn, case in enumerate(own)
    ]
    return [case for *_, case in sorted(turns, key=lambda t: t[:3])]


def _seed(*parts) -> int:
    return int.from_bytes(hashlib.sha256(repr(tuple(map(str, parts))).encode()).digest()[:8], "little")
