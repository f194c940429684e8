"""Every public benchmark: how to get its data, how it is read, and how its published overall figure is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from offline.eval.benches import items, spatial
from offline.eval.benches.families import Family
from offline.eval.benches.items import Item


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    Attributes:
        read: reads a folder in its published layout.
        fetch: commands that put its data into {root}.
        source: where layout and scorer were read.
        combine: the published overall figure from those of its groups; None: as every question.
    """

    read: Callable[[Path, Family], list[Item]]
    fetch: str
    source: str
    combine: Callable[[dict[str, float | None]], float | None] | None = None


_ROWS = """python - <<'END'
import json, pathlib
from datasets import load_dataset
root = pathlib.Path("{root}")
{body}
END"""
_CVBENCH = _ROWS.replace(
    "{body}",
    """with open(root / "test.jsonl", "w") as file:
    for row in load_dataset("nyu-visionx/CV-Bench", split="test"):
        path = root / row["filename"]
        path.parent.mkdir(parents=True, exist_ok=True)
        row.pop("image").save(path)
        file.write(json.dumps(row) + chr(10))""",
)
_BLINK = _ROWS.replace(
    "{body}",
    f"""for task in {list(spatial.BLINK_TASKS)}:
    (root / task).mkdir(parents=True, exist_ok=True)
    with open(root / task / "val.jsonl", "w") as file:
        for row in load_dataset("BLINK-Benchmark/BLINK", task, split="val"):
            for i in range(1, 5):
                image, row[f"image_{{i}}"] = row[f"image_{{i}}"], None
                if image is not None:
                    row[f"image_{{i}}"] = row["idx"] + f"_{{i}}.png"
                    image.save(root / task / row[f"image_{{i}}"])
            file.write(json.dumps(row) + chr(10))""",
)
BENCHMARKS = {
    "refspatial": Benchmark(
        items.read_refspatial, "hf download BAAI/RefSpatial-Bench --repo-type dataset --local-dir {root}",
        "Zhoues/RoboRefer, Evaluation/summarize_acc.py",
    ),
    "where2place": Benchmark(
        items.read_where2place, "hf download wentao-yuan/where2place --repo-type dataset --local-dir {root}",
        "wentaoyuan/RoboPoint, robopoint/eval/summarize_vqa.py",
    ),
    "crosspoint": Benchmark(
        items.read_crosspoint, "hf download WangYipu2002/CrossPoint-Bench --repo-type dataset --local-dir {root}",
        "the data set's card; no published scorer here",
    ),
    "robospatial": Benchmark(
        spatial.read_robospatial,
        "git clone https://github.com/chanhee-luke/RoboSpatial-Eval && "
        "python RoboSpatial-Eval/download_benchmark.py {root}",
        "chanhee-luke/RoboSpatial-Eval, evaluation.py",
    ),
    "pointbench": Benchmark(
        spatial.read_pointbench, "hf download PointArena/pointarena-data --repo-type dataset --local-dir {root}",
        "pointarena/pointarena, model_evaluator.py",
    ),
    "cvbench": Benchmark(
        spatial.read_cvbench, _CVBENCH, "nyu-visionx/CV-Bench, the data set's card", spatial.combine_cvbench
    ),
    "blink": Benchmark(
        spatial.read_blink, _BLINK, "zeyofu/BLINK_Benchmark, eval/evaluate.py", spatial.combine_mean
    ),
}  # fmt: skip
