"""Samples made from a built tree, checked against the tree's own masks and facts."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from roboref_core.prompting.answer_text import NOT_VISIBLE, parse
from roboref_core.prompting.reasoning import INSTRUCTION, Perception, parse_reasoning
from roboref_core.prompting.side_by_side import SideBySide

from offline.data_engine.checking.validate import check_sample
from offline.data_engine.config import TaskConfig
from offline.data_engine.task_build import build_tasks, choose_donors, load_scene
from offline.data_engine.task_files import answer_points, pictures_of
from offline.data_engine.tasks.kinds import TASKS
from offline.data_engine.tasks.pairs import REASONS, TIERS, PairConfig, pairs_of
from offline.files import read_mask, read_picture

SCENE = "scene0000_00"
_TASKS_OF_PAIRS = [task for task, forms in TASKS.items() if "multi" in forms]
"""The others are made of phrases, which a tree without facts does not have."""


@pytest.fixture(scope="module")
def samples(built, tmp_path_factory):
    out = tmp_path_factory.mktemp("tasks")
    summary = build_tasks(built, out, "train", SCENE, [SCENE, "scene0001_00"], TaskConfig(), "hash")
    lines = (out / "records" / "train" / f"{SCENE}.jsonl").read_text().splitlines()
    assert summary["samples"] == len(lines) > 100
    return [json.loads(line) for line in lines]


def test_the_validator_finds_nothing(samples):
    assert [finding for k, sample in enumerate(samples) for finding in check_sample(sample, str(k))] == []
    assert len({sample["id"] for sample in samples}) == len(samples)


def test_every_task_form_and_grid_is_there(samples):
    kinds = Counter((s["task"], s["form"], s["grid"]) for s in samples)
    forms = {(task, form) for task, forms in TASKS.items() for form in forms}
    assert set(kinds) == {(*form, grid) for form in forms for grid in (False, True)}
    assert all(kinds[(*form, False)] == kinds[(*form, True)] for form in forms)


def test_negatives_say_why_and_are_true(samples, built):
    facts = load_scene(built, "train", SCENE).facts
    for sample in samples:
        said_no = sample["conversations"][1]["value"] == NOT_VISIBLE
        visibility = sample["visibility"]
        assert visibility["visible"] != said_no
        if not said_no or sample["task"] in ("referring", "reasoning"):
            continue
        reason = visibility["reason"]
        assert reason in REASONS and visibility["tier"] == TIERS[reason]
        if reason in ("out_of_frustum", "occluded", "same_class_elsewhere"):
            assert facts["frames"][sample["query_frame"]]["objects"][str(sample["uid"])]["certainly_hidden"]
        elif reason == "absent":
            assert visibility["query_scene"] == "scene0001_00"


def test_concat_answers_are_the_multi_answers_in_the_right_half(samples):
    multi = {s["id"].replace("t1_multi", ""): s for s in samples if s["task"] == "t1" and s["form"] == "multi"}
    compared = 0
    for sample in samples:
        if sample["form"] != "concat":
            continue
        other = multi[sample["id"].replace("t1_concat", "")]
        whole = read_picture(Path(sample["image"]))
        a, b = (read_picture(Path(p)).shape[1::-1] for p in (other["image"][0], other["query_original"]))
        assert whole.shape[1::-1] == SideBySide(a, b).size
        points = answer_points(sample["conversations"][1]["value"])
        expected = answer_points(other["conversations"][1]["value"])
        if expected:
            np.testing.assert_allclose(SideBySide(a, b).whole_to_right(points), expected, atol=2.1e-3)
            assert points[0][0] > a[0] / (a[0] + b[0])
            compared += 1
    assert compared > 10


def test_depth_pictures_stand_beside_every_picture(samples):
    for sample in samples[:: max(1, len(samples) // 60)]:
        for picture, depth in zip(pictures_of(sample), pictures_of(sample, "depth"), strict=True):
            assert read_picture(Path(picture)).shape == read_picture(Path(depth)).shape


def test_referring_points_lie_on_the_masks_they_name(samples):
    multi_point = 0
    for sample in samples:
        if sample["task"] == "referring" and sample["mask"]:
            mask = read_mask(Path(sample["mask"]))
            points = answer_points(sample["conversations"][1]["value"])
            multi_point += len(points) > 1
            for x, y in points:
                assert mask[int(y * mask.shape[0]), int(x * mask.shape[1])]
    assert multi_point > 0


def test_reasoning_leads_to_its_answer(samples):
    """The same question asked twice: for the point, and for the steps, whose points lie where their things are."""
    plain = {s["id"].replace("_single", ""): s for s in samples if s["task"] == "reasoning" and s["form"] == "single"}
    asked = [sample for sample in samples if sample["task"] == "reasoning" and sample["form"] == "steps"]
    assert len(asked) == len(plain) > 0
    for sample in asked:
        other = plain[sample["id"].replace("_steps", "")]
        question, answer = (turn["value"] for turn in sample["conversations"])
        assert question == f"{other['conversations'][0]['value']} {INSTRUCTION}"
        read = parse_reasoning(answer)
        assert not read.malformed and read.answer == parse(other["conversations"][1]["value"])
        positions = [step for step in read.steps if step.perception is Perception.POSITION]
        free = sample["relation"].startswith("free")
        assert sample["step_count"] == len(positions) + free and 2 <= sample["step_count"] <= 5
        if not free:
            assert positions[-1].point == read.answer.points[0]
        assert [step.name for step in read.steps] == [facts["name"] for facts in sample["steps"]]


def test_the_mix_is_configurable(built):
    scene = load_scene(built, "train", SCENE)
    donors = [load_scene(built, "train", "scene0001_00")]
    only = pairs_of(scene, donors, PairConfig(mix={"inpainted": 1.0}, negatives=0.5), 0)
    assert {pair.reason for pair in only} == {"", "inpainted"}
    assert sum(p.reason != "" for p in only) <= 0.5 * sum(p.reason == "" for p in only) + len(scene.objects)
    easy = pairs_of(scene, donors, PairConfig(tiers="A"), 0)
    assert {TIERS[p.reason] for p in easy if p.reason} == {"A"}
    assert not any(p.reason for p in pairs_of(scene, donors, PairConfig(negatives=0.0), 0))
    with pytest.raises(ValueError, match="mix takes weights"):
        PairConfig(mix={"bored": 1.0})


def test_an_inpainted_negative_is_not_asked_about_the_view_it_was_made_from(built):
    scene = load_scene(built, "train", SCENE)
    for pair in pairs_of(scene, [], PairConfig(mix={"inpainted": 1.0}), 0):
        if pair.reason == "inpainted":
            assert pair.reference.frame_id != pair.query_frame


def test_donors_are_other_places():
    names = ["scene0000_00", "scene0000_01", "scene0002_00", "scene0003_00"]
    assert set(choose_donors("scene0000_00", names, 9, 0)) == {"scene0002_00", "scene0003_00"}
    assert choose_donors("scene0000_00", names, 1, 0) == choose_donors("scene0000_00", names[::-1], 1, 0)


def test_a_foreign_tree_without_facts_gives_what_it_can(built, tmp_path):
    tree = tmp_path / "foreign"
    ours_only = shutil.ignore_patterns("scene.json", "frames")
    shutil.copytree(built / "train" / SCENE, tree / "train" / SCENE, ignore=ours_only)
    summary = build_tasks(tree, tmp_path / "tasks", "train", SCENE, [SCENE], TaskConfig(), "hash")
    assert set(summary["counts"]["task"]) == {
        f"{task}_{form}{grid}" for task in _TASKS_OF_PAIRS for form in TASKS[task] for grid in ("", "_grid")
    }
    reasons = {key.split(":")[1] for key in summary["counts"]["reason"]}
    assert reasons == {"visible", "inpainted"}
