"""``roboref train``: plan, check, run, inspect, and hand runs to Slurm."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from offline.train.plan import PRESETS, load_plan, preset_names


@dataclass(frozen=True)
class Run:
    """Train by a plan; go on where an earlier run of the same plan stopped.

    Several processes: torchrun --nproc-per-node 8 -m offline.train.cli run plan.yaml. SIGUSR2 or SIGTERM on any of
    them saves one checkpoint after the step and stops. Exit status: 0 if done, 75 (EX_TEMPFAIL) if asked to stop; below
    torchrun 0, and the run's folder holds a file "preempted".
    """

    plan: tyro.conf.Positional[Path]
    """YAML, see offline/train/plan.py and `roboref train preset`."""

    def __call__(self) -> int:
        from offline.train.run import Outcome, leave, run

        plan = load_plan(self.plan)
        outcome = run(plan)
        # To torchrun, a process that ends with anything else is a failure of the whole job.
        launched = "TORCHELASTIC_RUN_ID" in os.environ
        status = 0 if launched or outcome is Outcome.FINISHED else 75
        print(f"{outcome.value}: {plan.output}")
        leave(status)
        return status


@dataclass(frozen=True)
class Check:
    """Look at one batch of every stage before anything is spent on it.

    Decodes what is supervised; checks picture counts, shapes, coordinates, lengths, gradients, dtypes of layer norms,
    and one save and load. Exit status 1 if anything is wrong.
    """

    plan: tyro.conf.Positional[Path]
    """YAML of the run."""
    samples: int = 8
    """Per data set of each stage."""
    model: bool = True
    """Load the model too: gradients, dtypes, memory, save and load. Without it, only the data are looked at."""

    def __call__(self) -> int:
        from offline.train.check import check

        report = check(load_plan(self.plan), self.samples, self.model)
        print(report.text())
        return 1 if report.errors else 0


@dataclass(frozen=True)
class Inspect:
    """Look at what a run left: curve (loss.png), checkpoints, what changed. Exit status 1 if anything is wrong."""

    run: tyro.conf.Positional[Path]
    """The run's folder ("output" of its plan)."""

    def __call__(self) -> int:
        from offline.train.inspection import inspect_run

        report = inspect_run(self.run)
        print(report.text())
        return 1 if report.errors else 0


@dataclass(frozen=True)
class Preset:
    """Print a preset, to look at or to start a plan from; without a name, list them."""

    name: tyro.conf.Positional[str | None] = None
    """A preset."""

    def __call__(self) -> int:
        if self.name is None:
            print("\n".join(preset_names()))
            return 0
        if self.name not in preset_names():
            raise ValueError(f"no preset {self.name!r}; there are {', '.join(preset_names())}")
        print((PRESETS / f"{self.name}.yaml").read_text(), end="")
        return 0


@dataclass(frozen=True)
class RefSpatial:
    """Print the registry of a RefSpatial tree, every list with and without depth, and a mixture of all of them."""

    root: tyro.conf.Positional[Path]
    """Its folder, with 2D/, 3D/ or Simulator/."""

    def __call__(self) -> int:
        import yaml

        from offline.train.registry import refspatial_registry

        entries = refspatial_registry(self.root)
        print(f"# mixture: {'+'.join(entries)}\n{yaml.safe_dump(entries, sort_keys=False)}", end="")
        return 0


@dataclass(frozen=True)
class Slurm:
    """Write, and submit, the batch script of a run on one or more nodes."""

    plan: tyro.conf.Positional[Path]
    """YAML of the run."""
    nodes: int = 1
    """Nodes."""
    gpus_per_node: int = 8
    """GPUs of each; 0 runs on CPUs, with --processes-per-node."""
    processes_per_node: int | None = None
    """Ranks of each node; by default one per GPU."""
    cpus_per_node: int | None = None
    """--cpus-per-task of the launcher; by default what the site gives."""
    time: str = "24:00:00"
    """Time limit; the run goes on in a new allocation when it is reached."""
    notice: int = 180
    """Seconds before the limit at which the run is told to save; longer than two steps and a save take."""
    partition: str | None = None
    """Slurm partition."""
    account: str | None = None
    """Slurm account."""
    setup: str | None = None
    """Shell line before everything else, for example "source setup/env.sh"."""
    extra: tuple[str, ...] = ()
    """More options of sbatch, without dashes: mem=64G constraint=a100."""
    submit: bool = False
    """Submit it, too."""

    def __call__(self) -> int:
        from offline.train.slurm import Request, render, submit, write

        request = Request(
            plan=self.plan,
            nodes=self.nodes,
            gpus_per_node=self.gpus_per_node,
            processes_per_node=self.processes_per_node or max(1, self.gpus_per_node),
            cpus_per_node=self.cpus_per_node,
            time=self.time,
            notice=self.notice,
            partition=self.partition,
            account=self.account,
            setup=self.setup,
            extra=self.extra,
        )
        plan = load_plan(self.plan)
        script = write(render(request, plan), plan.output)
        print(script.read_text() if not self.submit else f"{script}\njob {submit(script, plan.output)}")
        return 0


@dataclass(frozen=True)
class Status:
    """Where a run stands, from its folder and from Slurm."""

    run: tyro.conf.Positional[Path]
    """The run's folder."""

    def __call__(self) -> int:
        from offline.train.slurm import status

        print(status(self.run))
        return 0


@dataclass(frozen=True)
class Cancel:
    """Cancel a run's Slurm job. What it saved stays."""

    run: tyro.conf.Positional[Path]
    """The run's folder."""

    def __call__(self) -> int:
        from offline.train.slurm import cancel

        print(f"cancelled job {cancel(self.run)}")
        return 0


Command = (
    Annotated[Run, tyro.conf.subcommand("run")]
    | Annotated[Check, tyro.conf.subcommand("check")]
    | Annotated[Inspect, tyro.conf.subcommand("inspect")]
    | Annotated[Preset, tyro.conf.subcommand("preset")]
    | Annotated[RefSpatial, tyro.conf.subcommand("refspatial")]
    | Annotated[Slurm, tyro.conf.subcommand("slurm")]
    | Annotated[Status, tyro.conf.subcommand("status")]
    | Annotated[Cancel, tyro.conf.subcommand("cancel")]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit status; errors in what the user gave are one line."""
    command = tyro.cli(Command, prog="roboref train", description=__doc__, args=argv)
    try:
        return command()
    except (ValueError, OSError) as error:
        print(f"roboref train: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
