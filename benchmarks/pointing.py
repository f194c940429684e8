"""One pointing question about two pictures: ours against transformers' `generate` on the same weights.

Both decode the same answer, which is checked. Weights are random and written in place, so answers mean
nothing; the seed is one whose answers are points. Cases: nothing cached ("cold"); the reference view
seen before and the queried one new ("reference seen"); both seen, the question new ("views seen").
Cold, both must encode both pictures and read them with the LLM; only what comes after differs, so the gain is the
larger the longer the answer. Tokens and passes are counted too: they do not depend on the machine.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
import tyro
from roboref_core.models.base import Prompt
from roboref_core.models.roborefer import RoboReferBackend
from roboref_core.models.roborefer.checkpoint import load_model, open_checkpoint
from roboref_core.models.roborefer.random_checkpoint import Shape, write_random_checkpoint
from roboref_core.prompt import SUFFIX
from tqdm import tqdm

from benchmarks._stock_generate import StockGenerate

CASES = ("cold", "reference seen", "views seen")


@dataclass
class Config:
    """What is measured."""

    size: tuple[int, int] = (640, 480)
    """Width and height of both pictures."""
    aspects: tuple[str, ...] = ("resize", "dynamic")
    """How pictures are cut: resize is one tile each, dynamic up to 13."""
    points: tuple[int, ...] = (1, 4)
    """Most points that an answer may have."""
    questions: int = 3
    """Asked in turn; medians are reported."""
    threads: int = 2
    """Threads of torch."""
    seed: int = 1
    """Of weights and pictures."""
    shape: tyro.conf.Suppress[Shape] = field(
        default_factory=lambda: Shape(
            hidden=1024, intermediate=2816, layers=14, heads=16, kv_heads=4, vocabulary=32000,
            tower_hidden=384, tower_intermediate=1536, tower_layers=12, tower_heads=6, image_size=224, depth="none",
        )
    )  # fmt: skip


def timed(call: Callable[[], str]) -> tuple[str, float]:
    start = time.perf_counter()
    return call(), time.perf_counter() - start


def measure(config: Config, stock: StockGenerate, backend: RoboReferBackend, points: int) -> list[str]:
    """Table rows of one way to cut pictures and one bound of points."""
    rng = np.random.default_rng(config.seed)
    width, height = config.size

    def picture() -> np.ndarray:
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)

    seconds: dict[str, list[float]] = {name: [] for name in ("generate", *CASES)}
    passes: dict[str, list[int]] = {name: [] for name in CASES}
    tokens = []
    for number in tqdm(range(config.questions), f"{backend.prefiller.aspect}, {points} point(s)", leave=False):
        reference, queried, former = picture(), picture(), picture()
        prompt = Prompt(f"Point to object {number}. {SUFFIX}", (reference, queried))
        expected, duration = timed(lambda prompt=prompt: stock.answer(prompt))
        seconds["generate"].append(duration)
        tokens.append(stock.tokens)
        for case in CASES:
            backend.prefiller.features.clear()
            backend.prefiller.prefixes.clear()
            if case != "cold":
                seen = (reference, queried if case == "views seen" else former)
                backend.generate(Prompt("What is this?", seen))
            before = backend.passes
            answer, duration = timed(lambda prompt=prompt: backend.generate(prompt).text)
            if answer != expected:
                raise SystemExit(f"answers differ: {answer} and {expected} of generate")
            seconds[case].append(duration)
            passes[case].append(backend.passes - before)
    base = statistics.median(seconds["generate"])
    length = backend.prefiller.plan(prompt).length
    head = f"| {backend.prefiller.aspect} | {points} | {length} | {statistics.median(tokens):.0f} |"
    rows = [f"{head} generate | {base:.2f} | 1.00 | {statistics.median(tokens):.0f} |"]
    for case in CASES:
        median, count = statistics.median(seconds[case]), statistics.median(passes[case])
        rows.append(f"{head} ours, {case} | {median:.2f} | {base / median:.2f} | {count:.0f} |")
    return rows


def main(config: Config) -> None:
    torch.set_num_threads(config.threads)
    with tempfile.TemporaryDirectory() as folder:
        path = write_random_checkpoint(folder, config.shape, seed=config.seed)
        parameters = open_checkpoint(path).nbytes / 4
        # The baseline gets a model of its own: ours keeps its weights in another layout on the CPU.
        plain = load_model(path)
        rows = []
        for aspect in config.aspects:
            for points in config.points:
                backend = RoboReferBackend.load(path, aspect=aspect, max_points=points)
                rows += measure(config, StockGenerate(plain, aspect, points), backend, points)
    print(f"{parameters / 1e6:.0f} M parameters, float32, {config.threads} thread(s) of the CPU, two pictures of "
          f"{config.size[0]}x{config.size[1]}, median of {config.questions} questions")
    print("| cut | points | positions | tokens | | time to answer [s] | faster | LLM passes after the pictures |")
    print("|---|---|---|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
