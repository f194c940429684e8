"""One pointing question about two pictures: ours against transformers' `generate` on the same weights.

Both decode the same answer, which is checked. Weights are random and written in place, so answers mean
nothing; the seed is one whose answers are points. Cases: nothing cached ("cold"); the reference view
seen before and the queried one new ("reference seen"); both seen ("views seen"). Each question is asked in
every way in turn, and compared with itself: medians of these ratios are reported, of time on the clock and of
processor time, which a busy machine disturbs less.

What bounds it: cold, both must encode both pictures and read them with the LLM, and "reference seen" half of it;
on a CPU that is arithmetic at nearly full rate for either. Only what comes after differs, so the gain is the larger
the longer the answer. Tokens and passes do not depend on the machine.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypeVar

import numpy as np
import torch
import tyro
from roboref_core.models.roborefer import RoboReferBackend
from roboref_core.models.roborefer.checkpoint.files import load_model, open_checkpoint
from roboref_core.models.roborefer.checkpoint.random import Shape, write_random_checkpoint
from roboref_core.models.vision_language_model import Prompt
from roboref_core.progress import Progress
from roboref_core.prompting.prompt import SUFFIX

from benchmarks._stock_generate import StockGenerate

CASES = ("cold", "views seen", "reference seen")
MID_SIZE = Shape(
    hidden=1024, intermediate=2816, layers=14, heads=16, kv_heads=4, vocabulary=32000, tower_hidden=384,
    tower_intermediate=1536, tower_layers=12, tower_heads=6, image_size=224, depth="none",
)  # fmt: skip


@dataclass
class PointingConfig:
    """What is measured."""

    size: tuple[int, int] = (640, 480)
    """Width and height of both pictures."""
    aspects: tuple[str, ...] = ("resize", "dynamic")
    """How pictures are cut: resize is one tile each, dynamic up to 13."""
    points: tuple[int, ...] = (1, 4)
    """Most points that an answer may have."""
    dtypes: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
    """Number formats of weights and arithmetic. Equal answers are demanded in float32, in bfloat16 counted: ties."""
    questions: int = 3
    """Asked in turn; medians are reported."""
    threads: int = 2
    """Threads of torch."""
    seed: int = 1
    """Seed of weights and pictures."""
    shape: tyro.conf.Suppress[Shape] = field(default_factory=lambda: MID_SIZE)


Result = TypeVar("Result")


@dataclass
class Times:
    """Of one way to answer, question by question: seconds on the clock and of the processor, and passes of the LLM."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    passes: list[int] = field(default_factory=list)

    def take(self, call: Callable[[], Result]) -> Result:
        wall, processor = time.perf_counter(), time.process_time()
        result = call()
        self.wall.append(time.perf_counter() - wall)
        self.processor.append(time.process_time() - processor)
        return result

    def cells(self, base: Times) -> str:
        gains = [
            statistics.median(b / o for b, o in zip(theirs, ours, strict=True))
            for theirs, ours in ((base.wall, self.wall), (base.processor, self.processor))
        ]
        passes = statistics.median(self.passes)
        return f"{statistics.median(self.wall):.2f} | {gains[0]:.2f} | {gains[1]:.2f} | {passes:.0f} |"


def measure(config: PointingConfig, stock: StockGenerate, backend: RoboReferBackend, points: int) -> list[str]:
    """Table rows of one number format, one way to cut pictures and one bound of points."""
    rng = np.random.default_rng(config.seed)
    width, height = config.size
    prefiller = backend.prefiller
    name = str(backend.model.dtype).removeprefix("torch.")
    times = {case: Times() for case in ("generate", *CASES)}
    equal = 0
    tokens = []
    for number in Progress(range(config.questions), f"{name}, {prefiller.aspect}, {points} point(s)", leave=False):
        reference, queried = (rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(2))
        prompt = Prompt(f"Point to object {number}. {SUFFIX}", (reference, queried))
        expected = times["generate"].take(partial(stock.answer, prompt))
        times["generate"].passes.append(stock.tokens)
        tokens.append(stock.tokens)
        answers = []
        for case in CASES:
            if case != "views seen":
                prefiller.features.clear()
                prefiller.prefixes.clear()
            if case == "reference seen":
                backend.generate(Prompt("What is this?", (reference,)))
            before = backend.passes
            answers.append(times[case].take(partial(backend.generate, prompt)).text)
            times[case].passes.append(backend.passes - before)
        if len(set(answers)) > 1 or (name == "float32" and answers[0] != expected):
            raise SystemExit(f"answers differ: {answers} and {expected} of generate")
        equal += answers[0] == expected
    head = f"| {name} | {prefiller.aspect} | {points} | {prefiller.plan(prompt).length} |"
    head += f" {statistics.median(tokens):.0f} | {equal}/{config.questions} |"
    return [
        f"{head} {case if case == 'generate' else f'ours, {case}'} | {taken.cells(times['generate'])}"
        for case, taken in times.items()
    ]


def load() -> str:
    return "/".join(f"{value:.0f}" for value in os.getloadavg())


def main(config: PointingConfig) -> None:
    torch.set_num_threads(config.threads)
    print(
        f"{config.threads} thread(s) of {os.cpu_count()} cores, load {load()} over 1/5/15 minutes at the start, "
        f"two pictures of {config.size[0]}x{config.size[1]}, medians of {config.questions}"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = write_random_checkpoint(folder, config.shape, seed=config.seed)
        print(f"{open_checkpoint(path).nbytes / 4e6:.0f} M parameters\n")
        print(
            "| numbers | cut | points | positions | tokens | equal answers | | time to answer [s] | faster, clock | "
            "faster, processor time | LLM passes after the pictures |"
        )
        print("|---|---|---|---|---|---|---|---|---|---|---|")
        for dtype in (getattr(torch, name) for name in config.dtypes):
            # The baseline gets a model of its own: ours keeps its weights in another layout on the CPU.
            plain = load_model(path, dtype=dtype)
            for aspect in config.aspects:
                for points in config.points:
                    backend = RoboReferBackend.load(path, dtype=dtype, aspect=aspect, max_points=points)
                    rows = measure(config, StockGenerate(plain, aspect, points), backend, points)
                    print("\n".join(rows), flush=True)
    print(f"\nload at the end {load()}")


if __name__ == "__main__":
    main(tyro.cli(PointingConfig, description=__doc__))
