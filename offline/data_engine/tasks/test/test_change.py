from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from offline.data_engine.task_build import load_scene
from offline.data_engine.tasks.change import changed_share, without_unseen_changes
from offline.files import read_mask, read_picture, write_picture

SCENE = "scene0000_00"


def test_the_share_is_that_of_the_masks_pixels(built, tmp_path):
    scene = load_scene(built, "train", SCENE)
    view = next(iter(scene.objects.values()))[0]
    mask, picture = read_mask(view.mask), read_picture(view.original)
    v, u = np.nonzero(mask)
    half = len(v) // 2
    painted = picture.copy()
    painted[v[:half], u[:half]] = np.where(picture[v[:half], u[:half]] < 128, 255, 0)
    painted[v[half:], u[half:]] = np.clip(picture[v[half:], u[half:]].astype(int) + 9, 0, 255)
    painted[~mask] = 255 - picture[~mask]
    write_picture(tmp_path / "half.png", painted)
    assert changed_share(replace(view, inpainted=tmp_path / "half.png")) == pytest.approx(half / len(v))
    write_picture(tmp_path / "small.png", painted[::2, ::2])
    with pytest.raises(ValueError, match=r"small\.png: size"):
        changed_share(replace(view, inpainted=tmp_path / "small.png"))


def test_a_painted_picture_that_still_shows_the_object_is_not_used(built):
    scene = load_scene(built, "train", SCENE)
    uid = next(iter(scene.objects))
    views = [replace(scene.objects[uid][0], inpainted=scene.objects[uid][0].original), *scene.objects[uid][1:]]
    spoilt = replace(scene, objects={**scene.objects, uid: views})
    kept, lost = without_unseen_changes(spoilt, 0.3)
    assert lost >= 1 and kept.objects[uid][0].inpainted is None
    assert [len(found) for found in kept.objects.values()] == [len(found) for found in scene.objects.values()]
    assert without_unseen_changes(spoilt, 0.0) == (spoilt, 0)
