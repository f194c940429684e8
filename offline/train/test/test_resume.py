"""A run that is killed and goes on ends where an uninterrupted one does, to the bit."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from roboref_core.models.roborefer import asking
from roboref_core.models.roborefer.checkpoint.files import load_model

from offline.train import checkpoints
from offline.train.families.roborefer.family import RoboRefer
from offline.train.plan import load_plan
from offline.train.test.tiny import write_project

STEPS = 7
# A server that has imported everything and computed nothing: children start at once, and clean.
CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload(["offline.train.run", "torch", "peft", "tensorboard"])


def train(plan: Path, changes: dict | None = None, at: int | None = None, where: str = "step") -> None:
    """In a child: train, and do something to oneself once ``at`` steps are done.

    Args:
        where: "step": SIGKILL in the next step; "save": SIGKILL while writing checkpoint ``at``; "sealed": between its
            manifest and its name; the name of a signal: that in the next step.
    """
    import torch

    from offline.train import run

    torch.set_num_threads(1)

    def interrupt(number: int) -> None:
        os.kill(os.getpid(), number)

    if where == "step" or where.startswith("SIG"):
        take = run.SegmentLoop._step

        def step(self, batches):
            if self.position.step == at:
                interrupt(signal.SIGKILL if where == "step" else signal.Signals[where])
            return take(self, batches)

        run.SegmentLoop._step = step
    elif where == "save":
        write = RoboRefer.write

        def write_model(self, model, state, source, target, aspect):
            write(self, model, state, source, target, aspect)
            if not checkpoints.found(target.parents[1]) or at == STEPS:
                interrupt(signal.SIGKILL)

        RoboRefer.write = write_model
    elif where == "sealed":
        seal = checkpoints.seal

        def sealed(partial, target):
            if target.name == f"checkpoint-{at}":
                (partial / "complete.json").write_text('{"files": {}}')
                interrupt(signal.SIGKILL)
            seal(partial, target)

        checkpoints.seal = sealed
    outcome = run.run(load_plan(plan, changes))
    sys.exit(0 if outcome is run.Outcome.FINISHED else 75)


def child(*arguments) -> int:
    process = CHILDREN.Process(target=train, args=arguments)
    process.start()
    process.join(300)
    assert process.exitcode is not None, "the child hangs"
    return process.exitcode


def figures(run: Path) -> list[dict]:
    """Loss, norm and learning rates of every step."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if key in ("step", "loss", "grad_norm") or key.startswith("lr_")}
        for line in lines
        if "loss" in line
    ]


def weights(run: Path) -> dict[str, bytes]:
    return {str(file.relative_to(run)): file.read_bytes() for file in sorted((run / "model").rglob("*.safetensors"))}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    return write_project(folder)


@pytest.fixture(scope="module")
def reference(project):
    """Steps and weights of the uninterrupted run."""
    output = project.parent / "reference"
    assert child(project, {"output": str(output)}) == 0
    return figures(output), weights(output)


def finish_and_compare(project: Path, output: Path, reference, changes=None) -> None:
    assert child(project, {"output": str(output), **(changes or {})}) == 0
    steps, tensors = reference
    assert figures(output) == steps
    assert weights(output) == tensors


def test_the_run_itself(reference, project):
    steps, _ = reference
    assert [line["step"] for line in steps] == list(range(1, STEPS + 1))
    assert steps[0]["lr_depth_projector"] == pytest.approx(1e-2 / 2)
    assert steps[-1]["loss"] < steps[2]["loss"]
    load_model(project.parent / "reference")
    # How it is asked, and the plan it was trained by, travel with it: its data set "a" has depth pictures.
    stated = asking.load(project.parent / "reference")
    assert stated.depth and stated.plan["stages"]


def test_killed_in_a_step(project, reference, tmp_path):
    changes = {"output": str(tmp_path / "run"), "save_every": 3}
    assert child(project, changes, 5) == -signal.SIGKILL
    finish_and_compare(project, tmp_path / "run", reference)


@pytest.mark.slow
@pytest.mark.parametrize("save_every", [1, 3])
@pytest.mark.parametrize("at", range(STEPS))
def test_killed_in_every_step(project, reference, tmp_path, at, save_every):
    """Also at both borders of optimizers (step 2) and of mixtures (step 4), and where a step was not saved."""
    changes = {"output": str(tmp_path / "run"), "save_every": save_every}
    assert child(project, changes, at) == -signal.SIGKILL
    finish_and_compare(project, tmp_path / "run", reference, {"save_every": save_every})


@pytest.mark.slow
def test_killed_again_and_again(project, reference, tmp_path):
    changes = {"output": str(tmp_path / "run"), "save_every": 1}
    for at in range(STEPS):
        assert child(project, changes, at) == -signal.SIGKILL
    finish_and_compare(project, tmp_path / "run", reference)


@pytest.mark.slow
@pytest.mark.parametrize(("at", "where"), [(1, "save"), (2, "sealed")])
def test_half_written_checkpoints_are_left_alone(project, reference, tmp_path, at, where):
    changes = {"output": str(tmp_path / "run"), "save_every": 1}
    assert child(project, changes, at, where) == -signal.SIGKILL
    assert (tmp_path / "run" / checkpoints.PARTIAL).is_dir()
    finish_and_compare(project, tmp_path / "run", reference)
    assert not (tmp_path / "run" / checkpoints.PARTIAL).exists()


@pytest.mark.slow
def test_a_damaged_checkpoint_is_left_alone(project, reference, tmp_path):
    output = tmp_path / "run"
    changes = {"output": str(output), "save_every": 1}
    child(project, changes, 3)
    file = output / "checkpoint-3" / "optimizer.pt"
    file.write_bytes(file.read_bytes()[:-1])
    assert [folder.name for folder in checkpoints.find(output)] == ["checkpoint-2"]
    finish_and_compare(project, output, reference)


@pytest.mark.parametrize(
    ("at", "name"),
    [
        pytest.param(0, "SIGUSR2", marks=pytest.mark.slow),
        (4, "SIGUSR2"),
        pytest.param(3, "SIGTERM", marks=pytest.mark.slow),
        (3, "SIGINT"),
    ],
)
def test_a_signal_saves_once_and_stops(project, reference, tmp_path, at, name):
    output = tmp_path / "run"
    assert child(project, {"output": str(output)}, at, name) == 75
    whole = checkpoints.find(output)
    assert whole[-1].name == f"checkpoint-{at + 1}" and (output / "preempted").exists()
    assert checkpoints.read_position(whole[-1]).step == at + 1
    finish_and_compare(project, output, reference)
    assert not (output / "preempted").exists()


def test_another_plan_is_refused(project, reference, tmp_path):
    output = tmp_path / "run"
    shutil.copytree(project.parent / "reference" / "checkpoint-2", output / "checkpoint-2")
    plan = yaml.safe_load(project.read_text())
    plan["stages"][1]["lr"] = 1.0
    with pytest.raises(ValueError, match="made by another plan: stages"):
        from offline.train.run import run

        run(load_plan(project, {"output": str(output), "stages": plan["stages"]}))


def test_a_finished_run_of_another_plan_is_not_taken_for_this_ones(project, reference):
    from offline.train.run import Outcome, run

    output = str(project.parent / "reference")
    assert run(load_plan(project, {"output": output})) is Outcome.FINISHED
    with pytest.raises(ValueError, match="made by another plan: seed: 0 -> 1"):
        run(load_plan(project, {"output": output, "seed": 1}))


@pytest.mark.slow
def test_another_world_size(project, reference, tmp_path):
    """One process, then two: the same samples at the same learning rates, so losses equal but for rounding."""
    plan = tmp_path / "plan.yaml"
    output = tmp_path / "run"
    raw = yaml.safe_load(project.read_text())
    raw |= {
        "output": str(output),
        "model": str(project.parent / "base"),
        "save_every": 1,
        "registry": str(project.parent / "datasets.yaml"),
    }
    plan.write_text(yaml.safe_dump(raw))
    assert child(plan, None, 3) == -signal.SIGKILL
    shutil.copytree(output, tmp_path / "before")
    torchrun(plan, 2)
    steps, _ = reference
    for here, there in zip(figures(output), steps, strict=True):
        assert {k: v for k, v in here.items() if k.startswith("lr_")} == {
            k: v for k, v in there.items() if k.startswith("lr_")
        }
        assert here["loss"] == pytest.approx(there["loss"], rel=2e-4)


def torchrun(plan: Path, processes: int) -> None:
    """``roboref train run`` in several processes."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={processes}",
        "-m",
        "offline.train.cli",
        "run",
        str(plan),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "0", "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr[-3000:]
