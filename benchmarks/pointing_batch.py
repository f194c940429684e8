"""Pointing questions in a batch against one by one: `generate_batch` of the same model, nothing cached before.

Questions about pictures of their own, and about the same two pictures. Both ways must give the same answers, which is
checked; rounds alternate. One by one, the same pictures are found in the cache, so that what a batch gains there is
its fewer passes of the LLM. Random weights are written in place.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import tyro
from roboref_core.models.roborefer import RoboReferBackend
from roboref_core.models.roborefer.checkpoint.files import open_checkpoint
from roboref_core.models.roborefer.checkpoint.random import Shape, write_random_checkpoint
from roboref_core.models.vision_language_model import Prompt
from roboref_core.progress import Progress
from roboref_core.prompting.prompt import SUFFIX

from benchmarks.pointing import MID_SIZE, load

SHAPES = {
    "tiny": Shape(),
    "small": Shape(
        hidden=192, intermediate=512, layers=4, heads=4, kv_heads=2, vocabulary=1600, tower_hidden=192,
        tower_intermediate=512, tower_layers=6, tower_heads=4, patch_size=8, projector="mlp_downsample", depth="none",
        numbers="whole",
    ),
    "mid": MID_SIZE,
}  # fmt: skip


@dataclass
class PointingBatchConfig:
    """What is measured."""

    models: tuple[str, ...] = ("tiny", "small", "mid")
    """Which models: of tiny, small, mid."""
    batch: int = 8
    """Questions of a batch."""
    rounds: int = 3
    """Rounds, each way in turn; one more warms up."""
    size: tuple[int, int] = (320, 240)
    """Width and height of the pictures."""
    threads: int = 2
    """Threads of torch."""


class Asked(NamedTuple):
    """Attributes:
    seconds: on the clock, and of the processor.
    passes: forward passes of the LLM after the pictures.
    """

    seconds: tuple[float, float]
    passes: int
    answers: list[str]


def ask(backend: RoboReferBackend, prompts: list[Prompt], batch: int) -> Asked:
    """Ask all prompts, ``batch`` at a time, with nothing remembered."""
    backend.prefiller.features.clear()
    backend.prefiller.prefixes.clear()
    wall, processor, passes = time.perf_counter(), time.process_time(), backend.passes
    answers = [
        answer.text
        for start in range(0, len(prompts), batch)
        for answer in backend.generate_batch(prompts[start : start + batch])
    ]
    return Asked((time.perf_counter() - wall, time.process_time() - processor), backend.passes - passes, answers)


def row(config: PointingBatchConfig, backend: RoboReferBackend, name: str, parameters: float, shared: bool) -> str:
    rng = np.random.default_rng(0)
    width, height = config.size
    pictures = [
        tuple(rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(2))
        for _ in range(1 if shared else config.batch)
    ]
    prompts = [Prompt(f"Point to object {i}. {SUFFIX}", pictures[i % len(pictures)]) for i in range(config.batch)]
    rounds = []
    for _ in Progress(range(config.rounds + 1), f"{name}, {'same' if shared else 'own'} pictures", leave=False):
        single, together = ask(backend, prompts, 1), ask(backend, prompts, config.batch)
        if single.answers != together.answers:
            raise SystemExit(f"answers differ: {single.answers} one by one, {together.answers} in a batch")
        rounds.append((single, together))
    rounds = rounds[1:]
    clock, processor = (statistics.median(one.seconds[i] / many.seconds[i] for one, many in rounds) for i in range(2))
    each = [1e3 * statistics.median(way[i].seconds[0] for way in rounds) / config.batch for i in range(2)]
    length = backend.prefiller.plan(prompts[0]).length
    return (
        f"| {name}, {parameters:.1f} M | {'same' if shared else 'own'} | {length}"
        f" | {rounds[0][0].passes} / {rounds[0][1].passes}"
        f" | {each[0]:.0f} / {each[1]:.0f} | {clock:.2f} | {processor:.2f} |"
    )


def main(config: PointingBatchConfig) -> None:
    torch.set_num_threads(config.threads)
    print(
        f"float32, batches of {config.batch}, {config.threads} thread(s) of {os.cpu_count()} cores, load {load()} "
        f"over 1/5/15 minutes at the start, medians of {config.rounds} rounds\n"
    )
    print(
        "| model | pictures | positions | LLM passes, one by one / batch | ms per question, one by one / batch | "
        "faster, clock | faster, processor time |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in config.models:
        with tempfile.TemporaryDirectory() as folder:
            path = write_random_checkpoint(folder, SHAPES[name], seed=1)
            backend = RoboReferBackend.load(path, aspect="resize", max_points=1)
            parameters = open_checkpoint(path).nbytes / 4e6
            for shared in (False, True):
                print(row(config, backend, name, parameters, shared), flush=True)
    print(f"\nload at the end {load()}")


if __name__ == "__main__":
    main(tyro.cli(PointingBatchConfig, description=__doc__))
