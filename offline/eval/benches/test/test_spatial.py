"""RoboSpatial-Home, Point-Bench, CV-Bench and BLINK on small folders in their published layouts, made here."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from roboref_core.prompting.prompt import SUFFIX

from offline.eval.benches.benchmarks import BENCHMARKS
from offline.eval.benches.families import FAMILIES
from offline.eval.benches.score import score
from offline.eval.benches.spatial import BLINK_TASKS
from offline.eval.cli import main
from offline.eval.records.predictions import collect
from offline.eval.test.small_data import answer_line


def picture(path, size=(64, 48)):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size[::-1], 3), 90, np.uint8))


def scored(name, root, texts, family="roborefer"):
    benchmark = BENCHMARKS[name]
    items = benchmark.read(root, FAMILIES[family])
    lines = [answer_line(item.sample.id, text) for item, text in zip(items, texts, strict=True)]
    return items, score(items, collect(lines, "m"), FAMILIES[family], benchmark.combine)


def value(found, mode, group="overall"):
    one = found["overall"] if group == "overall" else found["groups"][group]
    return one[mode]["value"]


def test_robospatial(tmp_path):
    square = "[(0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75)]"
    rows = [("configuration", "Yes"), ("compatibility", "no"), ("context", square), ("context", square)]
    questions = []
    for k, (category, answer) in enumerate(rows):
        picture(tmp_path / "images" / f"{k}.png")
        text = f"Is it? {SUFFIX if category == 'context' else 'Answer yes or no.'}"
        questions.append({"category": category, "question": text, "answer": answer, "img": f"images/{k}.png",
                          "depth_image": None, "mask": None})  # fmt: skip
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(questions))
    texts = ["Yes, it is.", "I say no", "[(0.5, 0.5), (0.9, 0.9)]", "[(0.1, 0.1)]"]
    items, found = scored("robospatial", tmp_path, texts)
    assert [item.group for item in items] == ["configuration", "compatibility", "context", "context"]
    # The published rule wants the answer to begin with its word, and looks at the first point alone.
    assert value(found, "official") == 0.5 and value(found, "official", "compatibility") == 0.0
    assert value(found, "official", "context") == 0.5
    assert value(found, "strict", "compatibility") == 1.0 and value(found, "strict", "context") == 0.25
    assert items[2].mask().mean() == pytest.approx(0.25, abs=0.03)
    questions[0]["answer"] = "perhaps"
    path.write_text(json.dumps(questions))
    with pytest.raises(ValueError, match=r"annotations\.json, question 0: expected yes, no or a polygon"):
        BENCHMARKS["robospatial"].read(tmp_path, FAMILIES["roborefer"])


def test_pointbench(tmp_path):
    mask = np.zeros((48, 64), np.uint8)
    mask[12:36, 16:48] = 255
    questions = [{"image_filename": "skipped.png", "category": "spatial"}]
    for k, category in enumerate(("spatial", "spatial", "counting", "counting")):
        picture(tmp_path / "images" / category / f"{k}.png")
        (tmp_path / "masks").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "masks" / f"{k}.png"), mask)
        questions.append({"image_filename": f"{k}.png", "mask_filename": f"{k}.png", "category": category,
                          "user_input": "Point to the mugs.", "count": 2})  # fmt: skip
    (tmp_path / "data.json").write_text(json.dumps(questions))
    texts = ["[(0.5, 0.5)]", "[(0.5, 0.5), (0.1, 0.1)]", "[(0.5, 0.5), (0.4, 0.5)]", "[(0.5, 0.5)]"]
    items, found = scored("pointbench", tmp_path, texts)
    assert items[0].sample.prompt == f"Point to the mugs. {SUFFIX}" and len(items) == 4
    for mode in ("official", "strict"):
        assert value(found, mode, "spatial") == 0.5 and value(found, mode, "counting") == 0.5
    (tmp_path / "masks" / "3.png").unlink()
    with pytest.raises(ValueError, match=r"3\.png is missing"):
        BENCHMARKS["pointbench"].read(tmp_path, FAMILIES["roborefer"])


def test_cvbench_weighs_two_and_three_dimensions_alike(tmp_path):
    sources = ("ADE20K", "ADE20K", "COCO", "Omni3D", "Omni3D", "Omni3D")
    rows = []
    for k, source in enumerate(sources):
        name = f"img/2D/{k}.png"
        picture(tmp_path / name)
        rows.append({"idx": k, "source": source, "filename": name, "answer": "(B)", "prompt": "(A) or (B)?",
                     "type": "2D", "task": "Relation", "choices": ["left", "right"]})  # fmt: skip
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = ["(B)", "(A)", "B", "<think>(A)?</think> B. right", "the right one", "(A)"]
    _, found = scored("cvbench", tmp_path, texts)
    assert value(found, "official", "ADE20K") == 0.5 and value(found, "official", "COCO") == 1.0
    # The published script knows no thoughts: "(A)" comes first in the fourth.
    assert value(found, "official", "Omni3D") == 0.0 and value(found, "official") == pytest.approx((0.75 + 0.0) / 2)
    assert value(found, "strict", "Omni3D") == pytest.approx(1 / 3)
    assert found["overall"]["strict"]["unparsable"] == 1


def test_blink_weighs_every_task_alike(tmp_path):
    for task in BLINK_TASKS:
        rows = []
        for k in range(2):
            picture(tmp_path / task / f"{k}_1.png")
            picture(tmp_path / task / f"{k}_2.png")
            rows.append({"idx": f"val_{task}_{k}", "sub_task": task, "prompt": "A or B?", "answer": "(A)",
                         "image_1": f"{k}_1.png", "image_2": f"{k}_2.png", "image_3": None})  # fmt: skip
        (tmp_path / task / "val.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = ["(A)", "(B)"] * len(BLINK_TASKS)
    texts[0:2] = ["(A)", "(A)"]
    items, found = scored("blink", tmp_path, texts)
    assert len(items[0].sample.images) == 2 and len(found["groups"]) == len(BLINK_TASKS)
    assert value(found, "official") == pytest.approx((1.0 + 0.5 * (len(BLINK_TASKS) - 1)) / len(BLINK_TASKS))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_without_data_every_benchmark_says_how_to_get_them(name, tmp_path, capsys):
    assert main(["bench", name, "--root", str(tmp_path / "none"), "--family", "qwen3-vl"]) != 0
    said = capsys.readouterr().err
    assert str(tmp_path / "none") in said and ("download" in said or "load_dataset" in said)
    assert BENCHMARKS[name].source


def test_gemini_s_order_is_its_own_whatever_its_backend_made_of_it(tmp_path):
    mask = np.zeros((48, 64), np.uint8)
    mask[30:, :20] = 255
    picture(tmp_path / "images" / "spatial" / "0.png")
    (tmp_path / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "masks" / "0.png"), mask)
    question = {"image_filename": "0.png", "mask_filename": "0.png", "category": "spatial", "user_input": "Where?"}
    (tmp_path / "data.json").write_text(json.dumps([question]))
    items = BENCHMARKS["pointbench"].read(tmp_path, FAMILIES["gemini"])
    text = '```json\n[{"point": [800, 100], "label": "mug"}]\n```'
    line = answer_line(items[0].sample.id, text, points=[[0.8, 0.1]], visible=True)
    found = score(items, collect([line], "m"), FAMILIES["gemini"])
    assert value(found, "strict") == 1.0 == value(found, "official")
