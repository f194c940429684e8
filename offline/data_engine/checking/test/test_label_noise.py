from __future__ import annotations

import numpy as np
import pytest

from offline.data_engine.building.scene_build import SceneBuilder
from offline.data_engine.checking.label_noise import Truth, fault_of, label_noise
from offline.data_engine.config import SceneConfig, TaskConfig
from offline.data_engine.filters import FilterConfig
from offline.data_engine.sources import open_scene
from offline.data_engine.task_build import build_tasks
from offline.files import write_picture

IDS = np.zeros((40, 60), np.int32)
IDS[5:15, 5:15], IDS[5:15, 40:50] = 1, 2


class Drawn(Truth):
    """Two cups; object 3, a box, is not to be seen."""

    def __init__(self):
        self.labels = {1: "cup", 2: "cup", 3: "box"}

    def ids(self, frame: int) -> np.ndarray:
        return IDS


def sample(tmp_path, answer, uid=1, mask=None, **fields) -> dict:
    write_picture(tmp_path / "mask.png", (255 * (IDS == 1 if mask is None else mask)).astype(np.uint8))
    return {
        "task": "t1", "uid": uid, "query_frame": "000010", "mask": str(tmp_path / "mask.png"),
        "conversations": [{"from": "human", "value": ""}, {"from": "gpt", "value": answer}], **fields,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "fields", "fault"),
    [
        ("[(0.167, 0.25)]", {}, ""),
        ("[(0.5, 0.25)]", {}, "point"),
        ("[(0.167, 0.25)]", {"mask": IDS > 0}, ""),
        ("[(0.167, 0.25)]", {"mask": np.ones_like(IDS)}, "mask"),
        ("[(0.167, 0.25)]", {"uid": 3}, "visibility"),
        ("NOT_VISIBLE", {}, "visibility"),
        ("NOT_VISIBLE", {"uid": 3}, ""),
        ("[(0.167, 0.25)]", {"task": "referring", "relation": "unique"}, "phrase"),
        ("[(0.167, 0.25)]", {"task": "referring", "relation": "leftmost"}, ""),
        ("[(0.167, 0.25)]", {"task": "referring", "relation": "rightmost"}, "phrase"),
        ("[(0.167, 0.25), (0.75, 0.25)]", {"task": "referring", "relation": "all", "uid": None}, ""),
        ("[(0.167, 0.25)]", {"task": "referring", "relation": "all", "uid": None}, "phrase"),
        ("[(0.5, 0.9)]", {"task": "referring", "relation": "nearest"}, "point"),
    ],
)
def test_each_kind_of_fault_is_found(tmp_path, answer, fields, fault):
    assert fault_of(sample(tmp_path, answer, **fields), Drawn()) == fault


def test_a_simulated_build_is_judged_before_and_after(scans, tmp_path):
    pytest.importorskip("open3d")
    name = "scene0001_00"
    config = SceneConfig(filters=FilterConfig(keep_immobile=True), depth_pictures=False)
    SceneBuilder(open_scene(scans / name), config, "h").build(tmp_path / "five_frames", "train")
    build_tasks(tmp_path / "five_frames", tmp_path / "tasks", "train", name, [name], TaskConfig(), "h")
    text = label_noise(tmp_path, {"train": [name], "validation": ["scene0999_00"]}, scans, scans)
    before, after = text.split("after\n")
    assert before.startswith("wrong labels in 1 simulated scenes") and "t1" in before
    # Poses are true here: what is left is the sensor's noise.
    assert " 0 of " in next(line for line in after.splitlines() if line.strip().startswith("t1 "))
    with pytest.raises(ValueError, match="no scan of the scenes"):
        label_noise(tmp_path, {"train": ["scene0999_00"]}, scans, scans)
