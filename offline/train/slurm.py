"""A run as a Slurm job: one batch script that can be read, submitted, and that puts itself back into the queue."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from offline import cluster
from offline.files import write_bytes
from offline.train import checkpoints
from offline.train.plan import Plan
from offline.train.run_folder import MODEL, RunFolder

SCRIPT, JOB = "slurm/job.sbatch", "slurm/job"

_TEMPLATE = """\
#!/bin/bash
{options}
set -euo pipefail
cd {folder}
{setup}
export OMP_NUM_THREADS="${{OMP_NUM_THREADS:-{threads}}}"
run={run}

# One launcher on each node; they meet at the first node, where this script runs.
port=$((20000 + SLURM_JOB_ID % 20000))
export rendezvous="$(hostname):$port" attempt="$SLURM_JOB_ID.${{SLURM_RESTART_COUNT:-0}}"

# Near the time limit Slurm sends USR2 to every process. The launchers ignore it; the trainers save and stop.
status=0
srun --kill-on-bad-exit=1 bash -c {launch} || status=$?

if [ -e "$run/preempted" ]; then
    echo "saved and stopped: back into the queue"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
"""

_LAUNCH = """\
trap "" USR2; exec {python} -m torch.distributed.run \\
    --nnodes={nodes} --nproc-per-node={processes} \\
    --rdzv-backend=c10d --rdzv-endpoint="$rendezvous" --rdzv-id="$attempt" \\
    -m offline.train.cli run {plan}"""
"""What each node runs. It is one quoted word of the script."""


@dataclass(frozen=True)
class Request:
    """What a job asks of Slurm; see ``roboref train slurm --help``."""

    plan: Path
    nodes: int = 1
    gpus_per_node: int = 8
    processes_per_node: int = 8
    cpus_per_node: int | None = None
    time: str = "24:00:00"
    notice: int = 180
    partition: str | None = None
    account: str | None = None
    setup: str | None = None
    extra: tuple[str, ...] = ()

    def options(self, plan: Plan) -> dict[str, object]:
        """Options of sbatch. Raises ValueError for one of ``extra`` that has no name."""
        return {
            "requeue": True,
            "job-name": f"roboref-{plan.output.name}",
            "nodes": self.nodes,
            "ntasks-per-node": 1,
            "cpus-per-task": self.cpus_per_node,
            "gpus-per-node": self.gpus_per_node or None,
            "time": self.time,
            "signal": f"USR2@{self.notice}",
            "partition": self.partition,
            "account": self.account,
            "output": plan.output / "slurm" / "%j.log",
            "open-mode": "append",
            **dict(cluster.option_of(option) for option in self.extra),
        }


def render(request: Request, plan: Plan) -> str:
    """The batch script.

    Raises ValueError if the plan's batch does not divide among the processes, or a name cannot go into a script.
    """
    world = request.nodes * request.processes_per_node
    if request.nodes < 1 or request.processes_per_node < 1:
        raise ValueError(f"expected at least one node and process, found {request.nodes}, {request.processes_per_node}")
    if plan.batch % (world * plan.micro_batch):
        raise ValueError(
            f"batch {plan.batch} does not divide into {request.nodes} x {request.processes_per_node} processes with "
            f"micro-batches of {plan.micro_batch}"
        )
    launch = _LAUNCH.format(
        python=cluster.word(sys.executable),
        nodes=request.nodes,
        processes=request.processes_per_node,
        plan=cluster.word(request.plan.absolute()),
    )
    return _TEMPLATE.format(
        options=cluster.directives(request.options(plan)),
        folder=cluster.word(Path.cwd()),
        setup=request.setup or "",
        threads=max(1, (request.cpus_per_node or request.processes_per_node) // request.processes_per_node),
        run=cluster.word(plan.output.absolute()),
        launch=shlex.quote(launch),
    )


def write(script: str, run: Path) -> Path:
    path = run / SCRIPT
    write_bytes(path, script.encode())
    return path


def submit(script: Path, run: Path) -> str:
    """The job's id. Raises ValueError with what sbatch says."""
    job = cluster.submit(script)
    write_bytes(run / JOB, job.encode())
    return job


def status(run: Path) -> str:
    """One line on the run and one on its job."""
    whole = checkpoints.find(run)
    where = "no checkpoint yet"
    if whole:
        position = checkpoints.read_position(whole[-1])
        where = f"saved step {position.step} of {position.until[-1]}"
    if RunFolder(run).finished:
        where = f"finished: {run / MODEL}"
    lines = [f"{run}: {where}"]
    if (run / JOB).is_file():
        job = (run / JOB).read_text()
        lines.append(cluster.queue().get(job, f"job {job} is not in the queue"))
    return "\n".join(lines)


def cancel(run: Path) -> str:
    """Cancels the run's job; returns its id. Raises ValueError if none was submitted."""
    if not (run / JOB).is_file():
        raise ValueError(f"{run}: no job was submitted for this run")
    job = (run / JOB).read_text()
    cluster.cancel(job)
    return job
