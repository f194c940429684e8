"""The published layouts, on small data made here; scores in both modes; baselines and published figures beside."""

from __future__ import annotations

import base64
import json
import zlib

import cv2
import numpy as np
import pytest
from roboref_core.prompting.prompt import SUFFIX

from offline.eval.benches.benchmarks import BENCHMARKS
from offline.eval.benches.cli import render
from offline.eval.benches.families import FAMILIES
from offline.eval.benches.items import REFSPATIAL_TASKS, read_crosspoint, read_refspatial, read_where2place
from offline.eval.benches.published import NOTICE, PUBLISHED
from offline.eval.benches.score import score
from offline.eval.cli import main
from offline.eval.records.predictions import collect
from offline.eval.test.model_server import serving
from offline.eval.test.small_data import answer_line


def picture(path, size=(64, 48)):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(str(path).encode()))
    cv2.imwrite(str(path), rng.integers(0, 255, (*size[::-1], 3), dtype=np.uint8))


def box_mask(size=(64, 48)):
    mask = np.zeros(size[::-1], np.uint8)
    mask[10:30, 20:50] = 255
    return mask


@pytest.fixture
def refspatial(tmp_path):
    root = tmp_path / "RefSpatial-Bench"
    for task, count in zip(REFSPATIAL_TASKS, (4, 3, 2), strict=True):
        questions = []
        for k in range(count):
            picture(root / task / "image" / f"{k}.png")
            mask = root / task / "mask" / f"{k}.png"
            mask.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(mask), box_mask())
            questions.append(
                {
                    "id": k,
                    "object": "the red mug",
                    "prompt": "Point out the red mug.",
                    "suffix": SUFFIX,
                    "rgb_path": f"image/{k}.png",
                    "mask_path": f"mask/{k}.png",
                    "category": task,
                    "step": 1 + k,
                }
            )
        (root / task / "question.json").write_text(json.dumps(questions))
    return root


def test_refspatial_is_asked_as_its_family_expects(refspatial):
    expected = {
        "roborefer": f"Point out the red mug. {SUFFIX}",
        "molmo": "Locate several points of the red mug.",
        "gemini": "Locate one point of the red mug.",
        "robobrain": "Point out the red mug. Please provide its 2D coordinates.",
        "qwen": "Locate the red mug in this image and output the point coordinates in JSON format.",
    }
    for family, text in expected.items():
        items = read_refspatial(refspatial, FAMILIES[family])
        assert {item.sample.prompt for item in items} == {text}
    assert [item.group for item in items] == ["Location"] * 4 + ["Placement"] * 3 + ["Unseen"] * 2
    assert len({item.sample.id for item in items}) == 9
    assert items[0].mask().sum() == 20 * 30 and items[0].sample.images[0].is_file()


def test_refspatial_is_scored_by_its_reasoning_steps(refspatial):
    items = read_refspatial(refspatial, FAMILIES["roborefer"])
    said = [{"id": item.sample.id, "text": "[(0.5, 0.5)]" if item.group == "Location" else "?"} for item in items]
    found = score(items, collect(said, "m"), FAMILIES["roborefer"])
    assert {name: one["questions"] for name, one in found["steps"].items()} == {
        "1 step": 3, "2 steps": 3, "3 steps": 2, "4 steps": 1,
    }  # fmt: skip
    assert "strict, % by reasoning steps" in render("refspatial", {"m": found})


def test_official_and_strict_count_differently(refspatial):
    items = read_refspatial(refspatial, FAMILIES["roborefer"])
    texts = ["[(0.5, 0.5)]", "[(0.9, 0.9, 0.1, 0.1)]", "[(40, 20)]", "[(.5, .5)]", "[(0.5, 0.5), (0.0, 0.0)]"]
    lines = [answer_line(item.sample.id, text) for item, text in zip(items, texts, strict=False)]
    found = score(items, collect(lines, "m"), FAMILIES["roborefer"])
    location = found["groups"]["Location"]
    # Published: the box inside out leaves the mean, a pixel is a pixel, ".5" is nothing.
    assert location["official"]["line"] == "Accuracy: 0.6667, Evaluated: 3, Total: 4"
    assert location["official"]["value"] == pytest.approx(2 / 3) and location["official"]["left_out"] == 1
    # Strict: the same box and the pixel are wrong, ".5" is a number.
    assert location["strict"]["value"] == 0.5 and location["strict"]["unparsable"] == 2
    placement = found["groups"]["Placement"]
    assert placement["official"]["value"] == 0.5 and placement["official"]["left_out"] == 2
    assert placement["strict"]["value"] == pytest.approx(0.5 / 3) and placement["strict"]["missing"] == 2
    assert found["overall"]["strict"]["value"] == pytest.approx(2.5 / 9)
    low, high = location["strict"]["interval"]
    assert low < 0.5 < high


def test_points_of_the_backend_are_preferred_to_numbers_in_its_own_pixels(refspatial):
    items = read_refspatial(refspatial, FAMILIES["qwen"])
    line = answer_line(items[0].sample.id, "[500, 400]", points=[[0.5, 0.4]], visible=True)
    assert score(items[:1], collect([line], "m"), FAMILIES["qwen"])["overall"]["strict"]["value"] == 1.0


def test_where2place(tmp_path):
    lines = []
    for k in range(3):
        picture(tmp_path / "images" / f"{k:02d}.jpg", (640, 480))
        (tmp_path / "masks").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "masks" / f"{k:02d}.jpg"), cv2.resize(box_mask(), (640, 480)))
        lines.append({"question_id": k, "image": f"{k:02d}.jpg", "text": "Find free space. Answer as [(x, y)]."})
    (tmp_path / "point_questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    items = read_where2place(tmp_path, FAMILIES["roborefer"])
    texts = ["[(0.5, 0.4)]", "[(0.5, 0.4), (0.05, 0.05)]", "[(0.3, 0.2, 0.78, 3.0)]"]
    answers = collect([answer_line(i.sample.id, t) for i, t in zip(items, texts, strict=True)], "m")
    found = score(items, answers, FAMILIES["roborefer"])["groups"]["Where2Place"]
    box = (500 - 192) * (300 - 96) / ((499 - 192) * (480 - 96))  # clipped at the picture's lower edge
    assert found["official"]["value"] == pytest.approx((1 + 0.5 + box) / 3, abs=0.01)
    assert found["strict"]["value"] == pytest.approx(0.5) and found["strict"]["unparsable"] == 1


def test_crosspoint(tmp_path):
    png = base64.b64encode(cv2.imencode(".png", box_mask())[1].tobytes()).decode()
    questions = [
        {
            "idx": 0,
            "type": "Fine-grained Grounding",
            "images": ["origin_image/a.jpg"],
            "question": "Where?",
            "answer": png,
        },
        {
            "idx": 1,
            "type": "Correspondence-Pointing",
            "images": ["origin_image/a.jpg", "origin_image/b.jpg"],
            "question": "The same point?",
            "answer": png,
        },
        {
            "idx": 2,
            "type": "Visibility Reasoning",
            "images": ["origin_image/a.jpg"],
            "question": "A.Yes B.No",
            "answer": "A",
        },
        {
            "idx": 3,
            "type": "Correspondence-Judgement",
            "images": ["origin_image/a.jpg"],
            "question": "Which?",
            "answer": "(C)",
        },
    ]
    for name in "ab":
        picture(tmp_path / "image" / "origin_image" / f"{name}.jpg")
    path = tmp_path / "CrossPoint-Bench.jsonl"
    path.write_text("".join(json.dumps(question) + "\n" for question in questions))
    items = read_crosspoint(tmp_path, FAMILIES["roborefer"])
    assert items[0].sample.prompt == f"Where? {SUFFIX}" and items[2].sample.prompt == "A.Yes B.No"
    assert len(items[1].sample.images) == 2 and items[3].answer == "C"
    texts = ["[(0.5, 0.4)]", "[(0.05, 0.05)]", "A. Yes", "B"]
    answers = collect([answer_line(i.sample.id, t) for i, t in zip(items, texts, strict=True)], "m")
    found = score(items, answers, FAMILIES["roborefer"])
    assert [g["strict"]["value"] for g in found["groups"].values()] == [1.0, 0.0, 1.0, 0.0]
    assert "official" not in found["overall"] and found["overall"]["strict"]["value"] == 0.5
    for broken, words in (
        ({"answer": "!"}, "not base64"),
        ({"type": "Poem"}, "expected a type"),
        ({"images": []}, "list of images"),
        ({"images": ["c.jpg"]}, r"c\.jpg is missing"),
        ({"answer": "AAAA"}, "not a picture"),
    ):
        path.write_text(json.dumps(questions[0] | broken))
        with pytest.raises(ValueError, match=words):
            read_crosspoint(tmp_path, FAMILIES["roborefer"])


def test_damaged_layouts_are_named(refspatial):
    path = refspatial / "Placement" / "question.json"
    questions = json.loads(path.read_text())
    (refspatial / "Placement" / "mask" / "1.png").unlink()
    with pytest.raises(ValueError, match=r"1\.png is missing"):
        read_refspatial(refspatial, FAMILIES["roborefer"])
    del questions[1]["suffix"]
    path.write_text(json.dumps(questions))
    with pytest.raises(ValueError, match="question 1: expected a text 'suffix'"):
        read_refspatial(refspatial, FAMILIES["roborefer"])
    path.unlink()
    with pytest.raises(ValueError, match=r"Placement/question\.json"):
        read_refspatial(refspatial, FAMILIES["roborefer"])


def test_command_asks_scores_and_shows_what_others_published(refspatial, tmp_path, capsys):
    with serving() as server:
        arguments = [
            "refspatial",
            "--root",
            str(refspatial),
            "--family",
            "roborefer",
            "--model",
            "openai",
            "--url",
            server.url,
            "--options",
            "model=m",
            "convention=normalised",
            "--out",
            str(tmp_path / "out"),
            "--no-progress",
        ]
        assert main(["bench", *arguments]) == 0
        assert len(server.asked) == 9
    out = capsys.readouterr().out
    for word in ("official, %", "strict, %", "image_centre", "random_prior", "never_visible", NOTICE, "issue 24"):
        assert word in out, word
    found = json.loads((tmp_path / "out" / "refspatial.json").read_text())
    assert found["image_centre"]["groups"]["Location"]["strict"]["value"] == 1.0
    assert found["never_visible"]["overall"]["strict"]["not_visible"] == 9


def test_without_data_it_says_how_to_get_them(tmp_path, capsys):
    for name, repository in (
        ("refspatial", "BAAI/RefSpatial-Bench"),
        ("where2place", "wentao-yuan/where2place"),
        ("crosspoint", "WangYipu2002/CrossPoint-Bench"),
    ):
        assert main(["bench", name, "--root", str(tmp_path / "none"), "--family", "qwen"]) == 2
        assert f"hf download {repository}" in capsys.readouterr().err


def test_every_published_figure_has_its_source():
    assert set(PUBLISHED) <= set(BENCHMARKS)
    for table in PUBLISHED.values():
        assert len({(model, source) for model, _, source in table}) == len(table) > 0
        for model, figures, source in table:
            assert model and source and figures and all(0 <= value <= 100 for value in figures.values())
