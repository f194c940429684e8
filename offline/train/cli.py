"""``roboref train``: plan, check, run, inspect, and hand runs to Slurm."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import tyro
from roboref_core.command_line import CommandTable, ExitStatus

from offline.train.plan import PRESETS, Plan, Reinforcement, load_plan, preset_names


@dataclass(frozen=True)
class RunPlan:
    """Train by a plan; go on where an earlier run of the same plan stopped.

    Several processes: torchrun --nproc-per-node 8 -m offline.train.cli run plan.yaml. SIGUSR2, SIGTERM or SIGINT
    (Ctrl-C) on any of them saves one checkpoint after the step and stops. Exit status: 0 if done, 75 (EX_TEMPFAIL) if
    asked to stop; below torchrun 0, and the run's folder holds a file "preempted".

      roboref train run plan.yaml
    """

    plan: tyro.conf.Positional[Path]
    """YAML, see offline/train/plan.py and `roboref train preset`."""

    def __call__(self) -> int:
        return _train(load_plan(self.plan))


@dataclass(frozen=True)
class Reinforce:
    """Reinforcement fine-tuning (GRPO) by a plan: as `run`, with rewards in place of the answers of the data.

    The plan's "rft" keys say how; without them the defaults hold. "model" is the fine-tuned checkpoint to begin with.

      roboref train rft plan.yaml
    """

    plan: tyro.conf.Positional[Path]
    """YAML, see offline/train/plan.py."""

    def __call__(self) -> int:
        plan = load_plan(self.plan)
        return _train(plan if plan.rft is not None else plan.model_copy(update={"rft": Reinforcement()}))


def _train(plan: Plan) -> int:
    from offline.train.run import Outcome, leave, run

    outcome = run(plan)
    # To torchrun, a process that ends with anything else is a failure of the whole job.
    launched = "TORCHELASTIC_RUN_ID" in os.environ
    status = ExitStatus.DONE if launched or outcome is Outcome.FINISHED else ExitStatus.STOPPED
    print(f"{outcome.value}: {plan.output}")
    leave(status)
    return status


@dataclass(frozen=True)
class CheckPlan:
    """Look at one batch of every stage before anything is spent on it.

    Decodes what is supervised; checks picture counts, shapes, coordinates, lengths, gradients, dtypes of layer norms,
    and one save and load. Exit status 1 if anything is wrong.

      roboref train check plan.yaml --samples 4
    """

    plan: tyro.conf.Positional[Path]
    """YAML of the run."""
    samples: int = 8
    """Per data set of each stage."""
    model: bool = True
    """Load the model too: gradients, dtypes, memory, save and load. Without it, only the data are looked at."""
    json: bool = False
    """Print {"lines": ..., "errors": ...} as JSON instead of text, for scripts."""

    def __call__(self) -> int:
        from offline.files import as_json
        from offline.train.check import check

        report = check(load_plan(self.plan), self.samples, self.model)
        print(as_json(asdict(report)) if self.json else report.text())
        return ExitStatus.BAD if report.errors else ExitStatus.DONE


@dataclass(frozen=True)
class EstimateRun:
    """Print memory per GPU and time per step: full and LoRA, ZeRO-2 and ZeRO-3, for several numbers of GPUs.

    roboref train estimate --plan plan.yaml --gpus 1 8 64
    """

    plan: Path | None = None
    """YAML of a run, whose checkpoint's size, batch and parts count."""
    size: Literal["2B", "8B"] = "2B"
    """A published size, without a plan."""
    gpus: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    """Numbers of GPUs."""
    positions: int = 600
    """Of a sample, text and pictures."""
    tiles: int = 2
    """Of a sample's pictures."""
    tflops: float = 989.0
    """Peak of one GPU (H100: 989 in bfloat16)."""
    mfu: float = 0.4
    """Model FLOPs utilisation that is expected."""
    gpu_memory: float = 80.0
    """Memory of one GPU [GB]."""

    def __call__(self) -> int:
        from offline.train.estimate import PUBLISHED, Workload, size_of, table

        size, work = PUBLISHED[self.size], Workload(positions=self.positions, tiles=self.tiles)
        if self.plan is not None:
            plan = load_plan(self.plan)
            size = size_of(plan.model)
            work = replace(
                work,
                batch=plan.batch,
                micro_batch=plan.micro_batch,
                lora=plan.lora.r if plan.lora else 0,
                vision=any("vision_tower" in stage.train for stage in plan.stages),
                recompute=plan.gradient_checkpointing,
            )
        rows = table(size, work, self.gpus, self.tflops, self.mfu, self.gpu_memory)
        print(f"{size.parameters / 1e9:.2f} B parameters, batch {work.batch}, micro-batch {work.micro_batch}")
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        print("\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]))
        return ExitStatus.DONE


@dataclass(frozen=True)
class InspectRun:
    """Look at what a run left: curve (loss.png), checkpoints, what changed. Exit status 1 if anything is wrong.

    roboref train inspect out/run
    """

    run: tyro.conf.Positional[Path]
    """The run's folder ("output" of its plan)."""

    def __call__(self) -> int:
        from offline.train.inspection import inspect_run

        report = inspect_run(self.run)
        print(report.text())
        return ExitStatus.BAD if report.errors else ExitStatus.DONE


@dataclass(frozen=True)
class ShowPreset:
    """Print a preset, to look at or to start a plan from; without a name, list them.

    roboref train preset sft
    """

    name: tyro.conf.Positional[str | None] = None
    """A preset."""

    def __call__(self) -> int:
        if self.name is None:
            print("\n".join(preset_names()))
            return ExitStatus.DONE
        if self.name not in preset_names():
            raise ValueError(f"no preset {self.name!r}; there are {', '.join(preset_names())}")
        print((PRESETS / f"{self.name}.yaml").read_text(), end="")
        return ExitStatus.DONE


@dataclass(frozen=True)
class RegisterRefSpatial:
    """Print the registry of a RefSpatial tree, every list with and without depth, and a mixture of all of them.

    roboref train refspatial RefSpatial
    """

    root: tyro.conf.Positional[Path]
    """Its folder, with 2D/, 3D/ or Simulator/."""

    def __call__(self) -> int:
        import yaml

        from offline.train.registry import refspatial_registry

        entries = refspatial_registry(self.root)
        print(f"# mixture: {'+'.join(entries)}\n{yaml.safe_dump(entries, sort_keys=False)}", end="")
        return ExitStatus.DONE


@dataclass(frozen=True)
class WriteJob:
    """Write, and submit, the batch script of a run on one or more nodes.

    roboref train slurm plan.yaml --nodes 2 --gpus-per-node 8 --submit
    """

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
        return ExitStatus.DONE


@dataclass(frozen=True)
class ShowStatus:
    """Where a run stands, from its folder and from Slurm.

    roboref train status out/run
    """

    run: tyro.conf.Positional[Path]
    """The run's folder."""

    def __call__(self) -> int:
        from offline.train.slurm import status

        print(status(self.run))
        return ExitStatus.DONE


@dataclass(frozen=True)
class CancelJob:
    """Cancel a run's Slurm job. What it saved stays.

    roboref train cancel out/run
    """

    run: tyro.conf.Positional[Path]
    """The run's folder."""

    def __call__(self) -> int:
        from offline.train.slurm import cancel

        print(f"cancelled job {cancel(self.run)}")
        return ExitStatus.DONE


main = CommandTable(
    "roboref train",
    {
        "run": ("offline.train.cli:RunPlan", "train by a plan; go on where an earlier run of it stopped"),
        "rft": ("offline.train.cli:Reinforce", "reinforcement fine-tuning (GRPO) of a fine-tuned model"),
        "check": ("offline.train.cli:CheckPlan", "look at one batch of every stage before anything is spent on it"),
        "estimate": ("offline.train.cli:EstimateRun", "memory per GPU and time per step, before anything runs"),
        "inspect": ("offline.train.cli:InspectRun", "look at what a run left: curve, checkpoints, what changed"),
        "preset": ("offline.train.cli:ShowPreset", "print a preset, or the list of them"),
        "refspatial": ("offline.train.cli:RegisterRefSpatial", "print the registry of a RefSpatial tree"),
        "robointer": ("offline.train.robointer:RoboInter", "write the plan of RoboInter-VLM's recipe"),
        "slurm": ("offline.train.cli:WriteJob", "write, and submit, the batch script of a run"),
        "status": ("offline.train.cli:ShowStatus", "where a run stands"),
        "cancel": ("offline.train.cli:CancelJob", "cancel a run's Slurm job"),
    },
    example="roboref train check plan.yaml",
)

if __name__ == "__main__":
    raise SystemExit(main())
