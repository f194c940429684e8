"""A run touches what its ledger names; everything else stays, and is refused by name where the run would need it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from roboref_core.atomic import FolderInUse, sole_writer

from offline.train import checkpoints
from offline.train.plan import load_plan
from offline.train.run import Outcome, run
from offline.train.run_folder import RunFolder
from offline.train.slurm import status
from offline.train.test.tiny import write_project

STAGES = [{"name": "s", "mixture": "c", "until_step": 3, "train": ["mm_projector"], "lr": 1e-3}]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return write_project(tmp_path_factory.mktemp("folder"))


def plan(project: Path, output: Path, **changes):
    return load_plan(project, {"output": str(output), "stages": STAGES, "save_every": 1, "keep": 1, **changes})


def listing(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    "names",
    [
        ("checkpoint-500/pytorch_model.bin", "checkpoint-1000/trainer_state.json"),
        ("model/config.json",),
        ("log.jsonl",),
        ("eval/step-1.json",),
        (".partial/optimizer.pt",),
    ],
)
def test_foreign_content_is_refused_by_name_and_stays(project, tmp_path, names):
    output = tmp_path / "run"
    for name in names:
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (output / name).write_text("another trainer's")
    before = listing(output)
    with pytest.raises(ValueError, match="which this run did not write") as refused:
        run(plan(project, output))
    assert all(name.partition("/")[0] in str(refused.value) for name in names)
    # The lock alone may be there.
    assert {name: text for name, text in listing(output).items() if name != ".writer.json"} == before


def test_foreign_content_that_comes_later_is_refused(project, tmp_path):
    output = tmp_path / "run"
    run(plan(project, output))
    (output / "checkpoint-2").mkdir()
    (output / "checkpoint-2" / "weights.bin").write_text("another trainer's")
    shutil.rmtree(output / "model")
    # Step 2 was the run's own and is named: a damaged one of its own is cleaned away.
    assert run(plan(project, output)) is Outcome.FINISHED
    (output / "checkpoint-7").mkdir()
    (output / "checkpoint-7" / "weights.bin").write_text("another trainer's")
    with pytest.raises(ValueError, match="holds checkpoint-7, which"):
        run(plan(project, output))


def test_what_the_run_does_not_need_stays(project, tmp_path):
    output = tmp_path / "run"
    (output / "checkpoint-500-of-mine").mkdir(parents=True)
    (output / "checkpoint-500-of-mine" / "w").write_text("kept")
    (output / "notes.txt").write_text("kept")
    assert run(plan(project, output)) is Outcome.FINISHED
    assert (output / "checkpoint-500-of-mine" / "w").read_text() == (output / "notes.txt").read_text() == "kept"
    assert [folder.name for folder in checkpoints.find(output)] == ["checkpoint-3"]


def test_an_empty_model_folder_is_not_a_finished_run(project, tmp_path):
    output = tmp_path / "run"
    (output / "model").mkdir(parents=True)
    assert not RunFolder(output).finished and "no checkpoint yet" in status(output)
    assert run(plan(project, output)) is Outcome.FINISHED
    assert (output / "model" / "config.json").is_file() and "finished" in status(output)
    names = json.loads((output / "run.json").read_text())["model"]
    shutil.rmtree(output / "model")
    (output / "model").mkdir()
    assert not RunFolder(output).finished
    assert run(plan(project, output)) is Outcome.FINISHED
    assert all((output / "model" / name).is_file() for name in names)


def test_a_checkpoint_copied_from_elsewhere_is_read_and_never_removed(project, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    run(plan(project, first, keep=5))
    shutil.copytree(first / "checkpoint-1", second / "checkpoint-1")
    before = listing(second / "checkpoint-1")
    run(plan(project, second))
    assert listing(second / "checkpoint-1") == before
    # What says how the model was made names its folder.
    tensors = [
        {k: v for k, v in listing(run / "model").items() if k.endswith(".safetensors")} for run in (first, second)
    ]
    assert tensors[0] == tensors[1]


def test_a_finished_run_without_checkpoints_knows_its_plan(project, tmp_path):
    output = tmp_path / "run"
    run(plan(project, output))
    for folder in checkpoints.find(output):
        shutil.rmtree(folder)
    assert run(plan(project, output)) is Outcome.FINISHED
    with pytest.raises(ValueError, match="made by another plan: seed: 0 -> 1"):
        run(plan(project, output, seed=1))


def test_one_writer_at_a_time(project, tmp_path):
    output = tmp_path / "run"
    with sole_writer(output, "another run"), pytest.raises(FolderInUse, match="another run"):
        run(plan(project, output))


def test_a_package_that_reporting_needs_is_named(project, tmp_path):
    with pytest.raises(ValueError, match=r"report_to: wandb cannot be imported .*pip install wandb"):
        run(plan(project, tmp_path / "run", report_to=["wandb"]))
    assert not (tmp_path / "run").exists()
