"""A whole run: stages one after the other, from the last whole checkpoint, to the model in its published layout."""

from __future__ import annotations

import gc
import json
import math
import os
import sys
from enum import Enum
from pathlib import Path

from torch import distributed

from offline.train import checkpoints
from offline.train.checkpoints import Position
from offline.train.compile_locks import free_abandoned
from offline.train.dataset import TrainData
from offline.train.families import family_of
from offline.train.network import load_network
from offline.train.plan import Plan, Schedule, differences, load_plan
from offline.train.preemption import StopRequest
from offline.train.registry import terms_of
from offline.train.trainer import LOG, SegmentTrainer, Work, checkpoint_path

MODEL = "model"
PREEMPTED = "preempted"


class Outcome(Enum):
    """How a run ended."""

    FINISHED = "finished"
    PREEMPTED = "preempted"


def run(plan: Plan) -> Outcome:
    """Train, or go on training, until the plan is done or a signal asks to stop.

    Every process of a distributed run calls it. The run's folder then holds ``checkpoint-N``, ``log.jsonl``, and at
    the end ``model/``.

    Raises ValueError if the plan does not fit the data or the checkpoint in the run's folder.
    """
    with StopRequest() as stop:
        if (plan.output / MODEL).exists():
            if whole := checkpoints.find(plan.output):
                _same_plan(whole[-1], plan)
            return Outcome.FINISHED
        first = int(os.environ.get("RANK", 0)) == 0
        if first:
            plan.output.mkdir(parents=True, exist_ok=True)
            (plan.output / PREEMPTED).unlink(missing_ok=True)
        if plan.zero and int(os.environ.get("LOCAL_RANK", 0)) == 0:
            free_abandoned()
        data = stage_data(plan)
        schedule, position, checkpoint = where(plan, data)
        if first:
            checkpoints.clean(plan.output)
            _cut_log(plan.output / LOG, position.step)
        while (segment := schedule.segment_at(position.step)) is not None:
            outcome, position = _segment(Work(schedule, segment, data, position, plan.model), checkpoint, stop)
            checkpoint = checkpoint_path(plan.output, position.step)
            if outcome is Outcome.PREEMPTED:
                if first:
                    (plan.output / PREEMPTED).touch()
                return outcome
        if first:
            family_of(plan.model).publish(checkpoint / MODEL, plan.model, plan.output / MODEL)
        if distributed.is_initialized():
            distributed.barrier()
        return Outcome.FINISHED


def stage_data(plan: Plan) -> dict[int, TrainData]:
    """The samples of each stage, with the model's own preprocessing."""
    reader = family_of(plan.model).reader(plan)
    return {
        index: TrainData(terms_of(plan, stage), reader, plan.seed, stage.name, plan.window, plan.group)
        for index, stage in enumerate(plan.stages)
    }


def resolve(plan: Plan, data: dict[int, TrainData]) -> Schedule:
    """A plan with epochs made steps."""
    until, end = [], 0
    for index, stage in enumerate(plan.stages):
        steps = math.ceil((stage.epochs or 0) * data[index].order.epoch_size / plan.batch)
        end = stage.until_step if stage.until_step is not None else end + steps
        until.append(end)
    return Schedule(plan, tuple(until))


def where(plan: Plan, data: dict[int, TrainData]) -> tuple[Schedule, Position, Path | None]:
    """The schedule, and the position and checkpoint to go on from.

    Raises ValueError if the plan is not the one that the checkpoint was made by.
    """
    whole = checkpoints.find(plan.output)
    if not whole:
        schedule = resolve(plan, data)
        return schedule, Position(0, 0, 0, schedule.until), None
    checkpoint = whole[-1]
    position = checkpoints.read_position(checkpoint)
    _same_plan(checkpoint, plan)
    return Schedule(plan, position.until), position, checkpoint


def _same_plan(checkpoint: Path, plan: Plan) -> None:
    if found := differences(load_plan(checkpoint / checkpoints.PLAN), plan):
        raise ValueError(f"{checkpoint} was made by another plan: {'; '.join(found)}. Use another output folder")


def _segment(work: Work, checkpoint: Path | None, stop: StopRequest) -> tuple[Outcome, Position]:
    stage = work.plan.stages[work.segment.stages[0]]
    network = load_network(work.plan, stage.train, checkpoint)
    # At a segment's first step the optimizer is new; only weights are taken over.
    within = checkpoint if work.position.step > work.segment.start else None
    trainer = SegmentTrainer(work, network, stop, within)
    trainer.train(resume_from_checkpoint=str(within) if within else None)
    outcome = Outcome.PREEMPTED if trainer.preempted else Outcome.FINISHED
    position = trainer.position
    if trainer.is_deepspeed_enabled:
        trainer.deepspeed.destroy()
    trainer.accelerator.free_memory()
    del trainer, network
    gc.collect()
    return outcome, position


def _cut_log(log: Path, step: int) -> None:
    """Drops lines of steps that are made again."""
    if not log.is_file():
        return
    lines = [line for line in log.read_text().splitlines() if _step(line) <= step]
    part = log.with_suffix(".part")
    part.write_text("".join(f"{line}\n" for line in lines))
    part.replace(log)


def _step(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):
        return math.inf


def leave(status: int) -> None:
    """End a distributed process whose work is done.

    Two gloo processes may abort in their destructors after all is done ("terminate called without an active
    exception"): so all wait for each other, and then leave without destructors.
    """
    if not distributed.is_initialized():
        return
    distributed.barrier()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
