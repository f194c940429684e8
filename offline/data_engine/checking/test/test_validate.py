from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from offline.data_engine.checking.validate import NOT_CHECKED, check_sample, faults, summarise, validate_files
from offline.files import write_json, write_picture

SIZE = (60, 80)


@pytest.fixture
def sample(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a.png", "01_000010_original.png", "a_depth.png", "b_depth.png"):
        write_picture(tmp_path / name, rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
    mask = np.zeros(SIZE, np.uint8)
    mask[10:30, 20:40] = 255
    write_picture(tmp_path / "01_000010_mask.png", mask)
    return {
        "id": "t1_0",
        "image": ["a.png", "01_000010_original.png"],
        "depth": ["a_depth.png", "b_depth.png"],
        "conversations": [{"from": "human", "value": "where"}, {"from": "gpt", "value": "[(0.375, 0.333)]"}],
        "task": "t1",
        "form": "multi",
        "scene_id": "scene0000_00",
        "query_original": "01_000010_original.png",
        "mask": "01_000010_mask.png",
        "visibility": {"visible": True},
    }


def kinds(sample, root) -> set[str]:
    return {finding.kind for finding in check_sample(sample, "x", root)}


def said(text):
    return lambda s: s["conversations"][1].update(value=text)


def test_a_good_sample_passes(sample, tmp_path):
    assert kinds(sample, tmp_path) == set()
    # As other programs write it: no form, no mask named, no visibility.
    for key in ("form", "mask", "visibility"):
        del sample[key]
    assert kinds(sample, tmp_path) == set()


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda s: s["conversations"][0].update(value="<image>\nwhere"), "placeholder_in_text"),
        (lambda s: s.update(image=["01_000010_original.png"], depth=["b_depth.png"]), "image_count"),
        (lambda s: s.update(image=["a.png", "gone.png"]), "bad_image"),
        (lambda s: s.update(depth=["a_depth.png"]), "depth_count"),
        (lambda s: s.update(depth=["a_depth.png", "01_000010_mask.png"]), "depth_channels"),
        (lambda s: s.update(mask="a.txt"), "bad_mask"),
        (said("[(0.9, 0.9)]"), "point_off_mask"),
        (said("over there"), "unparsable_answer"),
        (said("[(30, 20)]"), "coordinates"),
        (said("NOT_VISIBLE"), "visibility_contradicts"),
        (lambda s: (said("NOT_VISIBLE")(s), s.update(visibility={"visible": False})), "no_reason"),
        (lambda s: (said("NOT_VISIBLE")(s), s.update(visibility={})), "mask_of_negative"),
        (lambda s: s.pop("conversations"), "malformed_conversation"),
        (lambda s: s["conversations"].reverse(), "malformed_conversation"),
    ],
)
def test_every_defect_has_a_name(sample, tmp_path, change, kind):
    change(sample)
    assert kind in kinds(sample, tmp_path)


def test_sizes_must_match(sample, tmp_path):
    write_picture(tmp_path / "b_depth.png", np.zeros((30, 40, 3), np.uint8))
    assert "depth_size" in kinds(sample, tmp_path)
    write_picture(tmp_path / "01_000010_mask2.png", np.full((30, 40), 255, np.uint8))
    sample["mask"] = "01_000010_mask2.png"
    assert "mask_size" in kinds(sample, tmp_path)


def test_concat_points_are_checked_in_the_right_half(sample, tmp_path):
    write_picture(tmp_path / "whole.png", np.zeros((SIZE[0], 2 * SIZE[1], 3), np.uint8))
    sample.update(image="whole.png", form="concat")
    del sample["depth"]
    said("[(0.688, 0.333)]")(sample)
    assert kinds(sample, tmp_path) == set()
    said("[(0.188, 0.333)]")(sample)  # the same place in the left half
    assert kinds(sample, tmp_path) == {"point_off_mask"}


def test_duplicates_and_leakage_between_files(sample, tmp_path):
    other = copy.deepcopy(sample) | {"scene_id": "scene0000_01"}
    write_json(tmp_path / "t1_train_multi.json", [sample])
    write_json(tmp_path / "t1_val_multi.json", [other])
    found = validate_files([tmp_path / "t1_train_multi.json", tmp_path / "t1_val_multi.json"], tmp_path)
    assert {f.kind for f in found} == {"duplicate_id", "split_leakage"}
    assert "scene0000" in summarise(found, 5)


def test_foreign_records_need_one_placeholder_per_picture(tmp_path, sample):
    record = {
        "id": 1,
        "images": ["a.png"],
        "conversations": [{"from": "human", "value": "<image>\nbox?"}, {"from": "gpt", "value": "[[0.1, 0.2]]"}],
    }
    path = tmp_path / "records.jsonl"
    path.write_text(json.dumps(record) + "\n")
    assert faults(validate_files([path], tmp_path)) == []
    record["conversations"][0]["value"] = "<image><image>box?"
    path.write_text(json.dumps(record) + "\n")
    assert [f.kind for f in faults(validate_files([path], tmp_path))] == ["placeholder_count"]


def test_files_that_name_no_task_are_judged_by_their_answers(sample, tmp_path):
    for key in ("task", "form", "visibility"):
        del sample[key]
    assert kinds(sample, tmp_path) == set()
    said("[(0.9, 0.9)]")(sample)
    assert kinds(sample, tmp_path) == {"point_off_mask"}
    said("[[12, 30], [55, 48]]")(sample)
    assert kinds(sample, tmp_path) == {"coordinates"}
    said("[(0.5, 0.5)]")(sample)
    del sample["mask"]
    (tmp_path / "01_000010_mask.png").unlink()
    assert kinds(sample, tmp_path) == {NOT_CHECKED}
    path = tmp_path / "foreign.json"
    write_json(path, [sample])
    found = validate_files([path], tmp_path)
    assert faults(found) == [] and "not checked: 1 samples" in summarise(found, 5)


def test_boxes_and_trajectories_in_pixels_are_found(sample, tmp_path):
    sample["task"] = "grounding_box"
    said("[[120, 300], [550, 480]]")(sample)
    assert kinds(sample, tmp_path) == {"coordinates"}
    said("[[0.1, 0.2], [1.003, 0.5]]")(sample)
    assert kinds(sample, tmp_path) == {NOT_CHECKED}


def test_what_is_no_list_is_refused(tmp_path):
    write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(ValueError, match="expected a list"):
        validate_files([tmp_path / "x.json"])


@pytest.mark.parametrize("answer", ["412 220 530 400", "512.5, 300", '<point x="51.2" y="20.1" alt="cup">cup</point>'])
def test_coordinates_without_brackets_are_found(sample, tmp_path, answer):
    foreign = {
        "image": sample["image"],
        "conversations": [sample["conversations"][0], {"from": "gpt", "value": answer}],
    }
    assert [finding.kind for finding in check_sample(foreign, "x", tmp_path)] == ["coordinates"]


def test_answers_in_words_are_said_not_to_be_checked(sample, tmp_path):
    foreign = {"image": sample["image"], "conversations": [sample["conversations"][0], {"from": "gpt", "value": "two"}]}
    found = list(check_sample(foreign, "x", tmp_path))
    assert [finding.kind for finding in found] == ["not_checked"] and "is text" in found[0].detail
