"""What `roboref train check` and `inspect` say, of good plans and runs and of broken ones."""

from __future__ import annotations

import json
import shutil

import cv2
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from offline.train.check import check
from offline.train.cli import main
from offline.train.inspection import inspect_run
from offline.train.plan import load_plan
from offline.train.run import run
from offline.train.test.tiny import write_project


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    plan = write_project(tmp_path_factory.mktemp("checks"))
    run(load_plan(plan, {"lora": None}))
    return plan


@pytest.fixture
def project(original, tmp_path):
    folder = shutil.copytree(original.parent, tmp_path / "project")
    return folder / "plan.yaml"


def edit(file, change):
    samples = json.loads(file.read_text())
    change(samples)
    file.write_text(json.dumps(samples))


class TestCheck:
    def test_a_good_plan(self, project, capsys):
        assert main(["check", str(project)]) == 0
        said = capsys.readouterr().out
        assert "nothing wrong found" in said
        for wanted in ("steps 5 to 7", "RGB-D", "learns: ", "<|im_end|>", "M learn", "GB in all", "limit 512"):
            assert wanted in said

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda samples: samples[0]["conversations"][1].update(value="[(1.5, 0.2)]"),
                "(1.5, 0.2) lies outside [0, 1]",
            ),
            (lambda samples: samples[0].update(image="gone.png"), "gone.png: cannot be read"),
            (lambda samples: samples[0]["conversations"][0].update(value="word " * 2000), "no answer within 512"),
            (
                lambda samples: samples[0]["conversations"][1].update(value="word " * 2000),
                "label tokens lie beyond 512",
            ),
            (
                lambda samples: samples[0]["conversations"][0].update(value="<image>\n<image>\n"),
                "2 <image> for 1 pictures",
            ),
        ],
    )
    def test_bad_data(self, project, change, message):
        edit(project.parent / "a" / "data.json", change)
        report = check(load_plan(project), with_model=False)
        assert any(message in error and "data.json[0]" in error for error in report.errors), report.errors

    def test_flat_depth(self, project):
        for file in (project.parent / "a" / "depth").iterdir():
            cv2.imwrite(str(file), cv2.imread(str(file), 0) * 0)
        assert any("is 0 everywhere" in error for error in check(load_plan(project), with_model=False).errors)

    def test_under_bf16(self, project):
        plan = load_plan(project, {"precision": "bf16", "zero": 3})
        assert check(plan, 2).errors == []

    def test_errors_are_one_line(self, tmp_path, capsys):
        assert main(["check", str(tmp_path / "no.yaml")]) == 2
        assert capsys.readouterr().err.startswith("roboref train check: ")


class TestInspect:
    def test_a_good_run(self, project):
        report = inspect_run(project.parent / "run")
        assert report.errors == []
        assert "stage hard: loss falls" in report.text() and "llm: learned, 26 of 26" in report.text()
        assert cv2.imread(str(project.parent / "run" / "loss.png")).std() > 5

    def _change(self, project, part, change):
        file = project.parent / "run" / "checkpoint-7" / "model" / part / "model.safetensors"
        tensors = load_file(file)
        name = sorted(tensors)[0]
        change(tensors, name)
        save_file(tensors, file, metadata={"format": "pt"})

    def test_not_finite(self, project):
        self._change(project, "llm", lambda tensors, name: tensors[name].fill_(torch.nan))
        assert any("llm: 1 tensors are not finite" in error for error in inspect_run(project.parent / "run").errors)

    def test_a_frozen_part_that_changed(self, project):
        """As if the run had not trained it."""
        plan = project.parent / "run" / "checkpoint-7" / "plan.yaml"
        raw = yaml.safe_load(plan.read_text())
        for stage in raw["stages"]:
            stage["train"] = ["llm"]
        text = yaml.safe_dump(raw)
        plan.write_text(text + "#" * (plan.stat().st_size - len(text)))
        _unsealed(project)
        errors = inspect_run(project.parent / "run").errors
        assert any("vision_tower was frozen, but 19 tensors differ" in error for error in errors)

    def test_a_part_that_did_not_change(self, project):
        part = "mm_projector/model.safetensors"
        shutil.copy(project.parent / "base" / part, project.parent / "run" / "checkpoint-7" / "model" / part)
        assert "mm_projector was to learn, but is what it was" in inspect_run(project.parent / "run").errors

    def test_incomplete(self, project):
        (project.parent / "run" / "checkpoint-7" / "optimizer.pt").unlink()
        errors = inspect_run(project.parent / "run").errors
        assert any("optimizer.pt is missing" in error for error in errors)

    def test_no_run(self, tmp_path):
        with pytest.raises(ValueError, match="no whole checkpoint"):
            inspect_run(tmp_path)


def _unsealed(project) -> None:
    """Brings the manifest of the last checkpoint up to date with what was changed by hand."""
    folder = project.parent / "run" / "checkpoint-7"
    manifest = json.loads((folder / "complete.json").read_text())
    manifest["files"]["plan.yaml"] = (folder / "plan.yaml").stat().st_size
    (folder / "complete.json").write_text(json.dumps(manifest))


def test_lora(project, tmp_path):
    """Adapters alone learn; what is published is the base with them added, and going on from them is exact."""
    stages = [{"name": "s", "mixture": "a+b", "until_step": 4, "train": ["llm", "mm_projector"], "lr": 1e-2}]
    changes = {"stages": stages, "lora": {"r": 4, "lora_alpha": 8}, "save_every": 2, "keep": 5}
    outputs = [tmp_path / "whole", tmp_path / "parts"]
    run(load_plan(project, changes | {"output": str(outputs[0])}))
    shutil.copytree(outputs[0] / "checkpoint-2", outputs[1] / "checkpoint-2")
    run(load_plan(project, changes | {"output": str(outputs[1])}))
    whole, parts = (load_file(output / "model" / "llm" / "model.safetensors") for output in outputs)
    base = load_file(project.parent / "base" / "llm" / "model.safetensors")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    changed = {name for name in base if not torch.equal(base[name], whole[name])}
    assert changed == {name for name in base if name.endswith("_proj.weight")}
    assert torch.linalg.matrix_rank((whole[min(changed)] - base[min(changed)]).double(), rtol=1e-4) <= 4
    assert inspect_run(outputs[0]).errors == []
