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
    training_sample,
)
from offline.data_engine.formats.refspatial import find_lists, read_list, write_tree
from offline.data_engine.formats.scene_grounding import scene_records
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
        ("Where?", '{"current_bbox": [[0.1, 0.2], [0.3, 0.4]]}', Kind.BOX, ((0.1, 0.2), (0.3, 0.4))),
        ("Where?", '{"contact_point": [[0.1, 0.2], [0.3, 0.1]]}', Kind.POINT, ((0.1, 0.2), (0.3, 0.1))),
        ("Where?", '{"future_traj": [[0.1, 0.2], [0.3, 0.4]]}', Kind.TRAJECTORY, ((0.1, 0.2), (0.3, 0.4))),
        ("box of the gripper", "[0.1, 0.2, 0.3, 0.4]", Kind.BOX, ((0.1, 0.2), (0.3, 0.4))),
    ],
)
def test_answers_are_read_as_what_they_are(tmp_path, question, answer, kind, coordinates):
    write_json(tmp_path / "r.json", [entry(question, answer)])
    (record,) = read_grounding(tmp_path / "r.json").records
    assert (record.kind, record.coordinates, record.question) == (kind, coordinates, question)
    assert record.images == ("a/b.jpg",) and record.choice == ("B" if kind is Kind.CHOICE else None)


def test_pixel_coordinates_are_refused_not_rescaled(tmp_path):
    write_json(tmp_path / "r.json", [entry("box", "[[72, 102], [192, 179]]")])
    with pytest.raises(ValueError, match=r"r\.json\[0\].*pixel coordinates"):
        read_grounding(tmp_path / "r.json")


@pytest.mark.parametrize(
    ("task", "answer", "kind"),
    [
        ("contact_box", "[[0.1, 0.2], [0.3, 0.4]]", Kind.BOX),
        ("current_box_qa", "[[0.1, 0.2], [0.3, 0.4]]", Kind.BOX),
        ("final_box", "[[0.1, 0.2], [0.3, 0.4]]", Kind.BOX),
        ("gripper_det", "[[0.1, 0.2], [0.3, 0.4]]", Kind.BOX),
        ("contact_point", "[[0.3, 0.2], [0.1, 0.4]]", Kind.POINT),
        ("traj_init_point_qa", "[[0.1, 0.2], [0.3, 0.4]]", Kind.TRAJECTORY),
        ("contact_decide", "Yes", Kind.CHOICE),
        ("grasppose_choice", "C", Kind.CHOICE),
        ("traj_choice", "B. to the left", Kind.CHOICE),
        ("task_planning", "pick up the cup", Kind.TEXT),
        ("contact_obj_final_box", '{"contact_point": [[0.1, 0.2]], "final_bbox": [[0, 0], [1, 1]]}', Kind.SEVERAL),
    ],
)
def test_published_tasks_are_kept_by_the_record_or_its_file(tmp_path, task, answer, kind):
    write_json(tmp_path / "r.json", [entry("Where?", answer, task=task, h=180, w=320)])
    write_json(tmp_path / f"droid_{task}.json", [entry("Where?", answer)])
    (stated,) = read_grounding(tmp_path / "r.json").records
    (by_file,) = read_grounding(tmp_path / f"droid_{task}.json").records
    assert (stated.kind, stated.task, stated.size, stated.text) == (kind, task, (320, 180), answer)
    assert (by_file.kind, by_file.task, by_file.size) == (kind, "", None)
    write_json(tmp_path / "ours.json", [training_sample(stated, tmp_path)])
    (back,) = read_grounding(tmp_path / "ours.json").records
    assert (back.kind, back.task, back.size, back.text) == (kind, task, (320, 180), answer)


def test_one_bad_record_costs_no_other(tmp_path, capsys):
    bad = [
        entry("box", "[[0.1, 0.2], [1.003, 0.4]]", task="current_box"),
        entry("box", "[[0.5, 0.2], [0.3, 0.4]]", task="current_box"),
        entry("box", "nothing", task="current_box"),
        {"id": "no conversation"},
        entry("box", 7),
        "text",
    ]
    good = [entry("box", "[[0.1, 0.2], [0.3, 0.4]]", task="current_box")]
    write_json(tmp_path / "r.json", bad + good)
    found = read_grounding(tmp_path / "r.json")
    assert [len(found.records), len(found.left_out)] == [1, len(bad)]
    command = ["convert", "from-grounding", "--source", str(tmp_path / "r.json"), "--target", str(tmp_path / "t.json")]
    assert main(command) == 1
    said = capsys.readouterr().err
    assert "6 records left out" in said and all(f"r.json[{n}]" in said for n in range(len(bad))) and "1.003" in said
    assert read_json(tmp_path / "t.json")[0]["task"] == "current_box"


def test_several_turns_are_several_records(tmp_path):
    sample = entry("point", "[[0.1, 0.1]]")
    sample["conversations"] += [{"from": "human", "value": "and?"}, {"from": "gpt", "value": "A"}]
    write_json(tmp_path / "r.json", [sample])
    assert [r.kind for r in read_grounding(tmp_path / "r.json").records] == [Kind.POINT, Kind.CHOICE]


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
