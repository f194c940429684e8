"""Reasoning in steps, trained, asked, read and scored: a tiny model learns chains and plain answers by heart."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from roboref_core.prompting.reasoning import FARTHER, Perception, ReasoningStep, format_reasoning

from offline.data_engine.tasks.reasoning import step_facts
from offline.eval.asking.predict import predict
from offline.eval.asking.predictor import ModelConfig
from offline.eval.asking.predictors import load_predictor
from offline.eval.asking.show import ShowConfig
from offline.eval.records.predictions import read_predictions
from offline.eval.records.samples import read_samples
from offline.eval.scoring.score import score_file
from offline.files import write_picture
from offline.train.plan import load_plan
from offline.train.run import run
from offline.train.test.tiny import write_project


def samples(folder, count: int) -> list[dict]:
    """Each question twice: for its answer, and for the steps to it."""
    rng = np.random.default_rng(0)
    found = []
    for k in range(count):
        write_picture(folder / f"{k}_original.png", rng.integers(0, 255, (28, 28, 3), dtype=np.uint8))
        points = [tuple((rng.integers(10, 90, 2) / 100).tolist()) for _ in range(2)]
        steps = [
            ReasoningStep(Perception.POSITION, "lamp", point=points[0]),
            ReasoningStep(Perception.POSITION, "cup", point=points[1]),
            ReasoningStep(Perception.DEPTH_ORDER, "cup, lamp", order=FARTHER),
        ]
        mask = np.zeros((28, 28), np.uint8)
        x, y = (int(value * 28) for value in points[1])
        mask[y, x] = 255
        write_picture(folder / f"{k}_mask.png", mask)
        for form, question in (("single", "cup?"), ("steps", "steps to cup?")):
            answer = format_reasoning(steps if form == "steps" else [], [points[1]])
            turns = [{"from": "human", "value": f"{question} {k}"}, {"from": "gpt", "value": answer}]
            found.append(
                {
                    "id": f"{form}_{k}",
                    "image": str(folder / f"{k}_original.png"),
                    "mask": str(folder / f"{k}_mask.png"),
                    "conversations": turns,
                    "task": "reasoning",
                    "form": form,
                    "scene_id": f"scene{k:04d}_00",
                    "step_count": 2,
                    "steps": [step_facts(step) for step in steps],
                }
            )
    return found


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_both_forms_are_learned_and_scored(tmp_path):
    project = write_project(tmp_path / "tiny")
    (tmp_path / "reasoning.json").write_text(json.dumps(samples(tmp_path, 2)))
    raw = yaml.safe_load(project.read_text())
    stage = {"name": "s", "until_step": 100, "train": ["llm", "vision_tower", "mm_projector"], "lr": 1e-2}
    changes = {
        "model": str(tmp_path / "tiny" / "base"),
        "data_path": str(tmp_path / "reasoning.json"),
        "output": str(tmp_path / "run"),
        "lr_schedule": "constant",
        "prompt_form": "inference",
        "log_every": 50,
        "micro_batch": 4,
        "stages": [stage],
    }
    project.write_text(yaml.safe_dump(raw | changes))
    run(load_plan(project))
    data = read_samples(tmp_path / "reasoning.json")
    options = ("decoding=free", "max_new_tokens=250")
    config = ModelConfig("roborefer", path=str(tmp_path / "run" / "model"), options=options)
    predict(data.samples, load_predictor(config, data.samples), tmp_path / "answers.jsonl", ShowConfig(depth=False))
    found = score_file(read_predictions(tmp_path / "answers.jsonl"), data, with_floor=False)
    assert found["groups"]["steps"]["2 steps"]["figures"]["correct"]["value"] == 1.0
    told = found["reasoning"]["2 steps"]
    assert told["samples"] == 2 and told["solved"]["value"] == told["chain"]["value"] == told["form"]["value"] == 1.0
