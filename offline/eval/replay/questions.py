"""Questions with known answers: a point of an object marked in one frame, asked for in a later one."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
from roboref_core.pose import transform
from roboref_core.view import valid_depth
from roboref_core.visibility import Visibility

from offline.data_engine.sources.labels import structural_family
from offline.eval.replay.truth import GroundTruthScene, Truth, TruthConfig, judge


@dataclass(frozen=True)
class Question:
    """One question of a replay.

    Attributes:
        question_id: unique within the replay.
        text: referring expression.
        object_id, label: of the object that the mark lies on.
        reference, query: positions in the scene of the marked frame and of the newest frame when it is asked.
        mark: (u, v) in the reference frame [pixel].
        truth: the right answer.
    """

    question_id: str
    text: str
    object_id: int
    label: str
    reference: int
    query: int
    mark: tuple[float, float]
    truth: Truth


@dataclass(frozen=True)
class QuestionConfig:
    """Which questions to ask.

    Attributes:
        count: how many.
        references, queries: how many frames are marked, and at how many frames questions are asked.
        min_area: least visible area of a marked object [pixel].
        edge_distance: a mark lies at least this far inside its object's outline [pixel].
        shares: of the questions by truth; what one kind lacks the others fill.
        seed: of the choice.
    """

    count: int = 48
    references: int = 6
    queries: int = 16
    min_area: int = 250
    edge_distance: float = 4.0
    shares: dict[Visibility, float] = field(
        default_factory=lambda: {
            Visibility.VISIBLE: 0.55,
            Visibility.OCCLUDED: 0.2,
            Visibility.OUT_OF_FRUSTUM: 0.15,
            Visibility.UNKNOWN: 0.1,
        }
    )
    seed: int = 0
    truth: TruthConfig = field(default_factory=TruthConfig)


def make_questions(
    scene: GroundTruthScene, config: QuestionConfig, progress: Callable[[int, int], None] = lambda done, total: None
) -> list[Question]:
    """Choose questions, in the order of the frames at which they are asked; a pure function of scene and config.

    Raises ValueError if the scene has too few posed frames or shows no object that can be marked.
    """
    posed = np.flatnonzero(np.isfinite(scene.poses).all(axis=(1, 2)))
    if len(posed) < 2:
        raise ValueError(f"{scene.scene_id}: questions need at least 2 frames with a pose, found {len(posed)}")
    references = _spread(posed[: max(2 * len(posed) // 3, 1)], config.references)
    queries = _spread(posed[posed > references[0]], config.queries)
    total = len(references) + len(queries)
    marks = []
    for n, reference in enumerate(references):
        marks += _marks(scene, int(reference), config)
        progress(n + 1, total)
    if not marks:
        raise ValueError(
            f"{scene.scene_id}: no object fills {config.min_area} pixels in any of frames "
            f"{scene.frame_ids[references].tolist()}"
        )
    kinds = defaultdict(list)
    for n, query in enumerate(queries):
        camera, T = scene.color_camera, scene.poses[query]
        exact, sensor = scene.true_color_depth(int(query)), scene.depth(int(query))
        for reference, object_id, mark, point in marks:
            if reference < query:
                truth = judge(point, camera, T, exact, sensor, scene.depth_camera, config.truth)
                kinds[truth.visibility].append((reference, int(query), object_id, mark, truth))
        progress(len(references) + n + 1, total)
    return _choose(scene, kinds, config)


def _spread(positions: np.ndarray, count: int) -> np.ndarray:
    return positions[np.unique(np.linspace(0, len(positions) - 1, count).round().astype(int))]


def _marks(scene: GroundTruthScene, reference: int, config: QuestionConfig):
    """(reference, object id, pixel, world point) of every object of a frame that can be marked."""
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
                yield reference, object_id, (float(u[k]), float(v[k])), point
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


def _choose(scene: GroundTruthScene, kinds, config: QuestionConfig) -> list[Question]:
    """Fill the quota of each kind, taking objects in turn so that no single one dominates."""
    queues = {kind: _in_turn(cases, config.seed) for kind, cases in kinds.items()}
    chosen = []
    for kind, share in config.shares.items():
        take = min(round(share * config.count), len(queues.get(kind, [])))
        chosen += [queues[kind].pop(0) for _ in range(take)]
    rest = [case for kind in config.shares for case in queues.get(kind, [])]
    chosen += rest[: max(config.count - len(chosen), 0)]
    chosen.sort(key=lambda case: (case[1], case[0], case[2]))
    labels = _labels(scene)
    return [
        Question(
            question_id=f"{scene.scene_id}-q{n:03d}",
            text=f"the {labels[object_id]}",
            object_id=object_id,
            label=labels[object_id],
            reference=reference,
            query=query,
            mark=mark,
            truth=truth,
        )
        for n, (reference, query, object_id, mark, truth) in enumerate(chosen)
    ]


def _in_turn(cases, seed: int):
    by_object = defaultdict(list)
    for case in sorted(cases, key=lambda c: _seed(seed, c[0], c[1], c[2])):
        by_object[case[2]].append(case)
    turns = [
        # What cannot be decided is asked last: it is no use to a score.
        (not case[4].decidable, turn, _seed(seed, object_id), case)
        for object_id, own in by_object.items()
        for turn, case in enumerate(own)
    ]
    return [case for *_, case in sorted(turns, key=lambda t: t[:3])]


def _seed(*parts) -> int:
    return int.from_bytes(hashlib.sha256(repr(tuple(map(str, parts))).encode()).digest()[:8], "little")
