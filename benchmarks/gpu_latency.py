"""RoboRefer at its real dimensions (2B, 8B; random weights, bfloat16) on a GPU: latency and memory of one question.

    python -m benchmarks.gpu_latency                              on a GPU; writes benchmarks/results/gpu_latency.md
    python -m benchmarks.gpu_latency --models tiny --device cpu --dtype float32 --questions 1 --output ""

Per model, picture size, colour alone or with depth: tiles of the two pictures, positions of the prompt, p50 and p95
of ours with nothing cached and with the reference view seen before, and of transformers' `generate` restricted to the
same answers on the same weights. Ours, cold, is told in its parts too: planning; tiles, towers and the LLM's reading
of the pictures; the question's text and the answer. Random weights point or refuse by chance:
embeddings are drawn again until they point. In 16 bit both may differ in a near tie: equal answers are counted.
"""

from __future__ import annotations

import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import tyro
from roboref_core.atomic import write_text
from roboref_core.models.roborefer import RoboReferBackend
from roboref_core.models.roborefer.checkpoint.files import load_model, open_checkpoint
from roboref_core.models.roborefer.checkpoint.random import SHAPES, write_random_checkpoint
from roboref_core.models.roborefer.network.tiling import cut_tiles, to_picture
from roboref_core.models.vision_language_model import Prompt
from roboref_core.progress import Progress
from roboref_core.prompting.prompt import SUFFIX

from benchmarks._stock_generate import StockGenerate


@dataclass
class GpuLatencyConfig:
    """What is measured."""

    models: tuple[str, ...] = ("2b", "8b")
    """Which models: of tiny, 2b, 8b."""
    sizes: tuple[tuple[int, int], ...] = ((640, 480), (848, 480), (448, 448))
    """Widths and heights of the pictures."""
    questions: int = 20
    """Per row; one more warms up."""
    baseline_questions: int = 5
    """How many of them `generate` is asked too."""
    device: str = "cuda"
    dtype: str = "bfloat16"
    output: str = "benchmarks/results/gpu_latency.md"
    """Where the table goes; empty: to the terminal only."""
    folder: str = ""
    """Where checkpoints are written for the time of the run: up to 17 GB; empty: the system's temporary folder."""


T = TypeVar("T")


class Timer:
    """Wall time of calls, the device's work included."""

    def __init__(self, device: torch.device):
        self.device = device

    def __call__(self, call: Callable[[], T]) -> tuple[T, float]:
        start = time.perf_counter()
        result = call()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return result, time.perf_counter() - start

    def reset_memory(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def memory(self) -> str:
        """Peak since the reset."""
        return f"{torch.cuda.max_memory_allocated(self.device) / 1e9:.1f}" if self.device.type == "cuda" else "-"


def point_by_chance(backend: RoboReferBackend, prompt: Prompt) -> None:
    weight = backend.model.llm.model.embed_tokens.weight
    generator = torch.Generator(weight.device).manual_seed(0)
    for _ in range(50):
        if len(backend.generate(prompt).points):
            return
        for rows in {id(w): w for w in (weight, backend.model.llm.lm_head.weight)}.values():
            rows.data.normal_(std=0.02, generator=generator)
        backend.prefiller.prefixes.clear()
        backend.prefiller.features.clear()
    raise SystemExit("50 draws of random weights, none of which points")


def row(config: GpuLatencyConfig, backend: RoboReferBackend, name: str, size: tuple[int, int], with_depth: bool) -> str:
    rng = np.random.default_rng(0)
    timer = Timer(backend.model.device)
    stock = StockGenerate(backend.model, None, max_points=1)

    def pictures(channels: int) -> np.ndarray:
        return rng.integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)

    def question(number: int, images: tuple, depths: tuple) -> Prompt:
        return Prompt(f"Point to object {number}. {SUFFIX}", images, depths)

    times: dict[str, list[float]] = {"cold": [], "seen": [], "generate": []}
    parts: list[dict[str, float]] = []
    peaks = dict.fromkeys(("ours", "generate"), "-")
    equal = asked = tokens = 0
    passes = []
    for number in Progress(range(config.questions + 1), f"{name} {size[0]}x{size[1]}", leave=False):
        reference, first, second = (pictures(3) for _ in range(3))
        depths = tuple(pictures(1) for _ in range(3)) if with_depth else ()
        prompt = question(number, (reference, first), depths[:2])
        again = question(number, (reference, second), depths[::2])
        if number == 0:
            point_by_chance(backend, prompt)
        backend.prefiller.features.clear()
        backend.prefiller.prefixes.clear()
        timer.reset_memory()
        before = backend.passes
        ours, cold = timer(partial(backend.generate, prompt))
        passes.append(backend.passes - before)
        peaks["ours"] = timer.memory()
        _, seen = timer(partial(backend.generate, again))
        if number:
            times["cold"].append(cold)
            times["seen"].append(seen)
            parts.append(dict(ours.timings))
        if number <= config.baseline_questions:
            timer.reset_memory()
            theirs, slow = timer(partial(stock.answer, prompt))
            peaks["generate"] = timer.memory()
            tokens = stock.tokens
            if number:
                times["generate"].append(slow)
                equal += ours.text == theirs
                asked += 1
    config_of = backend.model.config
    tiles = sum(len(cut_tiles(to_picture(p, "image"), config_of, "image").pixels) for p in prompt.images)
    tiles += sum(len(cut_tiles(to_picture(p, "depth"), config_of, "depth").pixels) for p in prompt.depths)
    cells = [f"{np.percentile(t, 50) * 1e3:.0f} / {np.percentile(t, 95) * 1e3:.0f}" for t in times.values()]
    spent = " + ".join(f"{np.median([p[part] for p in parts]) * 1e3:.0f}" for part in ("prepare", "encode", "decode"))
    gain = [np.median(times["generate"]) / np.median(times[case]) for case in ("cold", "seen")]
    return (
        f"| {name} | {size[0]}x{size[1]} | {'RGB-D' if with_depth else 'RGB'} | {tiles} | "
        f"{backend.prefiller.plan(prompt).length} | {tokens} | {np.median(passes):.0f} | {cells[0]} | {spent} | "
        f"{cells[1]} | {cells[2]} | {gain[0]:.1f} | {gain[1]:.1f} | {peaks['ours']} / {peaks['generate']} | "
        f"{equal}/{asked} |"
    )


def main(config: GpuLatencyConfig) -> None:
    device = torch.device(config.device)
    lines = []
    for name in config.models:
        with tempfile.TemporaryDirectory(dir=config.folder or None) as folder:
            path = write_random_checkpoint(folder, SHAPES[name], dtype=getattr(torch, config.dtype), device=device)
            size = open_checkpoint(path).nbytes
            print(f"{name}: written", flush=True)
            start = time.perf_counter()
            model = load_model(path, device)
            print(f"{name}: {size / 1e9:.1f} GB of weights, loaded in {time.perf_counter() - start:.0f} s", flush=True)
        for shape in config.sizes:
            for with_depth in (False, True):
                lines.append(row(config, RoboReferBackend(model, name, max_points=1), name, shape, with_depth))
                print(lines[-1], flush=True)
        del model
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    table = "\n".join(
        [
            f"{where}, {config.dtype}, random weights, two pictures, median and 95th percentile of {config.questions} "
            f"questions in ms ({config.baseline_questions} for generate); torch {torch.__version__}.",
            "",
            f"    python -m benchmarks.gpu_latency {shlex.join(sys.argv[1:])}".rstrip(),
            "",
            "| model | pictures | input | tiles | positions | tokens of generate | LLM passes of ours | ours, cold | "
            "prepare + encode + decode | ours, reference seen | generate | faster, cold | faster, seen | "
            "peak memory, ours / generate [GB] | equal |",
            "|---" * 15 + "|",
            *lines,
        ]
    )
    print(f"\n{table}")
    if config.output:
        write_text(Path(config.output), table + "\n")


if __name__ == "__main__":
    main(tyro.cli(GpuLatencyConfig, description=__doc__))
