"""Batch scripts; and, where Slurm is installed, data built and a run trained on two nodes of a real one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from roboref_core.models.roborefer.checkpoint.files import load_model
from roboref_core.models.roborefer.checkpoint.random import write_random_checkpoint

from offline.train.plan import load_plan
from offline.train.slurm import Request, cancel, render, status, submit, write
from offline.train.test.tiny import SHAPE, write_project

CLUSTER = Path(__file__).parent / "slurm_cluster.sh"
STEPS = 40


@pytest.fixture
def project(tmp_path):
    plan = write_project(tmp_path / "a folder")
    plan.write_text(yaml.safe_dump(yaml.safe_load(plan.read_text()) | {"batch": 64}))
    return plan


class TestScript:
    def test_options(self, project):
        request = Request(project, nodes=4, gpus_per_node=8, partition="gpu", extra=("mem=64G",))
        lines = render(request, load_plan(project)).splitlines()
        options = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")]
        assert lines[0] == "#!/bin/bash" and lines[1].startswith("#SBATCH"), "sbatch stops reading at a command"
        wanted = "--requeue --nodes=4 --gpus-per-node=8 --signal=USR2@180 --partition=gpu --mem=64G"
        assert set(wanted.split()) <= set(options)
        assert any("--nnodes=4" in line and "--nproc-per-node=8" in line for line in lines)

    def test_is_a_script(self, project):
        """bash reads it, and the plan's path with its space reaches the trainer whole."""
        script = render(Request(project, processes_per_node=2, gpus_per_node=0), load_plan(project))
        assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
        fake = project.parent / "srun"
        fake.write_text('#!/bin/bash\nshift\nexec "$@"\n')
        fake.chmod(0o755)
        script = script.replace(sys.executable, "printf '%s\\n'".replace("'", '"'))
        environment = {**os.environ, "PATH": f"{project.parent}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
        done = subprocess.run(["bash"], input=script, text=True, capture_output=True, env=environment)
        words = done.stdout.splitlines()
        assert done.returncode == 0 and words[-2:] == ["run", str(project)]
        assert "--rdzv-id=7.0" in words

    def test_what_is_refused(self, project):
        with pytest.raises(ValueError, match="batch 64 does not divide into 3 x 8"):
            render(Request(project, nodes=3), load_plan(project))

    def test_without_slurm(self, project, monkeypatch):
        monkeypatch.setenv("PATH", "")
        plan = load_plan(project)
        script = write(render(Request(project), plan), plan.output)
        with pytest.raises(ValueError, match="sbatch is not installed"):
            submit(script, plan.output)
        with pytest.raises(ValueError, match="no job was submitted"):
            cancel(plan.output)
        assert "no checkpoint yet" in status(plan.output)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A folder for jobs, with a Slurm of two nodes running."""
    if missing := [tool for tool in ("slurmctld", "slurmd", "munged", "sbatch") if shutil.which(tool) is None]:
        pytest.skip(f"no Slurm here ({', '.join(missing)}): as root on Debian, run {CLUSTER.name} install")
    if os.geteuid() != 0:
        pytest.skip("starting Slurm's daemons takes root")
    folder = tmp_path_factory.mktemp("slurm")
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    try:
        subprocess.run(["bash", str(CLUSTER), "start", str(folder)], check=True, timeout=120)
        yield folder
    finally:
        subprocess.run(["scancel", "--user=root"], timeout=60)
        subprocess.run(["bash", str(CLUSTER), "stop", str(folder)], timeout=60)
        if before is None:
            del os.environ["SLURM_CONF"]
        else:
            os.environ["SLURM_CONF"] = before


def wait_for(what, seconds: float, log: Path | None = None):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if result := what():
            return result
        time.sleep(0.5)
    raise AssertionError(log.read_text()[-3000:] if log and log.exists() else "it did not happen in time")


def queued(job: str) -> str:
    command = ["squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={job}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout.strip()


def batch(folder: Path, command: str, *options: str) -> None:
    """Submits one shell line and waits for it."""
    done = subprocess.run(
        ["sbatch", "--wait", f"--output={folder}/%A_%a.log", *options, f"--wrap={command}"],
        capture_output=True,
        text=True,
        timeout=500,
        cwd=Path(__file__).parents[3],
    )
    logs = "".join(file.read_text()[-1000:] for file in folder.glob("*_*.log"))
    assert done.returncode == 0, f"{done.stderr}\n{logs}"


@pytest.mark.slow
def test_array_build_training_preemption_completion(cluster):
    python = f"OMP_NUM_THREADS=1 {sys.executable} -m offline.cli"
    scans, data = cluster / "scans", cluster / "data"
    batch(cluster, f"{python} sim scene --out {scans} --scenes 2 --frames 90 --triangles 20000 --no-contact-sheet")
    build = f"{python} data build --scans {scans} --out {data} --validation-share 0"
    for phase in ("scenes", "tasks"):
        batch(cluster, f"{build} --phase {phase} --shard $SLURM_ARRAY_TASK_ID/2", "--array=0-1")
    batch(cluster, f"{build} --phase assemble")
    (samples,) = data.rglob("t1_train_multi.json")
    assert len(json.loads(samples.read_text())) >= 8

    write_random_checkpoint(cluster / "base", SHAPE, scale=0.1)
    plan_file, run = cluster / "plan.yaml", cluster / "run"
    plan_file.write_text(
        yaml.safe_dump(
            {
                "model": "base",
                "output": "run",
                "data_path": str(samples),
                "batch": 4,
                "micro_batch": 1,
                "precision": "fp32",
                "save_every": 5,
                "report_to": [],
                "keep": 20,
                "image_aspect_ratio": "resize",
                "stages": [{"name": "sft", "until_step": STEPS, "lr": 1e-3}],
            }
        )
    )
    plan = load_plan(plan_file)
    request = Request(plan_file, nodes=2, gpus_per_node=0, processes_per_node=1, time="30:00", notice=60)
    job = submit(write(render(request, plan), run), run)
    log = run / "slurm" / f"{job}.log"

    def steps() -> int:
        return len((run / "log.jsonl").read_text().splitlines()) if (run / "log.jsonl").exists() else 0

    # First the signal that announces the time limit: the job saves and requeues itself.
    wait_for(lambda: steps() >= 3, 240, log)
    subprocess.run(["scancel", "--signal=USR2", job], check=True, timeout=30)
    wait_for(lambda: (run / "preempted").exists(), 60, log)
    wait_for(lambda: queued(job) == "PENDING", 60, log)
    saved = int(status(run).split("saved step ")[1].split()[0])
    assert saved >= 3
    restart(job)
    # Then somebody else's requeue.
    wait_for(lambda: steps() >= saved + 6, 240, log)
    subprocess.run(["scontrol", "requeue", job], check=True, timeout=30)
    wait_for(lambda: queued(job) == "PENDING", 90, log)
    restart(job)
    wait_for(lambda: (run / "model").exists(), 300, log)
    wait_for(lambda: queued(job) == "COMPLETED", 60, log)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, STEPS + 1))
    load_model(run)
    assert "finished" in status(run)


def restart(job: str) -> None:
    """Slurm lets a requeued job wait two minutes; in the second of its requeue its new credential counts as revoked."""
    command = ["scontrol", "update", f"JobId={job}", "StartTime=now+5"]
    wait_for(lambda: subprocess.run(command, timeout=30).returncode == 0, 60)
