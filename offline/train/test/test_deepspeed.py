"""ZeRO-2 and ZeRO-3 with two processes against one plain process at the same global batch."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from offline.train import checkpoints
from offline.train.plan import load_plan
from offline.train.run import run
from offline.train.test.test_resume import figures, torchrun
from offline.train.test.tiny import write_project

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("c++") is None, reason="DeepSpeed builds with c++")]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A batch holds samples of all kinds; ranks see text alone while others see pictures with depth."""
    folder = tmp_path_factory.mktemp("deepspeed")
    plan = write_project(folder)
    raw = yaml.safe_load(plan.read_text()) | {"micro_batch": 1, "save_every": 3, "group": 1}
    plan.write_text(yaml.safe_dump(raw))
    return plan


@pytest.fixture(scope="module")
def reference(project):
    output = project.parent / "plain"
    run(load_plan(project, {"output": str(output)}))
    return output


def tensors(folder: Path, part: str) -> dict:
    return load_file(folder / part / "model.safetensors")


def variant(project: Path, name: str, **changes) -> Path:
    path = project.parent / f"{name}.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(project.read_text()) | changes | {"output": name}))
    return path


@pytest.mark.parametrize(("name", "changes"), [
    ("two", {}),
    ("zero2", {"zero": 2}),
    ("zero3", {"zero": 3}),
    ("zero3_recompute", {"zero": 3, "gradient_checkpointing": True}),
])  # fmt: skip
def test_equals_one_process(project, reference, name, changes):
    """float32: losses to 1e-4, weights to 2 % of the learning rate times the steps."""
    torchrun(variant(project, name, **changes), 2)
    output = project.parent / name
    for here, there in zip(figures(output), figures(reference), strict=True):
        assert here["loss"] == pytest.approx(there["loss"], rel=1e-4)
        assert here["grad_norm"] == pytest.approx(there["grad_norm"], rel=1e-3)
        assert {k for k in here if k.startswith("lr_")} == {k for k in there if k.startswith("lr_")}
    for part in ("llm", "vision_tower", "mm_projector", "depth_tower", "depth_projector"):
        here, there = tensors(output / "model", part), tensors(reference / "model", part)
        assert here.keys() == there.keys()
        for key in here:
            assert (here[key] - there[key]).abs().max() < 0.02 * 5e-3 * 7, (part, key)


@pytest.mark.parametrize("zero", [2, 3])
def test_frozen_parts_stay_to_the_bit(project, zero):
    name = f"frozen{zero}"
    raw = yaml.safe_load(project.read_text())
    stages = [raw["stages"][0] | {"until_step": 2, "train": ["mm_projector", "depth_projector"]}]
    torchrun(variant(project, name, zero=zero, stages=stages), 2)
    output = project.parent / name / "model"
    for part in ("llm", "vision_tower", "depth_tower", "mm_projector", "depth_projector"):
        before, after = tensors(project.parent / "base", part), tensors(output, part)
        same = all((before[key] == after[key]).all() for key in before)
        assert same == (part not in stages[0]["train"]), part


@pytest.mark.parametrize("zero", [2, 3])
def test_resumes_exactly(project, zero):
    """Checkpoints of steps 5 and later removed: what comes again is the same, to the bit."""
    name = f"again{zero}"
    plan = variant(project, name, zero=zero, keep=10)
    torchrun(plan, 2)
    output = project.parent / name
    first, weights = figures(output), tensors(output / "model", "llm")
    shutil.rmtree(output / "model")
    for folder in checkpoints.find(output):
        if checkpoints.read_position(folder).step > 3:
            shutil.rmtree(folder)
    torchrun(plan, 2)
    assert figures(output) == first
    assert all((weights[key] == value).all() for key, value in tensors(output / "model", "llm").items())
