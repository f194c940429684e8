"""Manipulation records are put to a model and scored by their own metrics."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from offline.data_engine.formats.manipulation import GroundingRecord, Kind
from offline.eval.cli import main
from offline.eval.records.predictions import read_predictions
from offline.eval.records.samples import read_samples
from offline.eval.scoring.judge import judge
from offline.eval.scoring.manipulation import box_iou, frechet, judge_record, matched_distance, rmse
from offline.files import read_json, write_json

PATHS = arrays(float, st.tuples(st.integers(2, 6), st.just(2)), elements=st.floats(0, 1))
RECORDS = {
    "current_box": '{"current_bbox": [[0.1, 0.2], [0.3, 0.4]]}',
    "contact_box": "[[0.1, 0.2], [0.3, 0.4]]",
    "contact_point": '{"contact_point": [[0.1, 0.2], [0.3, 0.1]]}',
    "traj_qa": '{"future_traj": [[0.1, 0.2], [0.3, 0.4], [0.5, 0.5]]}',
    "traj_choice": "C",
    "contact_decide": "No",
    "task_planning": "Pick up the cup.",
}


@pytest.fixture
def data(tmp_path):
    """A file with one record of each kind, and one that cannot be used."""
    entries = []
    for task, answer in (*RECORDS.items(), ("final_box", "[[0.1, 0.2], [1.003, 0.4]]")):
        turns = [{"from": "human", "value": "<image>\nWhich?"}, {"from": "gpt", "value": answer}]
        entries.append({"id": task, "images": ["a.jpg"], "conversations": turns, "task": task, "w": 320, "h": 180})
    write_json(tmp_path / "val.json", entries)
    return tmp_path / "val.json"


def scored(data, answers, capsys):
    predictions = data.parent / "answers.jsonl"
    predictions.write_text("".join(json.dumps({"id": k, "text": v}) + "\n" for k, v in answers.items()))
    assert not main(["score", str(predictions), "--data", str(data), "--out", str(data.parent / "scores.json")])
    return read_json(data.parent / "scores.json")["manipulation"], capsys.readouterr().out


def test_right_answers_are_perfect_in_every_metric(data, capsys):
    found, said = scored(data, RECORDS, capsys)
    assert set(found) == set(RECORDS)
    values = {task: {name: figure["value"] for name, figure in found[task]["figures"].items()} for task in found}
    assert values["current_box"] == values["contact_box"] == {"iou": 1, "iou_above_0.1": 1, "iou_above_0.5": 1}
    assert values["contact_point"] == {"distance": 0, "distance_px": 0}
    assert values["traj_qa"] == {"dfd": 0, "rmse": 0, "dfd_px": 0, "rmse_px": 0}
    assert values["traj_choice"] == values["contact_decide"] == {"accuracy": 1}
    assert values["task_planning"] == {"exact_match": 1}
    assert "1 samples left out" in said and "1.003" in said


def test_what_is_no_answer_counts_as_wrong_and_is_counted(data, capsys):
    nothing = dict.fromkeys(RECORDS, "I cannot tell") | {"contact_box": "[[72, 102], [192, 179]]"}
    del nothing["traj_choice"]
    found, _ = scored(data, nothing, capsys)
    assert found["current_box"]["figures"]["iou"]["value"] == 0 and found["current_box"]["unparsable"] == 1
    assert found["contact_box"]["figures"]["iou"]["value"] == 0
    assert found["traj_choice"]["missing"] == 1 and found["traj_choice"]["figures"]["accuracy"]["value"] == 0
    assert found["traj_qa"]["unparsable"] == 1 and not found["traj_qa"]["figures"]


def test_records_are_samples_that_masks_do_not_judge(data, tmp_path):
    samples = read_samples(data, tmp_path / "pictures").samples
    assert all(sample.images == (tmp_path / "pictures" / "a.jpg",) for sample in samples)
    assert all(sample.prompt == "Which?" and sample.task == sample.id for sample in samples)
    (tmp_path / "p.jsonl").write_text(json.dumps({"id": "traj_qa", "text": "x"}) + "\n")
    with pytest.raises(ValueError, match="their own metrics"):
        judge(samples, read_predictions(tmp_path / "p.jsonl"))


def test_boxes_half_over_each_other():
    a, b = np.array([[0, 0], [0.2, 0.2]]), np.array([[0.1, 0], [0.3, 0.2]])
    assert box_iou(a, b) == pytest.approx(1 / 3) and box_iou(a, b + 0.5) == 0
    assert box_iou(a * (640, 480), b * (640, 480)) == pytest.approx(1 / 3)


@given(PATHS, PATHS)
def test_frechet_is_a_symmetric_distance_above_the_ends(a, b):
    ends = max(np.linalg.norm(a[0] - b[0]), np.linalg.norm(a[-1] - b[-1]))
    assert frechet(a, b) == frechet(b, a) >= ends - 1e-12
    assert frechet(a, a) == 0 and frechet(a, a[::-1]) == pytest.approx(frechet(a[::-1], a))


@given(PATHS, st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
def test_a_shifted_path_is_off_by_the_shift(path, dx, dy):
    assert rmse(path + (dx, dy), path) == pytest.approx(np.hypot(dx, dy), abs=1e-9)
    assert matched_distance(path[::-1], path) == pytest.approx(0)


def test_paths_of_unlike_lengths_are_compared_along_their_length():
    assert rmse(np.array([[0, 0], [1, 1]]), np.array([[0, 0], [0.5, 0.5], [1, 1]])) == pytest.approx(0)


def test_answers_of_several_parts_have_no_metric():
    assert judge_record(GroundingRecord("r", (), "", Kind.SEVERAL, (), "x"), "y") == {}
