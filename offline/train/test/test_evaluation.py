"""Evaluation during training: real answers, scored; the best checkpoint stays."""

from __future__ import annotations

import json

import pytest

from offline.eval.test.small_data import SmallData
from offline.train import checkpoints
from offline.train.evaluation import best_step
from offline.train.inspection import inspect_run
from offline.train.plan import load_plan
from offline.train.run import run
from offline.train.test.tiny import write_project


@pytest.mark.slow
def test_every_saved_model_is_scored_and_the_best_kept(tmp_path):
    plan_file = write_project(tmp_path)
    held_out = SmallData(tmp_path / "held_out", objects=3, scenes=2).write("t1_val_multi")
    evaluation = {"data": str(held_out), "samples": 4, "metric": "balanced_accuracy"}
    run(load_plan(plan_file, {"evaluation": evaluation, "save_every": 2, "keep": 1}))
    output = tmp_path / "run"
    lines = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    scores = {line["step"]: line["eval_balanced_accuracy"] for line in lines if "eval_balanced_accuracy" in line}
    assert list(scores) == [0, 2, 4, 6, 7], "the base model first"
    assert scores[best_step(output)] == max(score for step, score in scores.items() if step)
    kept = [checkpoints.read_position(folder).step for folder in checkpoints.find(output)]
    assert kept == sorted({best_step(output), 7})
    answers = (output / "eval" / "step-7.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["kind"] == "prediction" for line in answers) == 4


def test_an_unknown_metric_is_named(tmp_path):
    plan_file = write_project(tmp_path)
    held_out = SmallData(tmp_path / "held_out", objects=2, scenes=1).write("t1_val_multi")
    evaluation = {"data": str(held_out), "samples": 2, "metric": "accuracy"}
    with pytest.raises(ValueError, match="no figure 'accuracy'; there are balanced_accuracy"):
        run(load_plan(plan_file, {"evaluation": evaluation, "save_every": 1}))
    assert checkpoints.found(tmp_path / "run") == [], "before anything is spent on it"


@pytest.mark.slow
def test_the_page_of_a_run_shows_before_and_after(tmp_path):
    plan_file = write_project(tmp_path)
    held_out = SmallData(tmp_path / "held_out", objects=3, scenes=2).write("t1_val_multi")
    evaluation = {"data": str(held_out), "samples": 3, "metric": "balanced_accuracy"}
    run(load_plan(plan_file, {"evaluation": evaluation, "save_every": 7}))
    assert inspect_run(tmp_path / "run").errors == []
    page = (tmp_path / "run" / "summary.html").read_text()
    for wanted in ("step 7 of 7", "samples per second", "balanced accuracy", "before:", "data:image/jpeg", "stages:"):
        assert wanted in page, wanted
    assert page.count("<figure>") == 3
