"""Trees that another program made, with every fault that was met: one bad view costs that view."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from offline.data_engine.cli import main
from offline.data_engine.five_frames import ViewPictures, write_entries, write_view
from offline.data_engine.sealed_folder import Draft
from offline.data_engine.task_files import answer_points
from offline.data_engine.tree_survey import fingerprint, survey_scene, write_survey
from offline.files import encode_png, read_json, read_mask, write_json

SCENE, UID, W, H = "f3d64c30f8", 129, 96, 72
JSON = f"{SCENE}_uid_{UID}_five_frames.json"


def make_scene(tree: Path, split: str, scene: str, uid: int, frames=(8710, 4130, 120)) -> None:
    rng = np.random.default_rng(uid)
    draft, entries = Draft(tree / split / scene), []
    for number, frame in enumerate(frames, start=1):
        picture = np.full((H, W, 3), rng.integers(60, 200, 3), np.uint8)
        mask = np.zeros((H, W), bool)
        mask[20 + number : 45, 30 : 60 + 3 * number] = True
        shown = picture.copy()
        shown[mask] = (220, 40, 30)
        entries.append(
            write_view(
                draft,
                scene,
                uid,
                "bag",
                number,
                ViewPictures(frame, encode_png(shown), picture, mask, mask, None, None),
            )
        )
    write_entries(draft, scene, uid, entries)


@pytest.fixture
def tree(tmp_path):
    for split, scene, uid in (("train", SCENE, UID), ("train", "0a7cc12c0e", 7), ("validation", "1ada7a0617", 5)):
        make_scene(tmp_path / "x3", split, scene, uid)
    return tmp_path / "x3"


def change_json(folder: Path, change) -> None:
    entries = read_json(folder / JSON)
    for entry in entries:
        change(entry)
    write_json(folder / JSON, entries)


def build(tree: Path, out: Path) -> list[dict]:
    assert main(["tasks", "--tree", str(tree), "--out", str(out)]) == 0
    return [sample for path in sorted((out / "tasks").glob("*_multi.json")) for sample in json.loads(path.read_text())]


def on_their_masks(samples: list[dict]) -> list[bool]:
    found = []
    for sample in samples:
        for x, y in answer_points(sample["conversations"][1]["value"]):
            mask = read_mask(Path(sample["mask"]))
            found.append(bool(mask[int(y * mask.shape[0]), int(x * mask.shape[1])]))
    return found


def test_sizes_are_the_pictures_whatever_the_json_says(tree, tmp_path, capsys):
    folder = tree / "train" / SCENE / f"uid_{UID}"

    def as_before_shrinking(entry):
        entry.update({key: entry[key] * 3 for key in ("img_w", "img_h", "x0", "y0", "x1", "y1")})
        entry["original"] = f"/elsewhere/{entry['original']}"

    change_json(folder, as_before_shrinking)
    hits = on_their_masks(build(tree, tmp_path / "out"))
    assert len(hits) > 20 and all(hits)
    assert read_json(tmp_path / "out/manifest.json")["defects"] == {"json_size_differs": 3}
    assert "JSON states another size" in capsys.readouterr().out


def test_a_repaired_tree_is_built_again(tree, tmp_path):
    folder, out = tree / "train" / SCENE / f"uid_{UID}", tmp_path / "out"
    before = build(tree, out)
    records = out / f"tasks/records/train/{SCENE}.jsonl"
    stamp = records.stat().st_mtime_ns
    assert build(tree, out) == before and records.stat().st_mtime_ns == stamp
    seen = fingerprint(tree, "train", SCENE)
    mask = cv2.imread(str(folder / "02_004130_mask.png"), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(folder / "02_004130_mask.png"), np.roll(mask, 9, axis=1))
    assert fingerprint(tree, "train", SCENE) != seen
    after = build(tree, out)
    assert after != before and all(on_their_masks(after))


def blank(path: Path) -> None:
    cv2.imwrite(str(path), np.zeros((H, W), np.uint8))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def enlarge(path: Path) -> None:
    cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (3 * W, 3 * H)))


@pytest.mark.parametrize(
    ("name", "spoil", "reason"),
    [
        ("02_004130_mask.png", Path.unlink, "no mask"),
        ("02_004130_mask.png", blank, "empty"),
        ("02_004130_mask.png", enlarge, "288x216, expected its picture's 96x72"),
        ("02_004130_original.png", cut, "not a picture"),
        ("02_004130_original.png", Path.unlink, "missing"),
        ("02_004130_original.png", lambda path: path.write_bytes(b""), "not a picture"),
    ],
)
def test_a_bad_view_costs_that_view_alone(tree, tmp_path, capsys, name, spoil, reason):
    spoil(tree / "train" / SCENE / f"uid_{UID}" / name)
    samples = build(tree, tmp_path / "out")
    frames = {s["query_frame"] for s in samples if s["uid"] == UID and s["scene_id"] == SCENE}
    assert {"008710", "000120"} <= frames and all(on_their_masks(samples))
    assert not any(f"{SCENE}/uid_{UID}/02_004130" in str(s["image"]) for s in samples)
    ((file, why),) = read_json(tmp_path / "out/manifest.json")["quarantined"][SCENE]
    assert file == f"uid_{UID}/{name}" and reason in why
    assert f"{SCENE}/uid_{UID}/{name}" in capsys.readouterr().out


def test_a_bad_inpainted_picture_costs_that_picture(tree, tmp_path):
    cut(tree / "train" / SCENE / f"uid_{UID}" / "02_004130_inpainted.png")
    samples = build(tree, tmp_path / "out")
    mine = [str(sample["image"]) for sample in samples]
    assert any(f"{SCENE}/uid_{UID}/02_004130_original" in images for images in mine)
    assert not any(f"{SCENE}/uid_{UID}/02_004130_inpainted" in images for images in mine)


@pytest.mark.parametrize("content", ["", "{", "null", '{"frames": []}', "[" * 100_000, "\udcff"])
def test_a_bad_json_costs_the_label_alone(tree, content):
    path = tree / "train" / SCENE / f"uid_{UID}" / JSON
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    survey = survey_scene(tree, "train", SCENE)
    assert survey.count == 3 and survey.defects["no_label"] == 3
    assert list(survey.quarantined) == [f"uid_{UID}/{JSON}"]


@pytest.mark.parametrize("field", ["img_w", "label", "scene_id", "uid", "frame_id", "inpainted", "mask", "x0"])
def test_null_fields_are_taken_from_the_files(tree, field):
    change_json(tree / "train" / SCENE / f"uid_{UID}", lambda entry: entry.update({field: None}))
    survey = survey_scene(tree, "train", SCENE)
    assert survey.count == 3 and survey.quarantined == {}


def test_a_scene_with_one_view_left_fails_by_name_and_its_neighbours_live(tree, tmp_path, capsys):
    folder = tree / "train" / SCENE / f"uid_{UID}"
    for name in ("01_008710_mask.png", "02_004130_mask.png"):
        (folder / name).unlink()
    assert main(["tasks", "--tree", str(tree), "--out", str(tmp_path / "out")]) == 1
    errors = capsys.readouterr().err
    assert "1 usable views, expected at least 2" in errors and "01_008710_mask.png" in errors
    manifest = read_json(tmp_path / "out/manifest.json")
    assert list(manifest["failed"]) == [SCENE] and manifest["scenes"]["train"] == ["0a7cc12c0e"]
    with pytest.raises(ValueError, match="1 usable views"):
        write_survey(tmp_path / "s.json", tree, "train", SCENE)


def test_folders_that_are_not_read_are_named(tree, tmp_path, capsys):
    shutil.move(tree / "validation", tree / "val")
    build(tree, tmp_path / "out")
    assert "val: not read, splits are called train and validation" in capsys.readouterr().err
