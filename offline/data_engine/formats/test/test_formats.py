"""Records of other programs: manipulation grounding and RefSpatial."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline.data_engine.cli import main
from offline.data_engine.config import TaskConfig
from offline.data_engine.five_frames import mask_box
from offline.data_engine.formats.manipulation import (
    GroundingRecord,
    Kind,
    coordinates_text,
    read_grounding,
    scene_records,
)
from offline.data_engine.formats.refspatial import find_lists, read_list, write_tree
from offline.data_engine.task_build import build_tasks, load_scene
from offline.data_engine.task_files import read_samples
from offline.data_engine.tasks.expressions import could_be_meant
from offline.files import read_json, read_mask, write_json


def entry(question, answer, **fields):
    turns = [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}]
    return {"id": "r", "images": ["a/b.jpg"], "conversations": turns} | fields


@pytest.mark.parametrize(
    ("question", "answer", "kind", "coordinates"),
    [
        ("bounding box of the cup", "[[0.1, 0.2], [0.3, 0.4]]", Kind.BOX, ((0.1, 0.2), (0.3, 0.4))),
        ("contact point", "The point is [[0.5, 0.25]].", Kind.POINT, ((0.5, 0.25),)),
        ("trajectory of the box", "[[0.1, 0.2], [0.3, 0.4]]", Kind.TRAJECTORY, ((0.1, 0.2), (0.3, 0.4))),
        ("path", "[[0,0],[0.5,0.5],[1,1]]", Kind.TRAJECTORY, ((0, 0), (0.5, 0.5), (1, 1))),
        ("Which? A. cup B. box", "B", Kind.CHOICE, ()),
        ("Is it grasped?", "Yes, it is.", Kind.TEXT, ()),
    ],
)
def test_answers_are_read_as_what_they_are(tmp_path, question, answer, kind, coordinates):
    write_json(tmp_path / "r.json", [entry(question, answer)])
    (record,) = read_grounding(tmp_path / "r.json")
    assert (record.kind, record.coordinates, record.question) == (kind, coordinates, question)
    assert record.images == ("a/b.jpg",) and record.choice == ("B" if kind is Kind.CHOICE else None)


def test_pixel_coordinates_are_refused_not_rescaled(tmp_path):
    write_json(tmp_path / "r.json", [entry("box", "[[72, 102], [192, 179]]")])
    with pytest.raises(ValueError, match=r"r\.json\[0\].*pixel coordinates"):
        list(read_grounding(tmp_path / "r.json"))


def test_several_turns_are_several_records(tmp_path):
    sample = entry("point", "[[0.1, 0.1]]")
    sample["conversations"] += [{"from": "human", "value": "and?"}, {"from": "gpt", "value": "A"}]
    write_json(tmp_path / "r.json", [sample])
    assert [r.kind for r in read_grounding(tmp_path / "r.json")] == [Kind.POINT, Kind.CHOICE]


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=9))
def test_coordinates_survive_writing(points):
    record = GroundingRecord("r", ("a.png",), "path", Kind.TRAJECTORY, tuple(points), coordinates_text(points))
    read_back = np.array(json.loads(record.text))
    np.testing.assert_allclose(read_back, points, atol=5.1e-4)


def test_a_box_needs_two_corners():
    with pytest.raises(ValueError, match="box has 2 to 2"):
        GroundingRecord("r", (), "", Kind.BOX, ((0.1, 0.1),), "")


def test_records_of_a_scene_agree_with_its_masks(built, tmp_path):
    scene = load_scene(built, "train", "scene0000_00")
    records = {record.record_id: record for record in scene_records(scene, built, 0)}
    checked = 0
    for uid, views in scene.objects.items():
        for view in views:
            mask = read_mask(view.mask)
            h, w = mask.shape
            stem = f"scene0000_00_{uid}_{view.view:02d}"
            if f"{stem}_box" not in records:
                # "The chair" is never asked of two.
                seen = scene.facts["frames"][view.frame_id]["objects"]
                shown = [
                    scene.facts["objects"][other]["label"] for other, o in seen.items() if not o["certainly_hidden"]
                ]
                assert sum(could_be_meant(view.label, other) for other in shown) > 1
                continue
            u0, v0, u1, v1 = mask_box(mask)
            corners = np.array(records[f"{stem}_box"].coordinates) * (w, h)
            np.testing.assert_allclose(corners, ((u0, v0), (u1 + 1, v1 + 1)), atol=1e-9)
            x, y = records[f"{stem}_point"].coordinates[0]
            assert mask[int(y * h), int(x * w)]
            choice = records[f"{stem}_choice"]
            assert f"{choice.choice}. {view.label}" in choice.question
            checked += 1
    assert checked > 5
    target = tmp_path / "records.json"
    assert main(["convert", "to-grounding", "--source", str(built), "--target", str(target)]) == 0
    back = tmp_path / "training.json"
    command = ["convert", "from-grounding", "--source", str(target), "--target", str(back), "--image-root", str(built)]
    assert main(command) == 0
    assert main(["validate", str(back)]) == 0 and main(["validate", str(target), "--image-root", str(built)]) == 0


def test_refspatial_trees_round_trip(built, tmp_path):
    build_tasks(built, tmp_path / "tasks", "train", "scene0000_00", ["scene0000_00"], TaskConfig(), "h")
    ours = {s["id"]: s for _, s in read_samples(tmp_path / "tasks/records/train/scene0000_00.jsonl")}
    counts = write_tree(tmp_path / "RefSpatial", ours.values())
    assert set(counts) == {"3D/multi_view_qa", "3D/reasoning_template_qa", "3D/vacant_qa"}
    total = 0
    for found in find_lists(tmp_path / "RefSpatial"):
        for sample in read_list(found):
            original = ours[sample["id"]]
            assert sample["conversations"] == original["conversations"]
            assert ("multi" in original["form"]) == isinstance(sample["image"], list)
            total += 1
        written = read_json(found.json)
        assert all(s["conversations"][0]["value"].startswith("<image>\n") for s in written)
    assert total == sum(counts.values())
    (tmp_path / "RefSpatial/3D/image").rename(tmp_path / "RefSpatial/3D/moved")
    with pytest.raises(ValueError, match="is missing"):
        [list(read_list(found)) for found in find_lists(tmp_path / "RefSpatial")]
    with pytest.raises(ValueError, match="no RefSpatial list"):
        find_lists(tmp_path / "nowhere")
