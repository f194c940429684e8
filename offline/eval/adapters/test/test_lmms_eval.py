"""Tasks of lmms-eval, run as it runs them: the same figures as `roboref eval score`."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
import yaml

from offline.eval.adapters.lmms_eval import METRICS
from offline.eval.cli import main
from offline.eval.test.small_data import SmallData


class Loader(yaml.SafeLoader):
    """Reads "!function utils.name" as lmms-eval does: the function of the file beside the task."""


def load_task(path):
    spec = importlib.util.spec_from_file_location("utils", path.with_name("utils.py"))
    utils = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(utils)
    Loader.add_constructor("!function", lambda loader, node: getattr(utils, node.value.split(".")[1]))
    return yaml.load(path.read_text(), Loader)


@pytest.mark.parametrize("name", ["t1_val_multi", "t1_val_concat", "t2a_val_multi", "t2b_val_multi"])
def test_a_task_scores_as_the_scorer_does(tmp_path, capsys, name):
    data = SmallData(tmp_path / "data", objects=8, scenes=4).write(name)
    assert main(["lmms-tasks", str(data), "--out", str(tmp_path / "tasks")]) == 0
    assert f"roboref_{name}: " in capsys.readouterr().out
    task = load_task(tmp_path / "tasks" / f"roboref_{name}.yaml")
    docs = [json.loads(line) for line in open(task["dataset_kwargs"]["data_files"][task["test_split"]])]
    truth = {entry["id"]: entry["conversations"][1]["value"] for entry in json.loads(data.read_text())}
    rng, lines, processed = np.random.default_rng(0), [], []
    for doc in docs:
        pictures = task["doc_to_visual"](doc)
        assert len(pictures) == (1 if "concat" in name else 2) and pictures[0].mode == "RGB"
        asked = task["doc_to_text"](doc, {"pre_prompt": "<", "post_prompt": ">"})
        assert asked == f"<{doc['prompt']}>"
        text = [truth[doc["id"]], "NOT_VISIBLE", "[(0.1, 0.2)]", "no idea"][rng.integers(4)]
        lines.append({"id": doc["id"], "text": text})
        processed.append(task["process_results"](doc, [text]))
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["score", str(tmp_path / "p.jsonl"), "--data", str(data), "--out", str(tmp_path / "s.json")]) == 0
    figures = json.loads((tmp_path / "s.json").read_text())["overall"]["figures"]
    assert [metric["metric"] for metric in task["metric_list"]] == list(METRICS)
    for metric in task["metric_list"]:
        found = metric["aggregation"]([one[metric["metric"]] for one in processed])
        expected = figures[metric["metric"]]["value"]
        assert np.isnan(found) if expected is None else found == expected
    # --limit: what was not asked does not count.
    few = [one["unparsable"] for one in processed[:3]]
    assert task["metric_list"][-1]["aggregation"](few) == np.mean([line["text"] == "no idea" for line in lines[:3]])
