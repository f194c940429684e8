"""The training loop: one segment of a plan, step by step, from a position to its end or until it is asked to stop.

Samples come in an order of their own, from the position on; the loss is per label token over the whole global step;
the learning rate is a function of the global step; checkpoints are whole or not there, and hold the model in its
published layout.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from roboref_core.models.roborefer.asking import Asking
from roboref_core.progress import Progress
from roboref_core.seeds import rng_of
from safetensors.torch import save_file

from offline.train import checkpoints
from offline.train.batches import Quarantine, SegmentBatches
from offline.train.checkpoints import PARTIAL, Position
from offline.train.dataset import TrainBatch, TrainData
from offline.train.engine import Engine, open_engine
from offline.train.evaluation import Evaluator, best_step
from offline.train.metrics import MetricLog
from offline.train.network import ADAPTER, Network, adapter_state, merged
from offline.train.objective import Objective, Supervised
from offline.train.plan import Plan, Schedule, Segment, dump_plan
from offline.train.preemption import StopRequest
from offline.train.ranks import Ranks
from offline.train.registry import terms_of
from offline.train.run_folder import RunFolder
from offline.train.speed import SpeedMeter


@dataclass(frozen=True)
class Work:
    """What a segment is trained with.

    Attributes:
        schedule: of the run.
        segment: the one to train.
        data: by stage index, of all stages.
        position: where it starts.
        folder: of the run.
        ranks: this process and the others.
    """

    schedule: Schedule
    segment: Segment
    data: dict[int, TrainData]
    position: Position
    folder: RunFolder
    ranks: Ranks

    @property
    def plan(self) -> Plan:
        return self.schedule.plan


class SegmentLoop:
    """Trains one segment.

    Args:
        network: loaded from the base checkpoint or from the one to go on from.
        stop: checked by all ranks after each step.
        checkpoint: whose optimizer state it goes on from, if any.
        objective: made for the engine; supervised by default.
    Attributes:
        position: after the last step.
        preempted: whether it stopped before the run's end.
    """

    def __init__(
        self,
        work: Work,
        network: Network,
        stop: StopRequest,
        checkpoint: Path | None = None,
        objective: Callable[[Engine], Objective] | None = None,
    ):
        self.work, self.position, self.preempted = work, work.position, False
        plan, ranks = work.plan, work.ranks
        self._evaluator = self._make_evaluator(network)
        # DeepSpeed's state is cut for as many ranks as wrote it.
        recut = checkpoint is not None and work.position.world != ranks.world
        self.engine = open_engine(plan, network, ranks, recut)
        if checkpoint is not None:
            self.engine.load(checkpoint, ranks, work.position.world)
        self._stop = stop
        self._objective = objective(self.engine) if objective is not None else Supervised(ranks)
        self._speed = SpeedMeter(network, plan.peak_tflops, ranks.device)
        self._quarantine = Quarantine(plan.output, plan.max_corrupt)
        self._log = MetricLog(plan) if ranks.first else None
        self._losses: list[float] = []

    def _make_evaluator(self, network: Network) -> Evaluator | None:
        plan = self.work.plan
        if plan.evaluation is None:
            return None
        stage = plan.stages[self.work.segment.stages[-1]]
        options = network.family.answer_options(terms_of(plan, stage)[0].entry.convention)
        return Evaluator(plan.evaluation, plan.output, network.family.backend, options)

    def train(self) -> None:
        """Every step from the position on."""
        work, plan = self.work, self.work.plan
        batches = iter(SegmentBatches(plan, work.segment, work.data, self.position, work.ranks))
        self.engine.network.train()
        if self.position.step == 0:
            self._evaluate(plan.model)
        bar = Progress(total=work.segment.end, initial=self.position.step, unit="step", disable=None)
        while self.position.step < work.segment.end and not self.preempted:
            start = time.perf_counter()
            step = next(batches)
            self._speed.add(step, time.perf_counter() - start)
            self._quarantine.add(step, self.position.step)
            norm = self._step(step)
            self.position = self.position.after(plan.batch)
            bar.update()
            done = self.position.step
            if self._stop.agreed(work.ranks.device):
                self.preempted = done < work.schedule.until[-1]
            if done % plan.log_every == 0:
                self._write_figures(norm)
            if self.preempted or done % plan.save_every == 0 or done == work.segment.end:
                self.save()
        bar.close()

    def _step(self, batches: list[TrainBatch]) -> float:
        """One step. Returns the gradients' norm; the loss is noted for the log."""
        done = self.position.step
        # What is random within a step (dropout) depends on nothing before it: there is no state to save.
        torch.manual_seed(int(rng_of(self.work.plan.seed, "step", done, self.work.ranks.rank).integers(2**62)))
        rates = {part: self.work.schedule.lr(part, done) for part in self.engine.parts}
        total, norm, updates = 0.0, 0.0, 0
        for update in self._objective.updates(batches, done):
            for index, batch in enumerate(update.batches):
                last = index == len(update.batches) - 1
                loss = self.engine.accumulate(batch, update.num_items, update.loss, last)
                if not math.isfinite(loss):
                    raise ValueError(f"loss {loss} in step {done + 1}")
                total += loss
            norm, updates = self.engine.step(rates), updates + 1
        self._losses.append(total / max(1, updates))
        return norm

    def _write_figures(self, norm: float) -> None:
        plan, ranks, done = self.work.plan, self.work.ranks, self.position.step
        mean = ranks.sum(torch.tensor(sum(self._losses) / len(self._losses), dtype=torch.float64, device=ranks.device))
        self._losses = []
        rates = {f"lr_{part}": self.work.schedule.lr(part, done - 1) for part in self.engine.parts}
        figures = {"loss": float(mean) / ranks.world, "grad_norm": norm, **rates, **self._speed.report()}
        figures |= self._objective.figures() | {"quarantined": self._quarantine.count}
        if self._log is not None:
            self._log.write(done, figures)
        if done == plan.log_every and ranks.first:
            Progress.write(f"step {done}: loss {figures['loss']:.4f}, {figures['samples_per_second']:.1f} samples/s")

    def save(self) -> None:
        """Writes the checkpoint of the position, evaluates it, and removes old ones."""
        work, plan, ranks = self.work, self.work.plan, self.work.ranks
        network, folder = self.engine.network, work.folder.path / PARTIAL
        state = self.engine.state()
        if ranks.first:
            folder.mkdir()
            published = merged(state, plan.lora)
            network.family.write(network.model, published, plan.model, folder / "model", plan.image_aspect_ratio)
            terms = [term for stage in plan.stages for term in terms_of(plan, stage)]
            with_depth = any(term.entry.depth_root is not None for term in terms)
            Asking(depth=with_depth, plan=plan.model_dump(mode="json")).save(folder / "model")
            if plan.lora is not None:
                kept = adapter_state(state, network.family)
                save_file({name: tensor.cpu().contiguous() for name, tensor in kept.items()}, folder / ADAPTER)
            checkpoints.write_position(folder, replace(self.position, world=ranks.world))
            (folder / checkpoints.PLAN).write_text(dump_plan(plan))
        del state
        ranks.barrier()
        self.engine.save(folder, ranks)
        ranks.barrier()
        if ranks.first:
            target = work.folder.claim(f"checkpoint-{self.position.step}")
            checkpoints.seal(folder, target)
            # Who was asked to stop has no time to lose.
            if not self.preempted:
                self._evaluate(target / "model")
            work.folder.rotate(plan.keep, best_step(work.folder.path))
        ranks.barrier()

    def _evaluate(self, model: Path) -> None:
        """The evaluation's figures of a model, by the first rank."""
        if self._evaluator is not None and self._log is not None:
            self._log.write(self.position.step, self._evaluator.evaluate(model, self.position.step))

    def close(self) -> None:
        """Frees the engine and closes the log."""
        self.engine.close()
        if self._log is not None:
            self._log.close()
