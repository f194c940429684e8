"""Questions in words alone, with known answers: referring expressions that are true of one view of a simulated room,
and things that it does not show."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from roboref_core.geometry.pose import transform
from roboref_core.seeds import rng_of
from roboref_core.views.visibility import Visibility

from offline.data_engine.tasks.ground_truth import ground_truth_pixel
from offline.data_engine.tasks.simulated import Phrase, SceneFacts, absent_phrases, phrases, seen_objects
from offline.eval.records.replays import Question, Truth
from offline.eval.replay.truth.truth import GroundTruthScene, triple
from sim.rooms.renderer import Rendering
from sim.rooms.sim_source import SimSource

_ABSENT_SHARE = 0.3
_HEADS = ("Point to ", "Locate ")


def make_word_questions(
    source: GroundTruthScene,
    count: int,
    queries: int = 16,
    positions: Sequence[int] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Question]:
    """Choose questions, in the order of the frames at which they are asked; a pure function of its arguments.

    The true point is the middle of what is visible of the object, or another of its visible pixels where the middle
    is not one of them.

    Args:
        count: how many; fewer if the views do not allow so many.
        queries: frames at which questions are asked, spread over the walk.
        positions: frames that may be asked about; default: all.

    Raises ValueError for a recording, whose objects nobody has described, and if things were moved or removed.
    """
    if not isinstance(source, SimSource) or source.change is not None:
        raise ValueError(f"{source.scene_id}: questions in words need a procedural room that stays as it is")
    posed = np.flatnonzero(np.isfinite(source.poses).all(axis=(1, 2)))
    posed = posed if positions is None else np.intersect1d(posed, positions)
    frames = posed[np.unique(np.linspace(0, len(posed) - 1, queries).round().astype(int))]
    facts = SceneFacts.of(source.renderer)
    chosen: list[Question] = []
    for n, query in enumerate(map(int, frames)):
        wanted = round((n + 1) * count / len(frames)) - len(chosen)
        rng = rng_of("words", 0, source.scene_id, query)
        rendering = Rendering(None, source.true_color_depth(query), source.ids(query))
        _, frame = seen_objects(source.renderer, facts, source.color_camera, source.true_poses[query], rendering)
        told = [phrase for phrase in phrases(frame, facts, rng) if len(phrase.uids) == 1]
        absent = round(_ABSENT_SHARE * wanted)
        picked = _in_turn(told, wanted - absent, rng) + _in_turn(list(absent_phrases(frame, facts, rng)), absent, rng)
        for phrase in picked:
            uid = phrase.uids[0] if phrase.uids else 0
            truth = Truth(Visibility.OUT_OF_FRUSTUM, True, None, None)
            if uid:
                truth = named_truth(source, query, uid)
            chosen.append(
                Question(
                    question_id=f"{source.scene_id}-w{len(chosen):03d}",
                    text=_bare(phrase.text),
                    object_id=uid,
                    label=facts.labels.get(uid, ""),
                    reference=None,
                    query=query,
                    mark=None,
                    truth=truth,
                    fate="unchanged",
                )
            )
        progress(n + 1, len(frames))
    return chosen


def named_truth(scene: GroundTruthScene, query: int, object_id: int) -> Truth:
    """The truth about a thing that words name and that the frame at ``query`` shows."""
    mask = scene.ids(query) == object_id
    u, v = ground_truth_pixel(mask, 0, scene.scene_id, object_id, query)
    in_camera = scene.color_camera.unproject(np.array([[u, v]], dtype=float), scene.true_color_depth(query)[v, u])[0]
    point = transform(scene.poses[query], in_camera)
    return Truth(Visibility.VISIBLE, True, triple(point), (float(u), float(v)), triple(in_camera))


def _in_turn(found: list[Phrase], most: int, rng: np.random.Generator) -> list[Phrase]:
    """At most ``most``, relation by relation in turn, so that frequent relations do not crowd out rare ones."""
    queues = defaultdict(list)
    for k in rng.permutation(len(found)):
        queues[found[k].relation].append(found[k])
    order = [queues[name] for name in sorted(queues)]
    order = [order[k] for k in rng.permutation(len(order))]
    picked: list[Phrase] = []
    while len(picked) < most and any(order):
        picked += [queue.pop() for queue in order if queue]
    return picked[:most]


def _bare(text: str) -> str:
    """ "Point to the red chair." -> "the red chair": how somebody asks a robot."""
    for head in _HEADS:
        if text.startswith(head):
            return text.removeprefix(head).removesuffix(".")
    return text
