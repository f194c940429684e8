"""The small form of our own trees gives the tasks of the large one."""

from __future__ import annotations

import json
from collections import Counter

from offline.data_engine.config import TaskConfig
from offline.data_engine.shrink import shrink_tree
from offline.data_engine.task_build import build_tasks
from offline.data_engine.test.test_tree_survey import on_their_masks
from offline.files import picture_size, read_json

SCENES = ["scene0000_00", "scene0001_00"]


def samples_of(tree, out) -> list[dict]:
    build_tasks(tree, out, "train", SCENES[0], SCENES, TaskConfig(), "hash")
    return [json.loads(line) for line in (out / "records/train" / f"{SCENES[0]}.jsonl").read_text().splitlines()]


def test_facts_frames_negatives_and_phrases_are_kept(built, tmp_path):
    count, broken = shrink_tree(built, tmp_path / "x2", 2)
    assert count > 5 and broken == {}
    small, large = (read_json(root / "train" / SCENES[0] / "scene.json") for root in (tmp_path / "x2", built))
    assert small["size"] == [n // 2 for n in large["size"]] and set(small["frames"]) == set(large["frames"])
    for facts in small["frames"].values():
        assert picture_size(tmp_path / "x2/train" / SCENES[0] / facts["picture"]) == tuple(small["size"])
    before, after = samples_of(built, tmp_path / "a"), samples_of(tmp_path / "x2", tmp_path / "b")

    def kinds(samples) -> Counter:
        return Counter((s["task"], s["form"], s["grid"], s["visibility"].get("reason", "")) for s in samples)

    assert {key[3] for key in kinds(after)} == {key[3] for key in kinds(before)}
    assert sum(kinds(after).values()) >= 0.9 * sum(kinds(before).values())
    referring = [sum(s["task"] == "referring" for s in samples) for samples in (after, before)]
    assert referring[0] >= 0.8 * referring[1] > 0
    assert all(on_their_masks([s for s in after if s["form"] != "concat"]))
