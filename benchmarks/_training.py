"""The project's training step against the stock Trainer's, on the same weights, batches and optimizer settings.

The stock side is transformers' Trainer as one would use it with this model: padded rows, one forward with labels
through `Qwen2ForCausalLM`, whole logits. Both train for real; the losses of their first step must agree.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
import yaml
from roboref_core.models.roborefer.checkpoint.random import Shape, write_random_checkpoint
from roboref_core.models.roborefer.network.model import RoboReferModel
from torch import nn
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from offline.files import write_picture
from offline.train.checkpoints import Position
from offline.train.dataset import TrainBatch, collator
from offline.train.families.roborefer.loss import embed_batch
from offline.train.loop import SegmentLoop, Work
from offline.train.network import Network, load_network
from offline.train.plan import Plan, load_plan
from offline.train.preemption import StopRequest
from offline.train.ranks import join
from offline.train.run import resolve, stage_data
from offline.train.run_folder import RunFolder
from offline.train.speed import FlopCounter


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        micro_batch: samples per pass; every step is one pass.
        steps: timed ones, after ``warm`` others.
        size: size of the two pictures of each sample [pixel].
        peak_tflops: peak of the device [TFLOPS]; 0 leaves utilisation out.
    """

    shape: Shape
    micro_batch: int = 8
    steps: int = 10
    warm: int = 3
    size: tuple[int, int] = (448, 448)
    precision: str = "fp32"
    lora: bool = False
    gradient_checkpointing: bool = False
    peak_tflops: float = 0.0


@dataclass(frozen=True)
class Speed:
    """One side's result. ``tokens``: positions per second; ``memory``: peak [GB]."""

    name: str
    loss: float
    samples: float
    tokens: float
    mfu: float | None
    memory: float | None

    def row(self, baseline: Speed) -> str:
        mfu = "" if self.mfu is None else f"{self.mfu:.1%}"
        memory = "" if self.memory is None else f"{self.memory:.1f}"
        return (
            f"| {self.name} | {self.samples:.2f} | {self.tokens:.0f} | {self.samples / baseline.samples:.2f} | "
            f"{mfu} | {memory} |"
        )


HEADER = "| | samples/s | positions/s | faster | MFU | peak memory [GB] |\n|---|---|---|---|---|---|"


class _Clock(TrainerCallback):
    """Time of the steps after the warm-up; ends the run after them."""

    def __init__(self, case: Case):
        self._case, self.seconds = case, 0.0

    def on_step_end(self, args, state, control, **_):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if state.global_step == self._case.warm:
            self._start = time.perf_counter()
        if state.global_step == self._case.warm + self._case.steps:
            self.seconds = time.perf_counter() - self._start
            control.should_training_stop = True
        control.should_save = False


class _Stock(nn.Module):
    """Padded rows, one call with labels."""

    def __init__(self, network: Network):
        super().__init__()
        self.network = network

    def forward(self, batch: TrainBatch) -> dict[str, torch.Tensor]:
        model = cast(RoboReferModel, self.network.model)
        rows = embed_batch(model, batch.batch)
        pad = nn.utils.rnn.pad_sequence
        embeddings = pad([row.embeddings for row in rows], batch_first=True)
        labels = pad([row.labels for row in rows], batch_first=True, padding_value=-100)
        mask = pad([torch.ones_like(row.labels) for row in rows], batch_first=True)
        return {"loss": model.llm(inputs_embeds=embeddings, attention_mask=mask, labels=labels).loss}


class _StockTrainer(Trainer):
    def __init__(self, batches: Sequence[TrainBatch], **options):
        super().__init__(**options)
        self._batches = batches

    def get_train_dataloader(self) -> DataLoader:
        return DataLoader(cast(Dataset, self._batches), batch_size=1, collate_fn=lambda found: {"batch": found[0]})

    def _save_checkpoint(self, model, trial) -> None:
        pass


class _Ours(SegmentLoop):
    """Steps without checkpoints and logs; ``ends`` and ``losses`` of each."""

    ends: list[float]
    losses: list[float]

    def _step(self, batches: list) -> float:
        norm = super()._step(batches)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())
        self.losses.append(self._losses[-1])
        return norm

    def _write_figures(self, norm: float) -> None:
        pass

    def save(self) -> None:
        pass


def compare(case: Case, seed: int = 0) -> list[Speed]:
    """Stock first. Raises SystemExit if the first losses differ."""
    with tempfile.TemporaryDirectory() as folder:
        plan = _project(Path(folder), case, seed)
        data = stage_data(plan)
        position = Position(0, 0, 0, resolve(plan, data).until)
        schedule = resolve(plan, data)
        work = Work(schedule, schedule.segments[0], data, position, RunFolder(plan.output), join(sharded=False))
        keys = [
            key
            for _, key in zip(
                range(case.micro_batch * (case.warm + case.steps)), data[0].order.samples(0), strict=False
            )
        ]
        collate = collator(data[0].reader)
        batches = [
            collate([data[0][key] for key in keys[i : i + case.micro_batch]])
            for i in range(0, len(keys), case.micro_batch)
        ]
        return _check([_stock(case, plan, batches), _ours(case, plan, work, batches)])


def _check(found: list[Speed]) -> list[Speed]:
    stock, ours = found
    tolerance = 1e-3 if np.isclose(stock.loss, ours.loss, rtol=1e-3) else 2e-2
    if not np.isclose(stock.loss, ours.loss, rtol=tolerance):
        raise SystemExit(f"first losses differ: {stock.loss} of the stock Trainer, {ours.loss} of ours")
    return found


def _project(folder: Path, case: Case, seed: int) -> Plan:
    write_random_checkpoint(folder / "base", case.shape, seed=seed)
    rng = np.random.default_rng(seed)
    samples = []
    for index in range(case.micro_batch * 4):
        names = [f"{index}_{n}.jpg" for n in range(2)]
        for name in names:
            write_picture(folder / name, rng.integers(0, 255, (*case.size[::-1], 3), dtype=np.uint8))
        x, y = rng.random(2)
        samples.append(
            {
                "image": names,
                "conversations": [
                    {
                        "from": "human",
                        "value": "Where is the marked object in the second image? " * int(rng.integers(1, 6)),
                    },
                    {"from": "gpt", "value": f"[({x:.3f}, {y:.3f})]"},
                ],
            }
        )
    (folder / "data.json").write_text(json.dumps(samples))
    plan = {
        "model": "base",
        "output": "run",
        "data_path": "data.json",
        "image_folder": ".",
        "batch": case.micro_batch,
        "micro_batch": case.micro_batch,
        "precision": case.precision,
        "lora": {} if case.lora else None,
        "gradient_checkpointing": case.gradient_checkpointing,
        "report_to": [],
        "save_every": 10**6,
        "log_every": 1,
        "image_aspect_ratio": "resize",
        "lr_schedule": "constant",
        "warmup_ratio": 0.0,
        "group": 1,
        "stages": [
            {
                "name": "s",
                "until_step": case.warm + case.steps,
                "lr": 1e-5,
                "train": ["llm", "vision_tower", "mm_projector"],
            }
        ],
    }
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    return load_plan(folder / "plan.yaml")


def _network(plan: Plan) -> Network:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return load_network(plan, plan.stages[0].train, None)


def _stock(case: Case, plan: Plan, batches: Sequence[TrainBatch]) -> Speed:
    network, clock = _network(plan), _Clock(case)
    if case.gradient_checkpointing:
        network.checkpoint_activations(reentrant=False)
    arguments = TrainingArguments(
        output_dir=str(plan.output),
        max_steps=case.warm + case.steps,
        learning_rate=1e-5,
        report_to=[],
        lr_scheduler_type="constant",
        per_device_train_batch_size=1,
        bf16=case.precision == "bf16",
        logging_steps=1,
        use_cpu=not torch.cuda.is_available(),
        disable_tqdm=True,
        remove_unused_columns=False,
        save_strategy="no",
    )
    trainer = _StockTrainer(batches, model=_Stock(network), args=arguments, callbacks=[clock])
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    return _speed("transformers' Trainer", float(losses[0]), clock.seconds, case, network, batches)


def _ours(case: Case, plan: Plan, work: Work, batches: Sequence[TrainBatch]) -> Speed:
    network = _network(plan)
    plan.output.mkdir(exist_ok=True)
    with StopRequest() as stop:
        loop = _Ours(replace(work), network, stop)
        loop.ends, loop.losses = [], []
        loop.train()
    seconds = loop.ends[-1] - loop.ends[case.warm - 1]
    return _speed("ours", loop.losses[0], seconds, case, network, batches)


def _speed(
    name: str, loss: float, seconds: float, case: Case, network: Network, batches: Sequence[TrainBatch]
) -> Speed:
    timed = batches[case.warm :]
    flops = sum(FlopCounter(network).of(batch) for batch in timed)
    cuda = torch.cuda.is_available()
    return Speed(
        name=name,
        loss=loss,
        samples=sum(batch.samples for batch in timed) / seconds,
        tokens=sum(batch.text + batch.visual for batch in timed) / seconds,
        mfu=flops / seconds / (case.peak_tflops * 1e12) if case.peak_tflops else None,
        memory=torch.cuda.max_memory_allocated() / 1e9 if cuda else None,
    )
