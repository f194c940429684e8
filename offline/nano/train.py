"""Trains the small model from random weights: first the tower alone, then everything.

A step asks what (recipe, step) determine, so an interrupted run goes on from its last state; on one thread it ends with
the very weights of an uninterrupted one.
"""
from __future__ import annotations

import json
import math
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import tyro
from roboref_core.models.roborefer import calibration
from roboref_core.models.roborefer.checkpoint import materialise, open_checkpoint, save_checkpoint
from roboref_core.models.roborefer.model import RoboReferModel
from torch import nn
from tqdm import tqdm

from offline.nano.base import write_base
from offline.nano.batches import BatchMaker, NanoBatch
from offline.nano.losses import Network, TrainingHeads, Weights, fast_arithmetic
from offline.nano.muon import Muon
from offline.nano.pool import PoolConfig, chunk_folder, load_chunk, make_chunks, make_pool
from offline.nano.questions import Mix, Sampler
from offline.nano.tuning import measure
from sim.design import PALETTE
from sim.labels import LABELS

TUNING_POOL = PoolConfig(seed=3_000_000)
"""Rooms for choosing and calibrating; neither trained on nor reported on."""


@dataclass(frozen=True)
class Recipe:
    """How the model is trained.

    Attributes:
        start: folder of a checkpoint of this kind to go on from, instead of random weights.
        seed: of weights and questions.
        chunks: of the pool; a step draws from those that a run has had time to make: two at first, one more every
            ``chunk_every`` steps.
        first_chunk: number of the first of them; a run that goes on from a checkpoint can see rooms of its own.
        seen_steps, seen_views: first steps, which train the tower alone to tell objects, and their batch.
        steps: after those.
        views: per step; each is asked about five questions.
        matrix_lr: peak rate of Muon, for the matrices inside the blocks; scaled to the size of AdamW's updates.
        lr: peak rate of AdamW, for the rest.
        warmup: steps.
        decay_from: share of the steps after which the rate falls to zero linearly.
        depth_from: share of the steps after which some questions come with depth pictures; the depth tower starts as
            a copy of the colour tower then, unless training went on from a checkpoint.
        depth_share: how many.
    """

    start: str = ""
    seed: int = 0
    chunks: int = 24
    chunk_every: int = 60
    first_chunk: int = 0
    seen_steps: int = 300
    seen_views: int = 64
    steps: int = 4000
    views: int = 14
    matrix_lr: float = 3e-3
    lr: float = 2e-3
    warmup: int = 100
    decay_from: float = 0.6
    depth_from: float = 0.75
    depth_share: float = 0.3
    weight_decay: float = 0.01
    mix: Mix = field(default_factory=Mix)
    weights: Weights = field(default_factory=Weights)

    @property
    def chunk_numbers(self) -> range:
        return range(self.first_chunk, self.first_chunk + self.chunks)


@dataclass(frozen=True)
class Config:
    """Train the small model. Run again to go on.

    Attributes:
        out: pool, states, curve and model.
        save_every: steps between states.
        measure_every: steps between measurements on rooms kept for tuning.
        threads: of torch.
        workers: that render rooms.
    """

    out: Path = Path("out/nano")
    recipe: Recipe = field(default_factory=Recipe)
    save_every: int = 100
    measure_every: int = 250
    threads: int = 2
    workers: int = 2


class Trainer:
    """Model, optimisers and questions of one run."""

    def __init__(self, config: Config):
        self.config, self.recipe = config, config.recipe
        self.run = config.out / "run"
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        base = self.run / "base"
        if self.rank == 0 and not (base / "config.json").exists():
            self._make_base(base)
        if self.world > 1:
            dist.barrier()
        torch.manual_seed(self.recipe.seed)
        # Fused attention is slower here: its backward pass is not made for short rows on CPUs.
        self.model = materialise(open_checkpoint(base), torch.device("cpu"), torch.float32, "eager", for_training=True)
        kinds, colors = ({name: k for k, name in enumerate(names)} for names in (LABELS, PALETTE))
        llm, tower = self.model.config.llm, self.model.config.vision_tower
        self.heads = TrainingHeads(tower.hidden_size, llm.hidden_size, len(kinds), len(colors))
        self.sampler = Sampler([], self.recipe.mix)
        self.maker = BatchMaker(self.sampler.chunks, self.model, kinds, colors)
        self.network = Network(self.model, self.heads, self.maker.bin_ids)
        self.optimizers = _optimizers(self.model, self.heads, self.recipe)
        self.step = 0
        self.renderer: BaseProcess | None = None

    @property
    def total(self) -> int:
        return self.recipe.seen_steps + self.recipe.steps

    def rate(self, step: int) -> float:
        """Learning rate as a share of its peak."""
        recipe = self.recipe
        start = 0 if step < recipe.seen_steps else recipe.seen_steps
        warm = min(1.0, (step - start + 1) / recipe.warmup)
        done = max(0, step - recipe.seen_steps) / recipe.steps
        return warm * min(1.0, (1.0 - done) / (1.0 - recipe.decay_from))

    def available(self, step: int) -> int:
        """Chunks that a step draws from. Waits for one that is being made."""
        wanted = min(self.recipe.chunks, 2 + step // self.recipe.chunk_every)
        while len(self.sampler.chunks) < wanted:
            folder = chunk_folder(self.config.out / "pool", self.recipe.chunk_numbers[len(self.sampler.chunks)])
            if (folder / "facts.json").exists():
                self.sampler.add(load_chunk(folder))
                continue
            if self.renderer is not None and self.renderer.exitcode:
                raise ValueError(f"{folder} is missing: the process that makes it ended with {self.renderer.exitcode}")
            time.sleep(5)
        return wanted

    def batch(self, step: int) -> NanoBatch:
        """This rank's part of a step's questions."""
        recipe = self.recipe
        rng = np.random.default_rng((recipe.seed, step, self.rank, self.world))
        available = self.available(step)
        if step < recipe.seen_steps:
            return self.maker.make(self.sampler.views(recipe.seen_views // self.world, rng, available))
        questions = self.sampler.draw(max(1, recipe.views // self.world), rng, available)
        done = (step - recipe.seen_steps) / recipe.steps
        share = recipe.depth_share if done >= recipe.depth_from else 0.0
        return self.maker.make(questions, [bool(deep) for deep in rng.random(len(questions)) < share])

    def take_step(self) -> dict[str, float]:
        """One step; returns the parts of the loss."""
        recipe = self.recipe
        if not recipe.start and self.step == recipe.seen_steps + round(recipe.depth_from * recipe.steps):
            self._start_depth()
        batch = self.batch(self.step)
        with fast_arithmetic():
            if self.step < recipe.seen_steps:
                loss, parts = self.network.seen_loss(batch), {}
                parts["seen"] = float(loss.detach())
            else:
                loss, parts = self.network.losses(batch, recipe.weights)
        loss.backward()
        parameters = [p for p in (*self.model.parameters(), *self.heads.parameters()) if p.grad is not None]
        if self.world > 1:
            _average(parameters, self.world)
        norm = float(nn.utils.clip_grad_norm_(parameters, 1.0))
        if not math.isfinite(norm):
            raise ValueError(f"step {self.step}: the gradient is not finite")
        for optimizer, peak in zip(self.optimizers, (recipe.matrix_lr, recipe.lr), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = peak * self.rate(self.step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return parts | {"norm": norm}

    def _make_base(self, base: Path) -> None:
        partial = base.with_name("base.part")
        shutil.rmtree(partial, ignore_errors=True)
        if self.recipe.start:
            shutil.copytree(self.recipe.start, partial, ignore=shutil.ignore_patterns(calibration.FILE_NAME))
        else:
            write_base(partial, self.recipe.seed)
        partial.rename(base)

    def _start_depth(self) -> None:
        """As RoboRefer's depth encoder, this one starts as its image encoder."""
        self.model.part("depth_tower").load_state_dict(self.model.part("vision_tower").state_dict())
        self.model.depth_projector.load_state_dict(self.model.mm_projector.state_dict())

    # State -------------------------------------------------------------------------------------------------------

    def save(self) -> None:
        state = {
            "step": self.step,
            "recipe": asdict(self.recipe),
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        partial = self.run / "state.pt.part"
        torch.save(state, partial)
        partial.rename(self.run / "state.pt")

    def resume(self) -> None:
        """Goes on from the last state, if there is one. Raises ValueError if its recipe is another."""
        file = self.run / "state.pt"
        if not file.exists():
            return
        state = torch.load(file, weights_only=True)
        mine = asdict(self.recipe)
        if different := [key for key in mine if state["recipe"].get(key) != mine[key]]:
            raise ValueError(f"{file} was made with another recipe: {', '.join(different)}; choose another --out")
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        for optimizer, held in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(held)
        self.step = state["step"]

    def export(self, folder: Path) -> Path:
        """The model in the published layout, bf16."""
        shutil.rmtree(folder, ignore_errors=True)
        # A copy of its own: this one carries hooks that hold tensors of the last step.
        model = materialise(open_checkpoint(self.run / "base"), torch.device("cpu"), torch.bfloat16)
        model.load_state_dict(self.model.state_dict())
        save_checkpoint(model, self.run / "base", folder)
        return folder


def _optimizers(model: RoboReferModel, heads: TrainingHeads, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for embeddings, readouts, norms and biases."""
    matrices, rest = [], list(heads.parameters())
    for name, parameter in model.named_parameters():
        inside = ".layers." in name and parameter.ndim == 2
        (matrices if inside else rest).append(parameter)
    muon = Muon(matrices, lr=recipe.matrix_lr, weight_decay=recipe.weight_decay)
    return [muon, torch.optim.AdamW(rest, lr=recipe.lr, weight_decay=recipe.weight_decay, betas=(0.9, 0.98))]


def _average(parameters: Sequence[nn.Parameter], world: int) -> None:
    """Gradients become their mean over the ranks. All ranks run the same modules, so the lists agree."""
    flat = torch.cat([p.grad.flatten() for p in parameters])
    dist.all_reduce(flat)
    flat /= world
    start = 0
    for p in parameters:
        p.grad.copy_(flat[start : start + p.numel()].view_as(p))
        start += p.numel()


def train(config: Config) -> Path:
    """Trains to the end; returns the folder of the model."""
    torch.set_num_threads(config.threads)
    trainer = Trainer(config)
    trainer.resume()
    if trainer.rank == 0:
        trainer.renderer = render_beside(config)
    curve = config.out / "run" / "curve.jsonl"
    tuning = load_chunk(chunk_folder(config.out / "tuning_pool", 0))
    first, began, sums = trainer.step, time.monotonic(), {}
    bar = tqdm(total=trainer.total, initial=first, desc="steps", disable=trainer.rank > 0)
    while trainer.step < trainer.total:
        for name, value in trainer.take_step().items():
            sums.setdefault(name, []).append(value)
        bar.update()
        if trainer.rank:
            continue
        step = trainer.step
        if step % 20 == 0:
            means = {name: round(float(np.mean(values)), 4) for name, values in sums.items()}
            bar.set_postfix({name: f"{value:.2f}" for name, value in means.items()})
            _log(curve, {"step": step, "seconds": round(time.monotonic() - began, 1), **means})
            sums = {}
        if step % config.measure_every == 0 and step > trainer.recipe.seen_steps:
            _log(curve, {"step": step, "tuning": measure(trainer.network, trainer.maker, tuning)})
        if step % config.save_every == 0:
            trainer.save()
    if trainer.rank == 0:
        trainer.save()
        trainer.export(config.out / "run" / "model")
    return config.out / "run" / "model"


def render_beside(config: Config) -> BaseProcess:
    """Starts a process that makes the chunks that are missing, in order, while training goes on with what is there."""
    args = (config.out / "pool", config.recipe.chunk_numbers, PoolConfig())
    process = multiprocessing.get_context("spawn").Process(target=make_chunks, args=args, daemon=True)
    process.start()
    return process


def _log(file: Path, record: dict) -> None:
    with file.open("a") as stream:
        stream.write(json.dumps(record) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    config = tyro.cli(Config, args=argv, description=Config.__doc__)
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    if int(os.environ.get("RANK", 0)) == 0:
        make_pool(config.out / "pool", config.recipe.chunk_numbers[:2], PoolConfig(), config.workers)
        make_pool(config.out / "tuning_pool", [0], TUNING_POOL, config.workers)
    try:
        print(train(config))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
