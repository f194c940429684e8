"""Trains the small model from random weights: first the tower alone, then everything.

A step asks what (recipe, step) determine, so an interrupted run goes on from its last state; on one thread of a CPU it
ends with the very weights of an uninterrupted one.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
import tyro
from roboref_core.atomic import replacing, replacing_folder
from roboref_core.models.roborefer import calibration
from roboref_core.models.roborefer.checkpoint.files import materialise, open_checkpoint, save_checkpoint
from roboref_core.models.roborefer.network.model import RoboReferModel
from roboref_core.progress import Progress
from roboref_core.prompting.answer_text import NOT_VISIBLE
from torch import nn
from torch.utils.data import DataLoader, Dataset

from offline.train.nano.base import write_base
from offline.train.nano.batches import BatchMaker, NanoBatch
from offline.train.nano.diet import Diet, Lenses
from offline.train.nano.losses import Network, TrainingHeads, Weights, fast_arithmetic
from offline.train.nano.muon import Muon
from offline.train.nano.pool import PoolConfig, chunk_folder, load_chunk, make_pool
from offline.train.nano.questions import Mix, Sampler
from offline.train.nano.tuning import TuningSet, measure
from offline.train.nano.vocabulary import OPEN
from sim.rooms.design import PALETTE
from sim.rooms.labels import LABELS

TUNING_POOL = PoolConfig(seed=3_000_000)
"""Rooms for choosing and calibrating; neither trained on nor reported on."""
_LOG_EVERY = 20


@dataclass(frozen=True)
class Recipe:
    """How the model is trained.

    Attributes:
        start: folder of a checkpoint of this kind to go on from, instead of random weights.
        seed: of weights and questions.
        chunks: of the pool, 24 rooms each.
        first_chunk: number of the first of them; a run that goes on from a checkpoint can see rooms of its own.
        seen_steps, seen_views: first steps, which train the tower alone to tell objects, and their batch.
        steps: after those.
        views: per step; each is asked about eight to ten questions.
        matrix_lr: peak rate of Muon, for the matrices inside the blocks; scaled to the size of AdamW's updates.
        lr: peak rate of AdamW, for the rest.
        warmup: steps.
        decay_from: share of the steps after which the rate falls to zero linearly.
        depth_from: share of the steps after which some questions come with depth pictures.
        depth_share: how many.
        fresh_depth: the depth tower starts as a copy of the colour tower then. False where ``start`` has a trained one.
        diet: exposure, cast, noise and blur of the pictures.
        zoom, heights: of the pool's cameras, see ``PoolConfig``; a pool that is there keeps its own.
    """

    start: str = ""
    seed: int = 0
    chunks: int = 32
    first_chunk: int = 0
    seen_steps: int = 500
    seen_views: int = 128
    steps: int = 4000
    views: int = 32
    matrix_lr: float = 3e-3
    lr: float = 2e-3
    warmup: int = 100
    decay_from: float = 0.5
    depth_from: float = 0.7
    depth_share: float = 0.3
    fresh_depth: bool = True
    weight_decay: float = 0.01
    mix: Mix = field(default_factory=Mix)
    weights: Weights = field(default_factory=Weights)
    diet: Diet = field(default_factory=Diet)
    zoom: tuple[float, float] = (1.0, 1.0)
    heights: tuple[float, float] = (1.3, 1.7)

    @property
    def total(self) -> int:
        return self.seen_steps + self.steps

    @property
    def chunk_numbers(self) -> range:
        return range(self.first_chunk, self.first_chunk + self.chunks)

    def rate(self, step: int) -> float:
        """Learning rate as a share of its peak."""
        start = 0 if step < self.seen_steps else self.seen_steps
        warm = min(1.0, (step - start + 1) / self.warmup)
        done = max(0, step - self.seen_steps) / self.steps
        return warm * min(1.0, (1.0 - done) / (1.0 - self.decay_from))


@dataclass(frozen=True)
class Config:
    """Train the small model. Run again to go on.

    Attributes:
        out: pool, states, curve and model.
        device: of the model; auto takes a GPU where there is one.
        save_every: steps between states.
        measure_every: steps between measurements on rooms kept for tuning.
        threads: of torch.
        workers: processes that render rooms, and make batches beside a GPU.
    """

    out: Path = Path("out/nano")
    recipe: Recipe = field(default_factory=Recipe)
    device: str = "auto"
    save_every: int = 200
    measure_every: int = 500
    threads: int = 2
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)

    @property
    def run(self) -> Path:
        return self.out / "run"

    @property
    def torch_device(self) -> torch.device:
        name = ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device
        return torch.device(name)


class Steps(Dataset):
    """What is asked at each step, as batches."""

    def __init__(self, config: Config, model: RoboReferModel, kinds: dict[str, int], colors: dict[str, int]):
        self.recipe = recipe = config.recipe
        chunks = [load_chunk(chunk_folder(config.out / "pool", number)) for number in recipe.chunk_numbers]
        self.sampler = Sampler(chunks, recipe.mix)
        self.maker = BatchMaker(chunks, model, kinds, colors)

    def __len__(self) -> int:
        return self.recipe.total

    def __getitem__(self, step: int) -> NanoBatch:
        recipe = self.recipe
        rng = np.random.default_rng((recipe.seed, step))
        if step < recipe.seen_steps:
            views = self.sampler.views(recipe.seen_views, rng)
            return self.maker.make(views, lenses=Lenses(recipe.diet, rng))
        questions = self.sampler.draw(recipe.views, rng)
        done = (step - recipe.seen_steps) / recipe.steps
        share = recipe.depth_share if done >= recipe.depth_from else 0.0
        deep = [bool(one) for one in rng.random(len(questions)) < share]
        return self.maker.make(questions, deep, lenses=Lenses(recipe.diet, rng))


class Trainer:
    """Model, optimisers and questions of one run."""

    def __init__(self, config: Config):
        self.config, self.recipe = config, config.recipe
        self.device = config.torch_device
        base = config.run / "base"
        if not (base / "config.json").exists():
            self._make_base(base)
        torch.manual_seed(self.recipe.seed)
        self.model = materialise(open_checkpoint(base), self.device, torch.float32, for_training=True)
        kinds, colors = ({name: k for k, name in enumerate(names)} for names in (LABELS, PALETTE))
        llm, tower = self.model.config.llm, self.model.config.vision_tower
        self.heads = TrainingHeads(tower.hidden_size, llm.hidden_size, len(kinds), len(colors)).to(self.device)
        self.steps = Steps(config, self.model, kinds, colors)
        self.network = Network(self.model, self.heads, self.steps.maker.bin_ids)
        self.optimizers = _optimizers(self.model, self.heads, self.recipe)
        self.step = 0

    def batches(self) -> DataLoader:
        """Those of the steps still to be taken, in order; made by other processes where the CPU has time for it."""
        workers = 0 if self.device.type == "cpu" else max(1, self.config.workers - 1)
        return DataLoader(
            self.steps,
            batch_size=None,
            sampler=range(self.step, self.recipe.total),
            num_workers=workers,
            worker_init_fn=_one_thread,
            prefetch_factor=4 if workers else None,
        )

    def take_step(self, batch: NanoBatch) -> dict[str, torch.Tensor]:
        """One step; returns the parts of the loss and the norm of the gradient, on the device."""
        recipe = self.recipe
        if recipe.fresh_depth and self.step == recipe.seen_steps + round(recipe.depth_from * recipe.steps):
            self._start_depth()
        batch = batch.to(self.device)
        with fast_arithmetic(self.device):
            if self.step < recipe.seen_steps:
                loss = self.network.seen_loss(batch)
                parts = {"seen": loss.detach()}
            else:
                loss, parts = self.network.losses(batch, recipe.weights)
        loss.backward()
        parameters = [p for p in (*self.model.parameters(), *self.heads.parameters()) if p.grad is not None]
        norm = nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer, peak in zip(self.optimizers, (recipe.matrix_lr, recipe.lr), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = peak * recipe.rate(self.step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return parts | {"norm": norm}

    def _make_base(self, base: Path) -> None:
        with replacing_folder(base) as partial:
            if self.recipe.start:
                left_out = shutil.ignore_patterns(calibration.FILE_NAME)
                shutil.copytree(self.recipe.start, partial, ignore=left_out, dirs_exist_ok=True)
            else:
                write_base(partial, self.recipe.seed)

    def _start_depth(self) -> None:
        """As RoboRefer's depth encoder, this one starts as its image encoder."""
        self.model.part("depth_tower").load_state_dict(self.model.part("vision_tower").state_dict())
        projector = self.model.depth_projector
        assert projector is not None
        projector.load_state_dict(self.model.mm_projector.state_dict())

    # State -------------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Keeps the state, and the model as it is now beside it."""
        state = {
            "step": self.step,
            "recipe": asdict(self.recipe),
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        with replacing(self.config.run / "state.pt") as file:
            torch.save(state, file)
        self.export(self.config.run / "model")

    def resume(self) -> None:
        """Goes on from the last state, if there is one. Raises ValueError if its recipe is another."""
        file = self.config.run / "state.pt"
        if not file.exists():
            return
        state = torch.load(file, weights_only=True, map_location=self.device)
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
        model = materialise(open_checkpoint(self.config.run / "base"), torch.device("cpu"), torch.bfloat16)
        model.load_state_dict(self.model.state_dict())
        save_checkpoint(model, self.config.run / "base", folder)
        return folder


def _one_thread(_worker: int) -> None:
    cv2.setNumThreads(0)


def _optimizers(model: RoboReferModel, heads: TrainingHeads, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for embeddings, readouts, norms and biases."""
    matrices: list[torch.nn.Parameter] = []
    rest = list(heads.parameters())
    for name, parameter in model.named_parameters():
        inside = ".layers." in name and parameter.ndim == 2
        (matrices if inside else rest).append(parameter)
    muon = Muon(matrices, lr=recipe.matrix_lr, weight_decay=recipe.weight_decay)
    return [muon, torch.optim.AdamW(rest, lr=recipe.lr, weight_decay=recipe.weight_decay, betas=(0.9, 0.98))]


def train(config: Config) -> Path:
    """Trains to the end; returns the folder of the model.

    Raises ValueError for a state of another recipe, and where the gradient is no longer finite.
    """
    torch.set_num_threads(config.threads)
    trainer = Trainer(config)
    trainer.resume()
    asked = TuningSet.draw(load_chunk(chunk_folder(config.out / "tuning_pool", 0)), trainer.model, config.recipe.mix)
    pieces = trainer.steps.maker.pieces
    answers = pieces[OPEN], pieces[NOT_VISIBLE]
    curve = config.run / "curve.jsonl"
    began, kept = time.monotonic(), []
    bar = Progress(total=config.recipe.total, initial=trainer.step, desc="steps")
    for batch in trainer.batches():
        kept.append(trainer.take_step(batch))
        bar.update()
        step = trainer.step
        last = step == config.recipe.total
        if step % _LOG_EVERY == 0 or last:
            means = _means(kept)
            kept = []
            if not math.isfinite(means["norm"]):
                raise ValueError(f"step {step}: the gradient is not finite; the last good state is kept")
            bar.set_postfix({name: f"{value:.2f}" for name, value in means.items()})
            _log(curve, {"step": step, "seconds": round(time.monotonic() - began, 1), **means})
        if (step % config.measure_every == 0 and step > config.recipe.seen_steps) or last:
            _log(curve, {"step": step, "tuning": measure(trainer.network, asked, answers)})
        if step % config.save_every == 0 or last:
            trainer.save()
    return config.run / "model"


def _means(steps: Sequence[dict[str, torch.Tensor]]) -> dict[str, float]:
    """Of each part of the loss over the steps that have it."""
    names = dict.fromkeys(name for parts in steps for name in parts)
    return {
        name: round(float(torch.stack([parts[name] for parts in steps if name in parts]).mean()), 4) for name in names
    }


def _log(file: Path, record: dict) -> None:
    with file.open("a") as stream:
        stream.write(json.dumps(record) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    config = tyro.cli(Config, args=argv, description=Config.__doc__)
    cameras = PoolConfig(zoom=config.recipe.zoom, heights=config.recipe.heights)
    make_pool(config.out / "pool", config.recipe.chunk_numbers, cameras, config.workers)
    make_pool(config.out / "tuning_pool", [0], TUNING_POOL, config.workers)
    try:
        print(train(config))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
