"""ZeRO-2 and ZeRO-3 with two processes against one plain process at the same global batch."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from roboref_core.models.roborefer.checkpoint.files import load_model
from safetensors.torch import load_file

from offline.train import checkpoints
from offline.train.check import check
from offline.train.inspection import inspect_run
from offline.train.plan import load_plan
from offline.train.run import run
from offline.train.test import tiny_onevision
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


@pytest.mark.parametrize(("zero", "before", "after"), [(2, 2, 1), (2, 1, 2), (3, 2, 1), (3, 1, 2)])
def test_resumes_with_another_number_of_ranks(project, reference, zero, before, after):
    """The checkpoint of step 3 lies within a stage whose parts have learning rates of their own.

    float32: equal learning rates; losses to 1e-5.
    """
    name = f"ranks{zero}{before}{after}"
    plan = variant(project, name, zero=zero, keep=10)
    torchrun(plan, before)
    output = project.parent / name
    shutil.rmtree(output / "model")
    for folder in checkpoints.find(output):
        if checkpoints.read_position(folder).step > 3:
            shutil.rmtree(folder)
    torchrun(plan, after)
    assert checkpoints.read_position(checkpoints.find(output)[-1]).world == after
    assert not list(output.glob("checkpoint-*/*universal*"))
    for here, there in zip(figures(output), figures(reference), strict=True):
        assert {k: v for k, v in here.items() if k.startswith("lr_")} == {
            k: v for k, v in there.items() if k.startswith("lr_")
        }
        assert here["loss"] == pytest.approx(there["loss"], rel=1e-5)
        assert here["grad_norm"] == pytest.approx(there["grad_norm"], rel=1e-4)


@pytest.mark.parametrize("zero", [2, 3])
@pytest.mark.parametrize(
    "changes",
    [{"offload": True}, {"gradient_checkpointing": True}, {"lora": {"r": 4}}],
    ids=["offload", "recompute", "lora"],
)
def test_bf16(project, zero, changes):
    """Weights in bfloat16, with and without offload: it runs, learns, saves whole and finite, and the model loads."""
    name = f"bf16_{zero}_{next(iter(changes))}"
    raw = yaml.safe_load(project.read_text())
    stages = [raw["stages"][1] | {"until_step": 4}]
    plan = variant(project, name, zero=zero, precision="bf16", stages=stages, **changes)
    assert check(load_plan(plan), samples=2).errors == []
    torchrun(plan, 2)
    losses = [line["loss"] for line in figures(project.parent / name)]
    assert losses[-1] < losses[0]
    report = inspect_run(project.parent / name)
    assert report.errors == []
    load_model(project.parent / name / "model")


@pytest.mark.parametrize(
    "changes",
    [
        {"zero": 2},
        {"zero": 3, "gradient_checkpointing": True},
        {"zero": 3, "gradient_checkpointing": True, "lora": {"r": 4}},
    ],
    ids=["zero2", "zero3", "lora"],
)
def test_llava_onevision_equals_one_process(tmp_path, changes):
    """A rank sees text alone while the other sees pictures; with adapters, nothing else of the LLM learns."""
    plan = tiny_onevision.write_project(tmp_path)
    raw = yaml.safe_load(plan.read_text()) | {"micro_batch": 1, "group": 1, "lora": changes.get("lora")}
    raw["stages"] = [raw["stages"][1] | {"until_step": 4} | ({"train": ["llm"]} if "lora" in changes else {})]
    plan.write_text(yaml.safe_dump(raw))
    run(load_plan(plan))
    torchrun(variant(plan, "sharded", **changes), 2)
    for here, there in zip(figures(tmp_path / "sharded"), figures(tmp_path / "run"), strict=True):
        assert here["loss"] == pytest.approx(there["loss"], rel=1e-4)
        assert here["grad_norm"] == pytest.approx(there["grad_norm"], rel=1e-3)
    assert inspect_run(tmp_path / "sharded").errors == []
