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
from offline.eval.replay.truth.questions import Question
from offline.eval.replay.truth.truth import Truth
from sim.rooms.renderer import Rendering
from sim.rooms.sim_source import SimSource

_ABSENT_SHARE = 0.3
_HEADS = ("Point to ", "Locate ")


def make_word_questions(
    source: SimSource,
    count: int,
    queries: int = 16,
    seed: int = 0,
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
        rng = rng_of("words", seed, source.scene_id, query)
        rendering = Rendering(None, source.true_color_depth(query), source.ids(query))
        _, frame = seen_objects(source.renderer, facts, source.color_camera, source.true_poses[query], rendering)
        told = [phrase for phrase in phrases(frame, facts, rng) if len(phrase.uids) == 1]
        absent = round(_ABSENT_SHARE * wanted)
        picked = _in_turn(told, wanted - absent, rng) + _in_turn(list(absent_phrases(frame, facts, rng)), absent, rng)
        for phrase in picked:
            truth = _truth(source, query, phrase, seed)
            uid = phrase.uids[0] if phrase.uids else 0
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


def _truth(source: SimSource, query: int, phrase: Phrase, seed: int) -> Truth:
    if not phrase.uids:
        return Truth(Visibility.OUT_OF_FRUSTUM, True, None, None)
    mask = source.ids(query) == phrase.uids[0]
    u, v = ground_truth_pixel(mask, seed, source.scene_id, phrase.uids[0], query)
    in_camera = source.color_camera.unproject(np.array([[u, v]], dtype=float), source.true_color_depth(query)[v, u])
    x, y, z = transform(source.true_poses[query], in_camera)[0]
    return Truth(Visibility.VISIBLE, True, (float(x), float(y), float(z)), (float(u), float(v)))


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
