"""A build on a cluster: submitit job arrays, one task per shard, failed shards again."""

from __future__ import annotations

import dataclasses
import logging
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from offline import cluster
from offline.data_engine.build_command import Build

if TYPE_CHECKING:
    import submitit

_POLL = 2.0
_GRACE = 20.0
"""A finished job's result may take this long to appear on a shared file system [s]."""


@dataclass(frozen=True)
class Slurm:
    """Build on a cluster: one job array per phase, failed shards again, then the files are joined.

    Waits until all is done. Exit status as of `build`.

      roboref data slurm --build.scans scans --build.out out/data --partition cpu
    """

    build: Build
    """What to build; its --phase and --shard are set per job."""
    shards: int = 16
    """Jobs per array."""
    executor: Literal["slurm", "local", "debug"] = "slurm"
    """submitit's executor: a cluster, processes of this machine, or this process."""
    partition: str | None = None
    """Slurm partition; by default the cluster's own."""
    minutes: int = 240
    """Time limit of a job [minutes]."""
    cpus: int = 4
    """Per job; as many scans at a time."""
    memory_gb: int = 8
    """Per job."""
    retries: int = 2
    """How often the shards that failed are submitted again."""
    logs: Path = Path("out/slurm")
    """Where submitit keeps scripts, logs and results."""
    dry_run: bool = False
    """Only print the batch script that does the same without submitit."""

    def __call__(self) -> int:
        if self.dry_run:
            print(batch_script(self))
            return 0
        return run_on_slurm(self)


class ShardFailed(RuntimeError):
    """Shards that failed more often than they may."""


def run_shard(build: Build, phase: str, index: int, count: int) -> list[str]:
    """What one job of an array does; returns the scans that failed in it."""
    from offline.data_engine.runner import run_scenes, run_tasks

    run, shard = build.run(), (index, count)
    with run.alone(shard):
        if phase == "scenes":
            return run_scenes(run, build.workers, shard, build.verify)
        return run_tasks(run, build.workers, shard)


def run_on_slurm(settings: Slurm) -> int:
    """Submit the phases one after the other and wait for each. Returns 0, or 1 if scans failed.

    Raises ValueError if a shard fails on every try.
    """
    from offline.data_engine.assemble import assemble

    # Where there is no accounting it warns at every poll.
    logging.getLogger("submitit").setLevel(logging.ERROR)
    build = dataclasses.replace(settings.build, workers=settings.cpus)
    run = build.run()
    for phase in ("scenes", "tasks"):
        try:
            _run_array(settings, build, phase)
        except ShardFailed as error:
            raise ValueError(str(error)) from error
    manifest = assemble(run)
    for name, facts in manifest["files"].items():
        print(f"{facts['samples']:9d}  {run.layout.tasks / name}")
    return 1 if manifest["failed"] else 0


def _run_array(settings: Slurm, build: Build, phase: str) -> None:
    import submitit

    executor = submitit.AutoExecutor(folder=settings.logs / phase, cluster=settings.executor)
    executor.update_parameters(
        name=f"roboref-{phase}",
        timeout_min=settings.minutes,
        cpus_per_task=settings.cpus,
        **({"mem_gb": settings.memory_gb} if settings.executor == "slurm" else {}),
        **({"slurm_partition": settings.partition} if settings.partition else {}),
    )
    waiting = list(range(settings.shards))
    for attempt in range(settings.retries + 1):
        jobs = executor.map_array(
            run_shard, *zip(*((build, phase, index, settings.shards) for index in waiting), strict=True)
        )
        print(f"{phase}: {len(jobs)} jobs submitted ({settings.executor}), {jobs[0].job_id} and on", flush=True)
        failed = []
        for index, job in zip(waiting, jobs, strict=True):
            error = _wait(job)
            if error:
                failed.append(index)
                print(f"{phase}: shard {index}/{settings.shards} failed: {error}", file=sys.stderr, flush=True)
        if not failed:
            return
        waiting = failed
        print(f"{phase}: {len(failed)} shards failed at try {attempt + 1}", file=sys.stderr, flush=True)
    raise ShardFailed(
        f"{phase}: shards {', '.join(map(str, waiting))} of {settings.shards} failed {settings.retries + 1} times; "
        f"logs are in {settings.logs / phase}"
    )


def _wait(job: submitit.Job) -> str:
    """Wait for a job; returns what went wrong, or ""."""
    import submitit

    missed = 0
    while not job.done():
        time.sleep(_POLL)
        # Without accounting submitit never learns that a job was cancelled or its node died; the queue knows.
        missed = missed + 1 if isinstance(job, submitit.SlurmJob) and not cluster.is_queued(job.job_id) else 0
        if missed * _POLL >= _GRACE and not job.done(force_check=True):
            return "it left the queue without a result"
    try:
        job.result()
    except (submitit.core.utils.FailedJobError, submitit.core.utils.UncompletedJobError, OSError, ValueError) as error:
        return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
    return ""


def batch_script(settings: Slurm) -> str:
    """A plain batch script that does the same, for clusters where jobs are submitted by hand."""
    build = settings.build
    options = ["--scans", str(build.scans), "--out", str(build.out), "--workers", str(settings.cpus)]
    for name in ("train_list", "validation_list", "label_table"):
        if getattr(build, name):
            options += [f"--{name.replace('_', '-')}", str(getattr(build, name))]
    command = cluster.words("roboref", "data", "build", *options)
    lines = cluster.directives(
        {
            "job-name": "roboref-data",
            "array": f"0-{settings.shards - 1}",
            "cpus-per-task": settings.cpus,
            "mem": f"{settings.memory_gb}G",
            "time": settings.minutes,
            "partition": settings.partition,
        }
    )
    return (
        f"#!/bin/bash\n{lines}\n"
        "# sbatch --export=ALL,PHASE=scenes, then the same with PHASE=tasks --dependency=afterok:<job>, then once:\n"
        f"#   {command} --phase assemble\n"
        f'srun {command} --phase "$PHASE" --shard "$SLURM_ARRAY_TASK_ID/{settings.shards}"'
    )
