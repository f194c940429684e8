"""A tiny model and tiny data: pictures with depth, two pictures, concatenated ones, text alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import yaml
from roboref_core.models.roborefer.checkpoint.random import Shape, write_random_checkpoint

from offline.files import write_picture

SHAPE = Shape(
    hidden=32, intermediate=48, layers=2, heads=2, kv_heads=1, vocabulary=420, tower_hidden=24, tower_intermediate=32,
    tower_layers=2, tower_heads=2, image_size=28, patch_size=14, projector="mlp_downsample", aspect="resize",
    max_length=512,
)  # fmt: skip
KINDS = ("rgbd", "two", "concat", "text")


def write_data(folder: Path, count: int, kinds: tuple[str, ...] = KINDS, seed: int = 0) -> Path:
    """``data.json`` with ``count`` samples of ``kinds`` in turn; RGB-D ones only if all that have pictures are."""
    rng = np.random.default_rng(seed)
    samples = []
    for index in range(count):
        kind = kinds[index % len(kinds)]
        names = [f"{folder.name}_{index}_{n}.png" for n in range({"two": 2, "text": 0}.get(kind, 1))]
        for name in names:
            size = (24, 64, 3) if kind == "concat" else (24, 32, 3)
            write_picture(folder / "image" / name, rng.integers(0, 255, size, dtype=np.uint8))
            write_picture(folder / "depth" / name, rng.integers(0, 255, size[:2], dtype=np.uint8))
        x, y = rng.random(2)
        answer = "NOT_VISIBLE" if index % 5 == 4 else f"[({x:.3f}, {y:.3f})]"
        sample = {
            "id": f"{kind}_{index}",
            "conversations": [
                {"from": "human", "value": f"Where is it? {'Please. ' * int(rng.integers(0, 4))}"},
                {"from": "gpt", "value": answer},
            ],
        }
        if names:
            sample["image"] = names[0] if len(names) == 1 else names
            sample["depth"] = sample["image"]
        samples.append(sample)
    path = folder / "data.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(samples))
    return path


def write_project(folder: Path, shape: Shape = SHAPE, counts: tuple[int, ...] = (7, 10, 3)) -> Path:
    """A model, a registry with data sets "a" (RGB-D), "b" (RGB) and "c" (text), and a plan of three stages."""
    write_random_checkpoint(folder / "base", shape, scale=0.1)
    registry = {}
    for name, count, kinds in zip("abc", counts, (("rgbd", "two", "text"), KINDS, ("text",)), strict=True):
        write_data(folder / name, count, kinds, seed=ord(name))
        registry[name] = {"json": f"{name}/data.json", "image_root": f"{name}/image"}
    registry["a"]["depth_root"] = "a/depth"
    (folder / "datasets.yaml").write_text(yaml.safe_dump(registry))
    plan = {
        "model": "base",
        "registry": "datasets.yaml",
        "output": "run",
        "batch": 4,
        "micro_batch": 2,
        "precision": "fp32",
        "save_every": 100,
        "report_to": [],
        "window": 8,
        "group": 2,
        "warmup_ratio": 0.2,
        "stages": [
            {"name": "align", "mixture": "a", "until_step": 2, "train": ["depth_projector"], "lr": 1e-2},
            {
                "name": "easy",
                "mixture": "a+b*2@0.5",
                "until_step": 4,
                "lr": {
                    "llm": 3e-3,
                    "vision_tower": 1e-3,
                    "mm_projector": 5e-3,
                    "depth_tower": 1e-3,
                    "depth_projector": 5e-3,
                },
            },
            {"name": "hard", "mixture": "a+b+c*1.5", "until_step": 7, "lr": 3e-3},
        ],
    }
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(plan, sort_keys=False))
    return path
