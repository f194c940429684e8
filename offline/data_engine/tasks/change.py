"""Can one see that an object was painted out? A dark book on a dark seat leaves nothing to point to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from offline.data_engine.five_frames import ViewFiles
from offline.data_engine.tasks.pairs import SceneViews
from offline.files import read_mask, read_picture

_VISIBLE_STEP = 25
"""A pixel has changed if one of its channels has by more than this, of 255."""


def changed_share(view: ViewFiles) -> float:
    """Share of the object's mask that visibly differs between a view's original and inpainted picture, [0, 1].

    Raises ValueError if the pictures differ in size.
    """
    assert view.inpainted is not None
    mask = read_mask(view.mask)
    before, after = read_picture(view.original), read_picture(view.inpainted)
    if before.shape != after.shape or before.shape[:2] != mask.shape:
        raise ValueError(
            f"{view.inpainted}: size {after.shape[1]}x{after.shape[0]}, expected that of {view.original} and its mask, "
            f"{before.shape[1]}x{before.shape[0]} and {mask.shape[1]}x{mask.shape[0]}"
        )
    step = np.abs(before[mask].astype(np.int16) - after[mask]).max(axis=-1, initial=0)
    return float((step > _VISIBLE_STEP).mean()) if len(step) else 0.0


def without_unseen_changes(scene: SceneViews, min_share: float) -> tuple[SceneViews, int]:
    """A scene whose views keep their inpainted picture only where at least ``min_share`` of the mask has changed.

    Returns the scene, and how many views lost theirs.
    """
    objects: dict[int, list[ViewFiles]] = {}
    lost = 0
    for uid, views in scene.objects.items():
        objects[uid] = []
        for view in views:
            if view.inpainted is not None and changed_share(view) < min_share:
                view, lost = replace(view, inpainted=None), lost + 1
            objects[uid].append(view)
    return replace(scene, objects=objects), lost
