"""Which reference view is asked about in which query picture: positives, and negatives with their reasons.

A view in which visibility cannot be decided is neither: only ``certainly_hidden`` views become negatives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from roboref_core.seeds import rng_of
from roboref_core.views.visibility import Visibility

from offline.data_engine.filters import is_named
from offline.data_engine.five_frames import ViewFiles
from offline.data_engine.tasks.expressions import could_be_meant

REASONS = ("out_of_frustum", "occluded", "absent", "same_class_elsewhere", "inpainted")
TIERS = {"out_of_frustum": "A", "absent": "A", "occluded": "B", "same_class_elsewhere": "B", "inpainted": "B"}
"""A: easy, B: hard."""


@dataclass(frozen=True)
class PairConfig:
    """How many pairs of which kind.

    Attributes:
        per_object: most positive pairs of one object: by default all ordered pairs of five views.
        negatives: negatives per positive.
        mix: reason -> weight among the negatives; what an object has no case of goes to the other reasons, each up to
            twice its share.
        tiers: negatives of these tiers only ("A", "B", "AB").
        donors: scenes from which pictures for "absent" are drawn, per scene.
        min_change: share of an object's mask that must look different where it was painted out; else the painted
            picture is not used, here and in T2B.
    """

    per_object: int = 20
    negatives: float = 1.0
    mix: Mapping[str, float] = field(
        default_factory=lambda: {
            "out_of_frustum": 0.25,
            "occluded": 0.25,
            "absent": 0.15,
            "same_class_elsewhere": 0.25,
            "inpainted": 0.1,
        }
    )
    tiers: str = "AB"
    donors: int = 6
    min_change: float = 0.3

    def __post_init__(self):
        unknown = set(self.mix) - set(REASONS)
        if unknown or any(weight < 0 for weight in self.mix.values()):
            raise ValueError(f"mix takes weights >= 0 of {', '.join(REASONS)}, found {dict(self.mix)}")
        if not set(self.tiers) <= {"A", "B"}:
            raise ValueError(f"tiers must be A, B or AB, found {self.tiers!r}")


@dataclass(frozen=True)
class SceneViews:
    """A finished scene as the tasks see it.

    Attributes:
        split, scene_id: which.
        folder: its folder.
        objects: uid -> its views.
        facts: content of ``scene.json``; None for a tree that another program made.
    """

    split: str
    scene_id: str
    folder: Path
    objects: Mapping[int, Sequence[ViewFiles]]
    facts: Mapping | None = None


@dataclass(frozen=True)
class Pair:
    """A question: the object marked in ``reference``, asked for in ``query``.

    Attributes:
        uid, label: the object.
        reference: the view it is marked in.
        query: picture to search.
        query_view: the object's own view of that picture, if it is a positive.
        query_scene, query_frame: where the picture comes from.
        reason: why it is a negative; "" for a positive.
        geometry: facts about the pair ("fraction", "distance", "baseline", "angle", "overlap"), where known.
    """

    uid: int
    label: str
    reference: ViewFiles
    query: Path
    query_view: ViewFiles | None
    query_scene: str
    query_frame: str
    reason: str = ""
    geometry: Mapping[str, float] = field(default_factory=dict)


def pairs_of(scene: SceneViews, donors: Sequence[SceneViews], config: PairConfig, seed: int) -> list[Pair]:
    """All pairs of a scene, object by object."""
    found = []
    for uid in sorted(scene.objects):
        rng = rng_of("pairs", seed, scene.scene_id, uid)
        views = scene.objects[uid]
        positives = [
            _positive(scene, a, b) for a in views for b in views if a.frame_id != b.frame_id or a.view != b.view
        ]
        positives = [positives[k] for k in sorted(rng.permutation(len(positives))[: config.per_object])]
        found += positives
        found += _negatives(scene, donors, uid, round(config.negatives * len(positives)), config, rng)
    return found


def pairs_not_made(scene: SceneViews, pairs: Sequence[Pair], config: PairConfig) -> dict[str, int]:
    """How many pairs the views of a scene would have given beyond ``pairs``, by cause."""
    positives = sum(not pair.reason for pair in pairs)
    possible = sum(len(views) * (len(views) - 1) for views in scene.objects.values())
    lacking = round(config.negatives * positives) - (len(pairs) - positives)
    causes = {"positives_beyond_per_object": possible - positives, "negatives_without_a_case": lacking}
    return {cause: count for cause, count in causes.items() if count > 0}


def can_be_removed(scene: SceneViews, uid: int) -> bool:
    """Is a picture without the object plausible? Not if things that stood on it would be left in the air."""
    return scene.facts is None or not scene.facts["objects"][str(uid)]["carries"]


def _positive(scene: SceneViews, a: ViewFiles, b: ViewFiles) -> Pair:
    return Pair(
        a.uid, a.label, a, b.original, b, scene.scene_id, b.frame_id, geometry=_geometry(scene, a.uid, a, b.frame_id)
    )


def _negatives(scene, donors, uid, wanted, config: PairConfig, rng) -> list[Pair]:
    views = scene.objects[uid]
    cases = _cases(scene, donors, uid)
    weights = {
        reason: config.mix.get(reason, 0.0)
        for reason in REASONS
        if cases[reason] and TIERS[reason] in config.tiers and config.mix.get(reason, 0.0) > 0
    }
    found: list[Pair] = []
    queues = {reason: [cases[reason][k] for k in rng.permutation(len(cases[reason]))] for reason in weights}
    total = sum(config.mix.values())
    for reason, queue in queues.items():
        # Where others have no cases, one reason may take twice its share, not flood the rest.
        del queue[max(1, round(2 * wanted * weights[reason] / total)) :]
    while len(found) < wanted and weights:
        names = sorted(weights)
        p = np.array([weights[name] for name in names])
        reason = names[int(rng.choice(len(names), p=p / p.sum()))]
        query, query_scene, frame = queues[reason].pop()
        if not queues[reason]:
            del weights[reason]
        choices = [view for view in views if not (reason == "inpainted" and view.frame_id == frame)]
        if not choices:
            continue
        reference = choices[int(rng.integers(len(choices)))]
        geometry = _geometry(scene, uid, reference, frame) if reason != "absent" else {}
        found.append(Pair(uid, reference.label, reference, query, None, query_scene, frame, reason, geometry))
    return found


def _cases(scene: SceneViews, donors: Sequence[SceneViews], uid: int) -> dict[str, list[tuple[Path, str, str]]]:
    """Reason -> (picture, scene, frame) of all negatives that an object has."""
    cases: dict[str, list] = {reason: [] for reason in REASONS}
    views = scene.objects[uid]
    for view in views if can_be_removed(scene, uid) else ():
        if view.inpainted is not None:
            cases["inpainted"].append((view.inpainted, scene.scene_id, view.frame_id))
    known = scene.facts or {"frames": {}, "objects": {}}
    for frame, facts in sorted(known["frames"].items()):
        own = facts["objects"].get(str(uid))
        if own is None or not own["certainly_hidden"]:
            continue
        category = known["objects"][str(uid)]["category"]
        # "Object" is not a class that two things could share.
        elsewhere = is_named(category) and any(
            known["objects"][other]["category"] == category and seen["state"] == Visibility.VISIBLE.value
            for other, seen in facts["objects"].items()
            if other != str(uid)
        )
        reason = "same_class_elsewhere" if elsewhere else own["state"]
        cases[reason].append((scene.folder / facts["picture"], scene.scene_id, frame))
    label = views[0].label
    for donor in donors:
        cases["absent"] += _pictures_without(donor, label)
    return cases


def _pictures_without(donor: SceneViews, label: str) -> list[tuple[Path, str, str]]:
    """Pictures of another scene in which nothing could be taken for a thing of this label."""
    if donor.facts is None:
        labels = {views[0].label for views in donor.objects.values() if views}
        if any(could_be_meant(label, other) for other in labels):
            return []
        views = [view for uid in sorted(donor.objects) for view in donor.objects[uid]]
        return [(view.original, donor.scene_id, view.frame_id) for view in views]
    found = []
    for frame, facts in sorted(donor.facts["frames"].items()):
        shown = (uid for uid, seen in facts["objects"].items() if not seen["certainly_hidden"])
        if not any(could_be_meant(label, donor.facts["objects"][uid]["label"]) for uid in shown):
            found.append((donor.folder / facts["picture"], donor.scene_id, frame))
    return found


def _geometry(scene: SceneViews, uid: int, reference: ViewFiles, frame: str) -> dict[str, float]:
    """What is known of an object in a query frame, and of the way between the two views."""
    if scene.facts is None:
        return {}
    frames = scene.facts["frames"]
    if frame not in frames or reference.frame_id not in frames:
        return {}
    seen, other = frames[frame]["objects"].get(str(uid)), frames[reference.frame_id]["objects"].get(str(uid))
    if seen is None or other is None:
        return {}
    a, b = (np.array(frames[name]["pose"]).reshape(4, 4)[:3, 3] for name in (reference.frame_id, frame))
    cosine = float(np.clip(np.dot(seen["direction"], other["direction"]), -1, 1))
    return {
        "fraction": seen["fraction"],
        "distance": seen["distance"],
        "baseline": round(float(np.linalg.norm(a - b)), 4),
        "angle": round(float(np.arccos(cosine)), 4),
        "overlap": scene.facts["overlap"][reference.frame_id].get(frame, 1.0),
    }
