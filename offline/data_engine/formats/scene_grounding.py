"""Manipulation records made of a five_frames tree: boxes, contact points and choices of its objects."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from roboref_core.seeds import rng_of

from offline.data_engine.filters import is_named
from offline.data_engine.five_frames import ViewFiles, mask_box
from offline.data_engine.formats.manipulation import GroundingRecord, Kind, coordinates_text
from offline.data_engine.tasks.expressions import could_be_meant
from offline.data_engine.tasks.ground_truth import ground_truth_pixel, normalised
from offline.data_engine.tasks.pairs import SceneViews
from offline.files import read_mask

_LETTERS = "ABCDEFGH"


def scene_records(scene: SceneViews, image_root: Path, seed: int) -> Iterator[GroundingRecord]:
    """Box, contact point and choice questions from a scene's views.

    Only of objects that "the (label)" means without doubt in their picture. Boxes hold all visible pixels, edge to
    edge. A choice names the object and three labels that nothing in the whole scene has.
    """
    labels = sorted({views[0].label for views in scene.objects.values() if views})
    for uid in sorted(scene.objects):
        for view in scene.objects[uid]:
            if not is_named(view.label) or not _means_one(scene, view):
                continue
            rng = rng_of("grounding", seed, scene.scene_id, uid, view.frame_id)
            mask = read_mask(view.mask)
            h, w = mask.shape
            u0, v0, u1, v1 = mask_box(mask)
            corners = ((u0 / w, v0 / h), ((u1 + 1) / w, (v1 + 1) / h))
            point = normalised(ground_truth_pixel(mask, seed, scene.scene_id, uid, view.frame_id), (w, h))
            image = (view.original.relative_to(image_root).as_posix(),)
            stem = f"{scene.scene_id}_{uid}_{view.view:02d}"
            question = f"Give the bounding box of the {view.label} as its top left and bottom right corners."
            yield GroundingRecord(f"{stem}_box", image, question, Kind.BOX, corners, coordinates_text(corners))
            question = f"Where should the gripper touch the {view.label}? Answer with one point."
            yield GroundingRecord(f"{stem}_point", image, question, Kind.POINT, (point,), coordinates_text((point,)))
            others = [label for label in _COMMON if label not in labels]
            options = [view.label, *(others[k] for k in rng.permutation(len(others))[:3])]
            order = rng.permutation(len(options))
            u, v = np.round(((np.array(corners[0]) + corners[1]) / 2), 3)
            listed = " ".join(f"{_LETTERS[n]}. {options[k]}" for n, k in enumerate(order))
            question = f"What is around ({u:.3f}, {v:.3f})? {listed} Answer with the letter."
            letter = _LETTERS[int(np.flatnonzero(order == 0)[0])]
            yield GroundingRecord(f"{stem}_choice", image, question, Kind.CHOICE, (), letter)


def _means_one(scene: SceneViews, view: ViewFiles) -> bool:
    """Is there nothing else in a view's picture that its object's label could mean, as far as can be told?"""
    if scene.facts is not None and view.frame_id in scene.facts["frames"]:
        seen = scene.facts["frames"][view.frame_id]["objects"]
        labels = [
            scene.facts["objects"][uid]["label"]
            for uid, facts in seen.items()
            if uid != str(view.uid) and not facts["certainly_hidden"]
        ]
    else:
        labels = [views[0].label for uid, views in scene.objects.items() if views and uid != view.uid]
    return not any(could_be_meant(view.label, other) for other in labels)


_COMMON = (
    "bicycle", "umbrella", "suitcase", "guitar", "microwave", "printer", "backpack", "lamp", "plant", "laptop",
    "trash can", "keyboard", "pillow", "telephone", "bucket", "ladder",
)  # fmt: skip
