"""`roboref eval lmms-tasks`: files of samples as tasks of lmms-eval, scored by the very scorer of `roboref eval score`.

A task is a YAML file, its questions as JSON lines, and ``utils.py``, which hands lmms-eval the functions of this
module (their names and arguments are lmms-eval's, see its task guide). The model's text is read as the data's own
grammar, in [0, 1] of the answered picture.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import tyro
import yaml
from PIL import Image
from roboref_core.atomic import write_text
from tyro.conf import Positional

from offline.eval.records.json_lines import write_lines
from offline.eval.records.predictions import collect
from offline.eval.records.samples import SampleFile, read_samples
from offline.eval.scoring.judge import judge
from offline.eval.scoring.metrics import FIGURES
from offline.eval.scoring.score import overall

METRICS = ("correct", "hit_at_mask", "not_visible_accuracy", "balanced_accuracy", "l2", "unparsable")
_UTILS = '''"""What the task files in this folder call; needs a checkout of RoboRef on the Python path."""

from offline.eval.adapters.lmms_eval import *  # noqa: F403
'''
_read = lru_cache(4)(read_samples)


def doc_to_visual(doc: Mapping[str, Any]) -> list[Image.Image]:
    """The pictures of a question, the queried one last."""
    return [Image.open(path).convert("RGB") for path in doc["images"]]


def doc_to_text(doc: Mapping[str, Any], lmms_eval_specific_kwargs: Mapping[str, str] | None = None) -> str:
    """The prompt, between what lmms-eval wants around it for a model."""
    around = lmms_eval_specific_kwargs or {}
    return f"{around.get('pre_prompt', '')}{doc['prompt']}{around.get('post_prompt', '')}"


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, dict[str, str]]:
    """One answer, as each of ``METRICS`` takes it."""
    answer = {"data": str(doc["data"]), "id": str(doc["id"]), "text": str(results[0])}
    return dict.fromkeys(METRICS, answer)


def _aggregation(name: str) -> Callable[[Sequence[Mapping[str, str]]], float]:
    def aggregate(results: Sequence[Mapping[str, str]], *_: object, **__: object) -> float:
        if not results:
            return float("nan")
        data = _read(results[0]["data"])
        predictions = collect(({"id": one["id"], "text": one["text"]} for one in results), "lmms-eval")
        asked = [sample for sample in data.samples if sample.id in predictions.by_id]
        value = overall(judge(asked, predictions))["figures"][name]["value"]
        return float("nan") if value is None else value

    aggregate.__doc__ = f"{FIGURES[name].title} of ``roboref eval score``, over the questions that were asked."
    return aggregate


aggregate_correct = _aggregation("correct")
aggregate_hit_at_mask = _aggregation("hit_at_mask")
aggregate_not_visible_accuracy = _aggregation("not_visible_accuracy")
aggregate_balanced_accuracy = _aggregation("balanced_accuracy")
aggregate_l2 = _aggregation("l2")
aggregate_unparsable = _aggregation("unparsable")


def write_task(data: SampleFile, source: Path, folder: Path) -> str:
    """Write one task into ``folder``; its name, "roboref_" and that of the file.

    Args:
        source: the file of ``data``, which scoring reads again.
    """
    name = f"roboref_{data.name}"
    questions = [
        {
            "id": sample.id,
            "images": [str(path.absolute()) for path in sample.images],
            "prompt": sample.prompt,
            "target": "NOT_VISIBLE" if sample.truth is None else str(list(sample.truth)),
            "data": str(source.absolute()),
        }
        for sample in data.samples
    ]
    write_lines(folder / f"{name}.jsonl", questions)
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str((folder / f"{name}.jsonl").absolute())}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_visual": "!function utils.doc_to_visual",
        "doc_to_text": "!function utils.doc_to_text",
        "doc_to_target": "target",
        "generation_kwargs": {"max_new_tokens": 256, "temperature": 0, "do_sample": False},
        "process_results": "!function utils.process_results",
        "metric_list": [
            {
                "metric": metric,
                "aggregation": f"!function utils.aggregate_{metric}",
                "higher_is_better": FIGURES[metric].better > 0,
            }
            for metric in METRICS
        ],
        "metadata": [{"version": 1.0}],
    }
    # A tag in quotes is a text; lmms-eval wants the tag.
    text = re.sub(r"'(!function [\w.]+)'", r"\1", yaml.safe_dump(task, sort_keys=False))
    write_text(folder / f"{name}.yaml", text)
    return name


@dataclass(frozen=True)
class LmmsTasks:
    """Make tasks of lmms-eval from files of samples, scored as `roboref eval score` scores.

      roboref eval lmms-tasks tasks/t1_val_multi.json tasks/t2a_val_multi.json --out lmms_tasks
      python -m lmms_eval --include_path lmms_tasks --tasks roboref_t1_val_multi --model ... --log_samples

    Run lmms-eval with this checkout on PYTHONPATH.
    """

    data: Annotated[Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FILE.json ...")]
    """Files of samples."""
    out: Path = Path("lmms_tasks")
    """Folder for the tasks."""

    def __call__(self) -> None:
        if not self.data:
            raise ValueError("name at least one file of samples")
        files = [(path, read_samples(path)) for path in self.data]
        write_text(self.out / "utils.py", _UTILS)
        for path, data in files:
            print(f"{write_task(data, path, self.out)}: {len(data.samples)} questions")
