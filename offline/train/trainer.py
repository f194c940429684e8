"""The Hugging Face Trainer, for one segment of a plan.

What differs from the stock Trainer: samples come in an order of their own, from the position on; the loss is per
label token over the whole global step; the learning rate is a function of the global step; checkpoints are whole or
not there, and hold the model in its published layout.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import distributed, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.deepspeed import unset_hf_deepspeed_config
from transformers.trainer_utils import SaveStrategy

from offline.train import checkpoints
from offline.train.checkpoints import PARTIAL, Position
from offline.train.dataset import TrainBatch, TrainData, collator
from offline.train.evaluation import Evaluator, best_step
from offline.train.families.base import Family
from offline.train.network import ADAPTER, Network, adapter_state, merged
from offline.train.order import split
from offline.train.plan import Plan, Schedule, Segment, dump_plan
from offline.train.preemption import StopRequest, ignore_in_worker
from offline.train.registry import terms_of
from offline.train.resharding import drop_universal, to_universal
from offline.train.speed import SpeedMeter

DEEPSPEED = Path(__file__).parent / "deepspeed"
LOG = "log.jsonl"
QUARANTINE = "quarantine.jsonl"
# Below this many samples, a share of unusable ones says nothing.
_FEW = 10


@dataclass(frozen=True)
class Work:
    """What a segment is trained with.

    Attributes:
        schedule: of the run.
        segment: the one to train.
        data: by stage index, of all stages.
        position: where it starts.
        source: base checkpoint, whose layout is kept.
    """

    schedule: Schedule
    segment: Segment
    data: dict[int, TrainData]
    position: Position
    source: Path

    @property
    def plan(self) -> Plan:
        return self.schedule.plan


class SegmentTrainer(Trainer):
    """Trains one segment from a position to its end, or until it is asked to stop.

    Args:
        network: loaded from the base checkpoint or from the one to go on from.
        stop: checked by all ranks after each step.
        checkpoint: whose optimizer state it will go on from, if any.
    Attributes:
        position: after the last step.
        preempted: whether it stopped before the segment's end.
    """

    def __init__(self, work: Work, network: Network, stop: StopRequest, checkpoint: Path | None = None):
        self.work, self.position, self.preempted = work, work.position, False
        plan = work.plan
        # DeepSpeed's state is cut for as many ranks as wrote it.
        self._cut_anew = checkpoint is not None and bool(plan.zero) and work.position.world != world_size()
        self._evaluator = self._make_evaluator(network.family)
        arguments = training_arguments(plan, work.segment, universal=self._cut_anew)
        if plan.gradient_checkpointing:
            network.checkpoint_activations(reentrant=plan.zero == 3)
        super().__init__(model=network, args=arguments)
        # Else every model that this process makes from here on, to save one or for the next segment, is cut for ZeRO-3.
        unset_hf_deepspeed_config()
        self.network = network
        self.model_accepts_loss_kwargs = True
        self._speed = SpeedMeter(network, plan.peak_tflops, self.args.device)
        self._seen = self._corrupt = 0
        self.add_callback(_Steps(self, stop))
        if self._cut_anew:
            if self.args.should_save:
                to_universal(checkpoint)
            self._barrier()

    def _make_evaluator(self, family: Family) -> Evaluator | None:
        plan = self.work.plan
        if plan.evaluation is None:
            return None
        stage = plan.stages[self.work.segment.stages[-1]]
        options = family.answer_options(terms_of(plan, stage)[0].entry.convention)
        return Evaluator(plan.evaluation, plan.output, family.backend, options)

    # Data.

    def get_train_dataloader(self) -> DataLoader:
        plan = self.work.plan
        reader = self.work.data[self.work.segment.stages[0]].reader
        return DataLoader(
            _ByStage(self.work.data),
            batch_sampler=_Batches(self.work, self.args.process_index, self.args.world_size),
            collate_fn=collator(reader),
            num_workers=plan.workers,
            worker_init_fn=ignore_in_worker,
        )

    def get_batch_samples(
        self, epoch_iterator: Iterator[TrainBatch], num_batches: int, device: torch.device
    ) -> tuple[list[TrainBatch], torch.Tensor]:
        """The micro-batches of one step, and the label tokens of the global step."""
        start = time.perf_counter()
        batches = [next(epoch_iterator) for _ in range(num_batches)]
        self._speed.add(batches, time.perf_counter() - start)
        self._quarantine(batches)
        items = torch.tensor(sum(batch.supervised for batch in batches), device=device)
        if self.args.world_size > 1:
            distributed.all_reduce(items)
        return batches, items

    def _quarantine(self, batches: list[TrainBatch]) -> None:
        problems = [problem for batch in batches for problem in batch.problems]
        self._seen += sum(batch.samples for batch in batches)
        self._corrupt += len(problems)
        if not problems:
            return
        with open(self.run / QUARANTINE, "a", encoding="utf-8") as file:
            for problem in problems:
                file.write(json.dumps({"step": self.state.global_step, "problem": problem}) + "\n")
        limit = max(_FEW, self._seen) * self.work.plan.max_corrupt
        if self._corrupt > limit:
            raise ValueError(
                f"{self._corrupt} unusable samples among {self._seen} on this rank, max_corrupt is "
                f"{self.work.plan.max_corrupt}; the last: {problems[-1]} (all: {self.run / QUARANTINE})"
            )

    def _prepare_inputs(self, inputs: TrainBatch) -> TrainBatch:
        return inputs

    def _track_num_input_tokens(self, inputs: TrainBatch) -> None:
        pass

    def floating_point_ops(self, inputs: TrainBatch) -> int:
        return 0

    # Step.

    def compute_loss(
        self,
        model: nn.Module,
        inputs: TrainBatch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        # Gradients are averaged over ranks, but the loss is a sum over the whole step.
        loss = model(inputs.batch, num_items_in_batch) * self.args.world_size
        if not math.isfinite(loss.item()):
            raise ValueError(f"loss {loss.item()} in step {self.state.global_step + 1}")
        return loss

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        plan = self.work.plan
        groups, self._group_parts = [], []
        for part in self.network.parts:
            named = self.network.learning(part)
            decayed = [p for name, p in named if p.ndim > 1 and plan.weight_decay]
            kept = {id(p) for p in decayed}
            for members, decay in ((decayed, plan.weight_decay), ([p for _, p in named if id(p) not in kept], 0.0)):
                if members:
                    # LambdaLR multiplies it by the learning rate itself.
                    groups.append({"params": members, "weight_decay": decay, "lr": 1.0})
                    self._group_parts.append(part)
        if plan.offload:
            from deepspeed.ops.adam import DeepSpeedCPUAdam

            self.optimizer = DeepSpeedCPUAdam(groups, betas=(0.9, 0.999))
        else:
            self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999))
        self._group_settings = [
            {key: value for key, value in group.items() if key != "params"} for group in self.optimizer.param_groups
        ]
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        if self.lr_scheduler is None:
            schedule, start = self.work.schedule, self.work.segment.start
            rates = [
                lambda done, part=part: schedule.lr(part, min(start + done, self.work.segment.end - 1))
                for part in self._group_parts
            ]
            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, rates)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _get_learning_rate(self) -> dict[str, float]:
        rates = self.lr_scheduler.get_last_lr()
        return dict(zip(self._group_parts, rates, strict=True))

    # State.

    @property
    def run(self) -> Path:
        return Path(self.args.output_dir)

    def _init_training_state(self, *arguments: Any, **options: Any) -> tuple[int, int]:
        result = super()._init_training_state(*arguments, **options)
        self.state.global_step = self.position.step
        return result

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if isinstance(rates := logs.get("learning_rate"), dict):
            del logs["learning_rate"]
            logs |= {f"lr_{part}": rate for part, rate in rates.items()} | self._speed.report()
            logs["quarantined"] = self._corrupt
        if self.is_world_process_zero():
            with open(self.run / LOG, "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": self.state.global_step, **logs}) + "\n")
        super().log(logs, start_time)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Nothing: the weights were loaded before, as every other reader loads them."""

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if self._cut_anew:
            # DeepSpeed takes the first group's settings for those of all groups, and under ZeRO-3 lets all tensors
            # count their steps in one and the same number, which then runs ahead.
            for state in self.deepspeed.basic_optimizer.state.values():
                if isinstance(state.get("step"), torch.Tensor):
                    state["step"] = state["step"].clone()
            for group, settings, rate in zip(
                self.optimizer.param_groups, self._group_settings, self.lr_scheduler.get_last_lr(), strict=True
            ):
                group.update(settings, lr=rate)
            self._barrier()
            if self.args.should_save:
                drop_universal(Path(checkpoint))

    def _save_checkpoint(self, model: nn.Module, trial: None) -> None:
        folder = self.run / PARTIAL
        state = self._gathered_state(model)
        if self.args.should_save:
            folder.mkdir()
            published = merged(state, self.work.plan.lora)
            aspect = self.work.plan.image_aspect_ratio
            family = self.network.family
            family.write(self.network.model, published, self.work.source, folder / "model", aspect)
            if self.work.plan.lora is not None:
                kept = adapter_state(state, family)
                save_file({name: tensor.cpu().contiguous() for name, tensor in kept.items()}, folder / ADAPTER)
            checkpoints.write_position(folder, replace(self.position, world=self.args.world_size))
            (folder / checkpoints.PLAN).write_text(dump_plan(self.work.plan))
        del state
        self._barrier()
        self._save_optimizer_and_scheduler(str(folder))
        self._save_rng_state(str(folder))
        if self.args.should_save:
            self.state.save_to_json(str(folder / "trainer_state.json"))
        self._barrier()
        if self.args.should_save:
            target = checkpoint_path(self.run, self.position.step)
            checkpoints.seal(folder, target)
            # Who was asked to stop has no time to lose.
            if self._evaluator is not None and not self.preempted:
                self.log(self._evaluator.evaluate(target / "model", self.position.step))
            checkpoints.rotate(self.run, self.work.plan.keep, best_step(self.run))
        self._barrier()

    def _gathered_state(self, model: nn.Module) -> dict[str, torch.Tensor]:
        """Whole tensors under the network's names, on the first rank; others may get less."""
        if self.is_deepspeed_enabled:
            return self.accelerator.get_state_dict(self.model_wrapped) or {}
        return self.network.state_dict()

    def _barrier(self) -> None:
        if self.args.world_size > 1:
            distributed.barrier()


class _Steps(TrainerCallback):
    """After each step: the position moves on, and all ranks ask each other whether to stop."""

    def __init__(self, trainer: SegmentTrainer, stop: StopRequest):
        self._trainer, self._stop = trainer, stop

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        trainer = self._trainer
        trainer.position = trainer.position.after(trainer.work.plan.batch)
        if self._stop.agreed(args.device):
            trainer.preempted = state.global_step < trainer.work.schedule.until[-1]
            control.should_save = control.should_training_stop = True


class _ByStage(torch.utils.data.Dataset):
    """Keys are (stage, data set, index)."""

    def __init__(self, data: dict[int, TrainData]):
        self._data = data

    def __getitem__(self, key: tuple[int, str, int]):
        stage, name, index = key
        return self._data[stage][name, index]


class _Batches:
    """This rank's micro-batches, as keys, from the position to the segment's end."""

    def __init__(self, work: Work, rank: int, world: int):
        self._work, self._rank, self._world = work, rank, world

    def __iter__(self) -> Iterator[list[tuple[int, str, int]]]:
        plan, position = self._work.plan, self._work.position
        stage, samples = -1, iter(())
        while position.step < self._work.segment.end:
            if position.stage != stage:
                stage = position.stage
                samples = self._work.data[stage].order.samples(position.consumed)
            keys = [(stage, *next(samples)) for _ in range(plan.batch)]
            yield from split(keys, self._rank, self._world, plan.micro_batch)
            position = position.after(plan.batch)


def world_size() -> int:
    """Ranks of this run."""
    return int(os.environ.get("WORLD_SIZE", 1))


def training_arguments(plan: Plan, segment: Segment, universal: bool = False) -> TrainingArguments:
    """``universal``: DeepSpeed goes on from a universal checkpoint."""
    world = world_size()
    if plan.batch % (world * plan.micro_batch):
        raise ValueError(
            f"batch {plan.batch} does not divide into {world} ranks of micro-batches of {plan.micro_batch}"
        )
    # The one way to tell the Trainer's TensorBoard callback.
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(plan.output / "tensorboard")
    return TrainingArguments(
        output_dir=str(plan.output),
        max_steps=segment.end,
        per_device_train_batch_size=plan.micro_batch,
        gradient_accumulation_steps=plan.batch // (world * plan.micro_batch),
        max_grad_norm=plan.max_grad_norm,
        logging_steps=plan.log_every,
        logging_nan_inf_filter=False,
        save_strategy=SaveStrategy.STEPS,
        save_steps=plan.save_every,
        bf16=plan.precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
        deepspeed=deepspeed_config(plan, universal) if plan.zero else None,
        report_to=list(plan.report_to),
        ignore_data_skip=True,
        remove_unused_columns=False,
        seed=plan.seed,
        disable_tqdm=not os.isatty(2),
        ddp_find_unused_parameters=False,
    )


def deepspeed_config(plan: Plan, universal: bool) -> dict[str, Any]:
    name = f"zero{plan.zero}{'_offload' if plan.offload else ''}.json"
    config = json.loads((DEEPSPEED / name).read_text())
    return {**config, "checkpoint": {"load_universal": universal}}


def checkpoint_path(run: Path, step: int) -> Path:
    return run / f"checkpoint-{step}"
