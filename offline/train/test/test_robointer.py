"""RoboInter-VLM's recipe: its registry, its arguments, and a tiny model that learns grounding and choice by it."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import yaml
from roboref_core.command_line import ExitStatus

from offline.eval.asking.predict import predict
from offline.eval.asking.predictor import ModelConfig
from offline.eval.asking.predictors import load_predictor
from offline.eval.asking.show import ShowConfig
from offline.eval.records.predictions import read_predictions
from offline.eval.records.samples import read_samples
from offline.eval.scoring.manipulation import score_records
from offline.files import write_picture
from offline.train.cli import main
from offline.train.plan import load_plan
from offline.train.registry import load_registry, parse_mixture
from offline.train.run import run
from offline.train.test.tiny_onevision import write_checkpoint

# As the seed's README has it; the rest of such a file must not matter, nor be run.
DATA_PY = """import os
raise RuntimeError("never run")
# TODO: replace the paths
droid_grounding = {
    "annotation_path": "droid/grounding.json",  # LLaVA-format JSON
    "data_path": "droid/images/",
}
droid_choice = rh20t_choice = {"annotation_path": "droid/choice.json", "data_path": "droid/images/"}
data_dict = {"droid_grounding": droid_grounding, "droid_choice": droid_choice}
"""


@pytest.fixture
def project(tmp_path):
    """A tiny checkpoint, llava/data.py, and two lists of records about pictures with one bright patch."""
    rng = np.random.default_rng(0)
    write_checkpoint(tmp_path / "base")
    (tmp_path / "data.py").write_text(DATA_PY)
    grounding, choice = [], []
    for k in range(4):
        left = k % 2 == 0
        picture = rng.integers(0, 60, (24, 32, 3), dtype=np.uint8)
        picture[8:16, slice(2, 12) if left else slice(20, 30)] = 230
        write_picture(tmp_path / "droid" / "images" / f"{k}.png", picture)
        x = 0.1 if left else 0.6
        box = json.dumps({"current_bbox": [[x, 0.3], [x + 0.3, 0.7]]})
        for records, question, answer, task in (
            (grounding, "Where is the object? Give its bounding box.", box, "current_box"),
            (choice, "Which side? A. left B. right", "A" if left else "B", "choice"),
        ):
            turns = [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}]
            records.append({"id": f"{task}_{k}", "task": task, "images": [f"{k}.png"], "conversations": turns})
    (tmp_path / "droid" / "grounding.json").write_text(json.dumps(grounding))
    (tmp_path / "droid" / "choice.json").write_text(json.dumps(choice))
    return tmp_path


def arguments(project, **changes) -> list[str]:
    given = {
        "pretrain-model": project / "base",
        "registry": project / "data.py",
        "datasets": "droid_grounding,droid_choice",
        "output-dir": project / "run",
        "plan": project / "plan.yaml",
    }
    return ["robointer", *(f"--{name}={value}" for name, value in (given | changes).items())]


def test_the_registry_is_read_and_not_run(project):
    found = load_registry(project / "data.py")
    assert set(found) == {"droid_grounding", "droid_choice", "rh20t_choice"}
    assert found["droid_grounding"].json_file == project / "droid" / "grounding.json"
    assert found["droid_grounding"].image_root == project / "droid" / "images"
    in_yaml = {"droid_grounding": {"annotation_path": "droid/grounding.json", "data_path": "droid/images/"}}
    (project / "data.yaml").write_text(yaml.safe_dump(in_yaml))
    assert load_registry(project / "data.yaml")["droid_grounding"] == found["droid_grounding"]
    assert [term.name for term in parse_mixture("droid_grounding,droid_choice", found)] == [
        "droid_choice",
        "droid_grounding",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "expected assignments of"),
        ("x = (", "cannot be read as Python"),
        ("x = {'annotation_path': 1}", "x: "),
    ],
)
def test_bad_registries_are_named(tmp_path, text, message):
    (tmp_path / "data.py").write_text(text)
    with pytest.raises(ValueError, match=rf"data\.py.*{re.escape(message)}"):
        load_registry(tmp_path / "data.py")


def test_the_listed_arguments_make_the_plan(project, capsys):
    assert main(arguments(project)) == ExitStatus.DONE
    assert "2 data sets, 32 samples a step" in capsys.readouterr().out
    plan = load_plan(project / "plan.yaml")
    assert (plan.batch, plan.micro_batch, plan.zero, plan.model_max_length) == (32, 2, 3, 32768)
    (stage,) = plan.stages
    assert stage.epochs == 1 and stage.lr == {"llm": 2e-5, "vision_tower": 4e-6, "mm_projector": 2e-5}
    changed = {"gpus-per-node": 4, "nodes": 2, "per-device-train-batch-size": 1, "learning-rate": 1e-5}
    assert main(arguments(project, **changed)) == ExitStatus.DONE
    plan = load_plan(project / "plan.yaml")
    assert plan.batch == 16 and plan.micro_batch == 1 and plan.stages[0].lr_of("llm") == 1e-5


def test_a_data_set_that_is_not_there_is_named_before_a_plan_is_written(project, capsys):
    assert main(arguments(project, datasets="droid_grounding,manipvqa")) == ExitStatus.USAGE
    assert "no data set 'manipvqa'" in capsys.readouterr().err
    assert not (project / "plan.yaml").exists()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_grounding_and_choice_before_and_after(project):
    """The whole recipe by its command, at a size that learns four pictures by heart."""
    small = {"gpus-per-node": 1, "gradient-accumulation-steps": 1, "deepspeed": "none", "model-max-length": 512}
    small |= {"per-device-train-batch-size": 8, "learning-rate": 1e-2, "mm-vision-tower-lr": 2e-3}
    assert main(arguments(project, **small)) == ExitStatus.DONE
    changes = {"precision": "fp32", "gradient_checkpointing": False, "report_to": [], "log_every": 50}
    stage = load_plan(project / "plan.yaml").stages[0].model_dump() | {"epochs": None, "until_step": 120}
    run(load_plan(project / "plan.yaml", changes | {"stages": [stage], "lr_schedule": "constant"}))
    scores = {}
    for when, model in (("before", project / "base"), ("after", project / "run" / "model")):
        for name in ("grounding", "choice"):
            data = read_samples(project / "droid" / f"{name}.json", project / "droid" / "images")
            config = ModelConfig("llava_onevision", path=str(model), options=("max_new_tokens=60",))
            out = project / "answers" / f"{name}_{when}.jsonl"
            predict(data.samples, load_predictor(config, data.samples), out, ShowConfig())
            (group,) = score_records(data.samples, read_predictions(out)).values()
            scores[name, when] = group["figures"]
    assert scores["grounding", "after"]["iou"]["value"] > 0.9 > scores["grounding", "before"]["iou"]["value"]
    assert scores["choice", "after"]["accuracy"]["value"] == 1.0 > scores["choice", "before"]["accuracy"]["value"]
