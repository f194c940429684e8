"""Evaluation: samples predicted in batches against one by one, and predictions scored per second.

Predicting runs a RoboRefer checkpoint through `roboref eval predict`, disk included; both ways give the same
answers, which is checked. Scoring runs `roboref eval score` as a process of its own, from starting Python to the
printed table with baselines, groups and bootstrap intervals. Its baseline is a scorer that opens a mask for every
sample with Pillow, without any intervals. CPU seconds are user and system, of all threads: other work on the machine
changes them less.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import tyro
from PIL import Image
from roboref_core.prompting import prompt
from roboref_core.prompting.answer_text import format_answer, parse

from offline.eval.asking.predict import RunConfig, predict
from offline.eval.asking.predictor import ModelConfig
from offline.eval.asking.predictors import load_predictor
from offline.eval.records.predictions import digest, read_predictions
from offline.eval.records.samples import read_samples
from offline.files import write_picture

TINY = Path(__file__).parents[1] / "ros2_ws/src/roboref_core/test/roborefer/fixtures/ckpt_rgbd_3x3"


@dataclass(frozen=True)
class EvaluationConfig:
    """Time the two halves of an evaluation."""

    path: Path = TINY
    """RoboRefer checkpoint that predicts."""
    device: str = "cpu"
    """Where it runs."""
    samples: int = 64
    """Samples it predicts."""
    batch: int = 8
    """Samples per batch, against 1."""
    predictions: int = 100_000
    """Predictions scored."""
    views: int = 10_000
    """Views they are about, each with a mask of its own: a view is asked for from several others, in several tasks."""
    size: tuple[int, int] = (432, 324)
    """Width and height of the scored masks [pixel]: ScanNet's colour images down-sampled by 3."""
    threads: int = 1
    """PyTorch threads."""


def make_files(folder: Path, count: int, views: int, size: tuple[int, int], pictures: bool) -> tuple[Path, Path]:
    """``count`` T1 samples and perfect predictions for them; half of the samples are negatives."""
    rng = np.random.default_rng(0)
    stems = [folder / "tree" / f"scene{v // 50:04d}_00" / f"uid_{v}" / f"01_{v:06d}" for v in range(views)]
    points = []
    for stem in stems:
        mask = np.zeros(size[::-1], np.uint8)
        centre = [int(rng.integers(side // 5, side - side // 5)) for side in size]
        axes = [int(rng.integers(5, 40)) for _ in range(2)]
        cv2.ellipse(mask, centre, axes, float(rng.integers(180)), 0, 360, 255, cv2.FILLED)
        stem.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(f"{stem}_mask.png", mask)
        points.append(((centre[0] + 0.5) / size[0], (centre[1] + 0.5) / size[1]))
        if pictures:
            write_picture(Path(f"{stem}_original.png"), rng.integers(0, 255, (*size[::-1], 3), dtype=np.uint8))
    entries, lines = [], []
    text = prompt.correspondence()
    for i in range(count):
        view, other = i % views, int(rng.integers(views))
        visible = (i // views + i) % 2 == 0
        answer = format_answer([points[view]] if visible else None)
        scene = stems[view].parent.parent.name
        entries.append(
            {
                "id": f"t1_multi_{scene}_{i}",
                "task": "t1",
                "form": "multi",
                "scene_id": scene,
                "uid": view,
                "image": [f"{stems[other]}_original.png", f"{stems[view]}_original.png"],
                "label": f"class {view % 30}",
                "conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": answer}],
                "query_original": f"{stems[view]}_original.png",
                "mask": f"{stems[view]}_mask.png" if visible else None,
                "visibility": {"visible": visible, "baseline": float(rng.random() * 5)}
                | ({} if visible else {"reason": "occluded"}),
            }
        )
        lines.append(
            {
                "kind": "prediction",
                "id": entries[-1]["id"],
                "key": digest(i),
                "asked": digest(text),
                "run": "bench",
                "text": answer,
                "points": [points[view]] if visible else [],
                "visible": visible,
                "p_visible": float(np.clip(visible + rng.normal(0, 0.3), 0, 1)),
                "timings": {"generate": 0.1},
            }
        )
    data, predictions = folder / "t1_val_multi.json", folder / "predictions.jsonl"
    data.write_text(json.dumps(entries))
    predictions.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return data, predictions


def predicted(config: EvaluationConfig, data: Path, out: Path, batch: int) -> tuple[float, dict[str, str]]:
    """Seconds, and sample -> text."""
    samples = read_samples(data).samples
    model = ModelConfig("roborefer", str(config.path), device=config.device)
    predictor = load_predictor(model, samples)
    predict(samples[:batch], predictor, out.with_suffix(".warm"), run=RunConfig(batch=batch, progress=False))
    start = time.perf_counter()
    summary = predict(samples, predictor, out, run=RunConfig(batch=batch, progress=False))
    seconds = time.perf_counter() - start
    if summary.new + summary.shared != len(samples):
        raise SystemExit(f"expected {len(samples)} new answers, found {summary}")
    return seconds, {name: line["text"] for name, line in read_predictions(out).by_id.items()}


def naive_score(data: Path, predictions: Path) -> float:
    """Hit@Mask as a first script does it."""
    answers = {line["id"]: line["text"] for line in map(json.loads, predictions.read_text().splitlines())}
    hits = total = 0
    for sample in json.loads(data.read_text()):
        if not sample["visibility"]["visible"]:
            continue
        total += 1
        mask = np.array(Image.open(sample["mask"]).convert("L"))
        answer = parse(answers[sample["id"]])
        if answer.points:
            x, y = answer.points[0]
            hits += mask[int(y * mask.shape[0]), int(x * mask.shape[1])] > 0
    return hits / total


def bench_predict(config: EvaluationConfig, folder: Path) -> None:
    data, _ = make_files(folder, config.samples, min(config.samples, 40), (160, 120), pictures=True)
    single, one_by_one = predicted(config, data, folder / "single.jsonl", 1)
    batched, together = predicted(config, data, folder / "batched.jsonl", config.batch)
    if one_by_one != together:
        raise SystemExit("answers differ between batched and one by one")
    print(f"predict one by one   {config.samples / single:8.1f} samples/s   (baseline)")
    print(f"predict, batch {config.batch:4d}  {config.samples / batched:8.1f} samples/s   {single / batched:.2f}x")


def bench_score(config: EvaluationConfig, folder: Path) -> None:
    data, predictions = make_files(folder, config.predictions, config.views, config.size, pictures=False)
    start, used = time.perf_counter(), time.process_time()
    share = naive_score(data, predictions)
    naive, naive_cpu = time.perf_counter() - start, time.process_time() - used
    out = folder / "scores.json"
    command = [sys.executable, "-m", "offline.cli", "eval", "score", str(predictions), "--data", str(data)]
    start, used = time.perf_counter(), children_cpu()
    subprocess.run([*command, "--out", str(out)], check=True, stdout=subprocess.DEVNULL)
    seconds, cpu = time.perf_counter() - start, children_cpu() - used
    scored = json.loads(out.read_text())["overall"]["figures"]["hit_at_mask"]["value"]
    if scored != share:
        raise SystemExit(f"Hit@Mask differs: {scored} and {share}")
    print(f"score, a mask opened per sample, Hit@Mask only   {naive:6.1f} s  {naive_cpu:6.1f} CPU s   (baseline)")
    print(
        f"roboref eval score, everything                   {seconds:6.1f} s  {cpu:6.1f} CPU s   {naive / seconds:.2f}x"
    )
    print(
        f"   {config.predictions} predictions, {config.views} masks of {config.size[0]}x{config.size[1]}, "
        f"{os.cpu_count()} cores"
    )


def children_cpu() -> float:
    """User and system seconds of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    config = tyro.cli(EvaluationConfig, description=__doc__)
    torch.set_num_threads(config.threads)
    with tempfile.TemporaryDirectory() as folder:
        bench_predict(config, Path(folder, "predict"))
        bench_score(config, Path(folder, "score"))


if __name__ == "__main__":
    main()
