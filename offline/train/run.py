"""A whole run: stages one after the other, from the last whole checkpoint, to the model in its published layout."""

from __future__ import annotations

import gc
import json
import math
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from enum import Enum
from pathlib import Path

from roboref_core.atomic import sole_writer, write_text
from torch import distributed

from offline.train import checkpoints
from offline.train.checkpoints import Position
from offline.train.compile_locks import free_abandoned
from offline.train.dataset import TrainData
from offline.train.engine import Engine
from offline.train.families import family_of
from offline.train.loop import SegmentLoop, Work
from offline.train.metrics import check_reporting
from offline.train.network import load_network
from offline.train.objective import Objective
from offline.train.plan import Plan, Schedule, differences, load_plan
from offline.train.preemption import StopRequest
from offline.train.ranks import Ranks, join
from offline.train.registry import terms_of
from offline.train.rft.objective import PolicyObjective, reference_policy
from offline.train.run_folder import LOG, MODEL, PREEMPTED, RunFolder


class Outcome(Enum):
    """How a run ended."""

    FINISHED = "finished"
    PREEMPTED = "preempted"


def run(plan: Plan) -> Outcome:
    """Train, or go on training, until the plan is done or a signal asks to stop.

    Every process of a distributed run calls it. The run's folder then holds ``checkpoint-N``, ``log.jsonl``, and at
    the end ``model/``.

    Raises ValueError if the plan does not fit the data or what the run's folder holds, or if another process writes
    to that folder.
    """
    with StopRequest() as stop:
        check_reporting(plan)
        folder = RunFolder(plan.output)
        folder.check(plan)
        if folder.finished:
            return Outcome.FINISHED
        ranks = join(bool(plan.zero))
        with sole_writer(plan.output, "roboref train run") if ranks.first else nullcontext():
            if ranks.first:
                folder.take(plan)
            return _train(plan, folder, ranks, stop)


def _train(plan: Plan, folder: RunFolder, ranks: Ranks, stop: StopRequest) -> Outcome:
    if ranks.first:
        folder.remove(PREEMPTED)
    if plan.zero and int(os.environ.get("LOCAL_RANK", 0)) == 0:
        free_abandoned()
    data = stage_data(plan)
    schedule, position, checkpoint = resume_point(plan, data)
    ranks.barrier()
    if ranks.first:
        folder.clean()
        _cut_log(plan.output / LOG, position.step)
    while (segment := schedule.segment_at(position.step)) is not None:
        outcome, position = _segment(Work(schedule, segment, data, position, folder, ranks), checkpoint, stop)
        checkpoint = plan.output / f"checkpoint-{position.step}"
        if outcome is Outcome.PREEMPTED:
            if ranks.first:
                folder.claim(PREEMPTED).touch()
            return outcome
    if ranks.first:
        assert checkpoint is not None, "a plan has at least one step"
        folder.remove(MODEL)
        family_of(plan.model).publish(checkpoint / MODEL, plan.model, folder.claim(MODEL))
        folder.finish()
    ranks.barrier()
    return Outcome.FINISHED


def stage_data(plan: Plan) -> dict[int, TrainData]:
    """The samples of each stage, with the model's own preprocessing."""
    reader = family_of(plan.model).reader(plan)
    return {
        index: TrainData(
            terms_of(plan, stage), reader, plan.seed, stage.name, plan.window, plan.group, plan.rft is not None
        )
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


def resume_point(plan: Plan, data: dict[int, TrainData]) -> tuple[Schedule, Position, Path | None]:
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
    loop = SegmentLoop(work, network, stop, within, _objective(work) if work.plan.rft is not None else None)
    loop.train()
    outcome = Outcome.PREEMPTED if loop.preempted else Outcome.FINISHED
    position = loop.position
    loop.close()
    del loop, network
    gc.collect()
    return outcome, position


def _objective(work: Work) -> Callable[[Engine], Objective]:
    """Reinforcement fine-tuning, for the engine that will learn."""
    reference = reference_policy(work.plan, family_of(work.plan.model), work.ranks.device)
    return lambda engine: PolicyObjective(work.schedule, engine, reference, work.data, work.ranks)


def _cut_log(log: Path, step: int) -> None:
    """Drops lines of steps that are made again."""
    if not log.is_file():
        return
    lines = [line for line in log.read_text().splitlines() if _step(line) <= step]
    write_text(log, "".join(f"{line}\n" for line in lines))


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
