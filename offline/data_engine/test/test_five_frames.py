from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from offline.data_engine.five_frames import (
    ViewPictures,
    depth_path,
    mask_box,
    objects,
    read_object,
    scenes,
    write_entries,
    write_view,
)
from offline.data_engine.sealed_folder import Draft
from offline.data_engine.shrink import shrink_tree
from offline.files import encode_png, read_json, read_mask, read_picture, write_json

SCENE, UID = "scene0000_00", 12


@pytest.fixture
def tree(tmp_path):
    rng = np.random.default_rng(3)
    draft = Draft(tmp_path / "train" / SCENE)
    entries = []
    for number, frame in enumerate((8710, 30, 4130), start=1):
        mask = np.zeros((60, 91), dtype=bool)
        mask[10:30, 20 + number : 50] = True
        picture = rng.integers(0, 256, (60, 91, 3), dtype=np.uint8)
        png = encode_png(picture)
        view = ViewPictures(frame, png, picture // 2, mask, mask, png, None)
        entries.append(write_view(draft, SCENE, UID, "bag", number, view))
    write_entries(draft, SCENE, UID, entries)
    return tmp_path


def test_written_as_the_published_layout(tree):
    folder = tree / "train" / SCENE / f"uid_{UID}"
    names = {path.name for path in folder.iterdir()}
    assert {
        "01_008710_original.png",
        "01_008710_inpainted.png",
        "01_008710_mask.png",
        "01_008710_mask_dialated.png",
        "01_008710_original_depth.png",
        f"{SCENE}_uid_{UID}_five_frames.json",
    } <= names
    entry = read_json(folder / f"{SCENE}_uid_{UID}_five_frames.json")[0]
    published = "scene_id uid frame_id label img_w img_h x0 y0 x1 y1 cx_norm cy_norm original inpainted mask"
    assert list(entry) == sorted(published.split())
    assert (entry["frame_id"], entry["img_w"], entry["img_h"]) == ("008710", 91, 60)
    mask = read_mask(folder / entry["mask"])
    assert (entry["x0"], entry["y0"], entry["x1"], entry["y1"]) == mask_box(mask) == (21, 10, 49, 29)


def test_read_back(tree):
    assert scenes(tree, "train") == [SCENE] and objects(tree, "train", SCENE) == [UID]
    views = read_object(tree, "train", SCENE, UID)
    assert [v.frame_id for v in views] == ["008710", "000030", "004130"]
    assert views[1].view == 2 and views[1].size == (91, 60) and views[1].label == "bag"
    assert views[0].mask_dilated.name == "01_008710_mask_dialated.png"
    assert read_picture(views[0].inpainted).shape == (60, 91, 3)


def test_foreign_trees_are_read(tree, tmp_path):
    """Absolute paths of another machine, the other spelling, missing JSON."""
    folder = tree / "train" / SCENE / f"uid_{UID}"
    path = folder / f"{SCENE}_uid_{UID}_five_frames.json"
    entries = read_json(path)
    for entry in entries:
        for key in ("original", "inpainted", "mask"):
            entry[key] = f"/elsewhere/{SCENE}/{entry[key]}"
    write_json(path, entries)
    (folder / "01_008710_mask_dialated.png").rename(folder / "01_008710_mask_dilated.png")
    views = read_object(tree, "train", SCENE, UID)
    assert views[0].original.parent == folder and views[0].mask_dilated.name.endswith("mask_dilated.png")
    path.unlink()
    again = read_object(tree, "train", SCENE, UID)
    assert {v.original for v in again} == {v.original for v in views} and again[0].size == (91, 60)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda e: e[0].pop("original"), "no text 'original'"),
        (lambda e: e[0].update(original="nowhere.png"), r"nowhere\.png is missing"),
        (lambda e: e[0].update(uid=99), "uid 99"),
    ],
)
def test_broken_entries_are_refused_by_name(tree, change, match):
    path = tree / "train" / SCENE / f"uid_{UID}" / f"{SCENE}_uid_{UID}_five_frames.json"
    entries = read_json(path)
    change(entries)
    write_json(path, entries)
    with pytest.raises(ValueError, match=match):
        read_object(tree, "train", SCENE, UID)
    path.write_text(json.dumps({"not": "a list"}))
    with pytest.raises(ValueError, match="expected a list"):
        read_object(tree, "train", SCENE, UID)


def test_x3_is_the_same_tree_smaller(tree, tmp_path):
    target = tmp_path / "x3"
    assert shrink_tree(tree, target) == (1, {})
    big, small = (read_object(root, "train", SCENE, UID) for root in (tree, target))
    for a, b in zip(big, small, strict=True):
        assert b.size == (30, 20) and b.original.name == a.original.name
        mask = read_mask(b.mask)
        # Nearest neighbour of pixel centres: the middle pixel of each 3 x 3 block.
        assert (mask != read_mask(a.mask)[1::3, 1::3][:20, :30]).mean() < 0.02
        mean = read_picture(a.original)[:60, :90].reshape(20, 3, 30, 3, 3).mean(axis=(1, 3))
        assert np.abs(read_picture(b.original) - mean).mean() < 12
        assert depth_path(b.original).exists()
    before = sorted(path.stat().st_mtime_ns for path in target.rglob("*.*") if path.name[0] != ".")
    shrink_tree(tree, target)
    assert sorted(path.stat().st_mtime_ns for path in target.rglob("*.*") if path.name[0] != ".") == before
    with pytest.raises(ValueError, match="shrunk by 3, now 2"):
        shrink_tree(tree, target, 2)
    (target / "train" / SCENE / f"uid_{UID}" / "01_008710_mask.png").unlink()
    assert shrink_tree(tree, target) == (1, {}) and len(read_object(target, "train", SCENE, UID)) == 3
    shutil.rmtree(target)


def test_an_empty_mask_has_no_box():
    with pytest.raises(ValueError, match="empty"):
        mask_box(np.zeros((3, 3), dtype=bool))
