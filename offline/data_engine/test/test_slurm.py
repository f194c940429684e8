"""The job arrays: on this machine, and on a real Slurm of two nodes where one is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from offline.data_engine.cli import main
from offline.data_engine.test.test_runner import digest
from offline.files import read_json

CLUSTER = Path(__file__).parents[2] / "train/test/slurm_cluster.sh"


def command(scans: Path, out: Path, executor: str) -> list[str]:
    build = ["--build.scans", str(scans), "--build.out", str(out), "--build.scene.filters.keep-immobile"]
    limits = ["--cpus", "1", "--memory-gb", "2", "--minutes", "10", "--shards", "2", "--logs", str(out.parent / "logs")]
    return ["slurm", "--executor", executor, *build, *limits]


@pytest.fixture(scope="module")
def expected(scans, tmp_path_factory):
    """What one process writes. Paths are part of records: all runs of this module write to the same place."""
    out = tmp_path_factory.mktemp("slurm") / "out"
    options = ["--scans", str(scans), "--out", str(out), "--scene.filters.keep-immobile"]
    assert main(["build", *options]) == 0
    result = digest(out)
    shutil.rmtree(out)
    return out, result


@pytest.mark.slow
def test_processes_of_this_machine(scans, expected):
    out, result = expected
    assert main(command(scans, out, "local")) == 0
    assert digest(out) == result
    shutil.rmtree(out)


@pytest.mark.slow
def test_a_cluster_and_a_job_that_is_cancelled(scans, expected, tmp_path, monkeypatch):
    if shutil.which("slurmctld") is None or shutil.which("munged") is None or os.geteuid() != 0:
        pytest.skip("no Slurm that could be started here")
    out, result = expected
    subprocess.run(["bash", str(CLUSTER), "start", str(tmp_path)], check=True)
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))

    def cancel_one() -> None:
        for _ in range(100):
            time.sleep(0.2)
            shown = ["squeue", "--noheader", "--array", "--states=RUNNING", "--format=%i"]
            jobs = subprocess.run(shown, capture_output=True, text=True).stdout.split()
            if jobs:
                subprocess.run(["scancel", jobs[0]], check=True)
                return

    try:
        threading.Thread(target=cancel_one, daemon=True).start()
        assert main(command(scans, out, "slurm")) == 0
        assert digest(out) == result
        assert read_json(out / "manifest.json")["failed"] == {}
    finally:
        subprocess.run(["bash", str(CLUSTER), "stop", str(tmp_path)], check=True)
