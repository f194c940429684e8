"""Every way to show T1 that the model and the files allow, and paired differences between neighbours."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from offline.eval.ablation import FORMS, differences, variants
from offline.eval.asking.show import ShowConfig
from offline.eval.cli import main
from offline.eval.records.predictions import collect
from offline.eval.records.samples import read_samples
from offline.eval.scoring.judge import judge
from offline.eval.test.model_server import serving
from offline.eval.test.small_data import SmallData, answer_line


class Takes:
    """Stands for what ``variants`` asks of a predictor."""

    def __init__(self, depth):
        self.uses_depth = depth


def test_depth_is_varied_only_where_there_is_depth(tmp_path):
    data = read_samples(SmallData(tmp_path).write("t1_val_multi"))
    with_depth = replace(data, samples=tuple(replace(s, depths=(Path("a"), Path("b"))) for s in data.samples))
    names = [v.name for v in variants([with_depth], Takes(True), ShowConfig())]
    assert names == ["t1_val_multi", "t1_val_multi_depth", "t1_val_multi_grid", "t1_val_multi_grid_depth"]
    for files, model in (([data], Takes(True)), ([with_depth], Takes(False))):
        assert [v.name for v in variants(files, model, ShowConfig())] == ["t1_val_multi", "t1_val_multi_grid"]


def test_a_variant_that_solves_more_helps(tmp_path):
    data = read_samples(SmallData(tmp_path, objects=40, scenes=10).write("t1_val_multi"))
    plain, grid = variants([data], Takes(False), ShowConfig())
    right = collect([answer_line(s.id, s.extra["conversations"][1]["value"]) for s in data.samples], "m")
    refused = collect([answer_line(s.id, "NOT_VISIBLE") for s in data.samples], "m")
    rows = differences({plain: judge(data.samples, refused), grid: judge(data.samples, right)})
    assert [row[0] for row in rows] == ["grid"] * 3 and {row[-1] for row in rows} == {"helps"}
    rows = differences({plain: judge(data.samples, right), grid: judge(data.samples, refused)})
    assert {row[-1] for row in rows} == {"hurts"}


def test_command(tmp_path, capsys):
    small = SmallData(tmp_path / "data", objects=6, scenes=3)
    for name in FORMS:
        small.write(name)
    with serving() as server:
        arguments = [
            "ablation",
            "--tasks-dir",
            str(tmp_path / "data"),
            "--backend",
            "openai",
            "--url",
            server.url,
            "--options",
            "model=m",
            "convention=normalised",
            "--out",
            str(tmp_path / "out"),
            "--no-progress",
        ]
        assert main(arguments) == 0
        assert len(server.asked) == 4 * 12, "the grid changes pictures and words"
    assert "adding" in capsys.readouterr().out
    scores = json.loads((tmp_path / "out" / "ablation.json").read_text())
    assert list(scores) == sorted(["t1_val_multi", "t1_val_multi_grid", "t1_val_concat", "t1_val_concat_grid"])
