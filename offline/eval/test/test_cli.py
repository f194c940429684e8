"""Every command of `roboref eval` is there and explains itself."""

from __future__ import annotations

import json

import pytest

from offline.eval import cli
from offline.eval.records.samples import read_samples
from offline.eval.test.small_data import SmallData, answer_line


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as exit_info:
        cli.main([name, "--help"])
    assert exit_info.value.code == 0
    assert f"usage: roboref eval {name}" in capsys.readouterr().out


def test_unknown_command_is_refused_with_the_list(capsys):
    assert cli.main(["dance"]) == 2
    captured = capsys.readouterr()
    assert "'dance'" in captured.err and "zeroshot" in captured.err and not captured.out


def test_figures_as_json_for_scripts(tmp_path, capsys):
    data = SmallData(tmp_path, objects=4, scenes=2).write("t1_val_multi")
    samples = read_samples(data).samples
    for name, text in (("a", "NOT_VISIBLE"), ("b", "[(0.5, 0.5)]")):
        lines = [json.dumps(answer_line(sample.id, text)) for sample in samples]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    assert cli.main(["score", str(tmp_path / "a.jsonl"), "--data", str(data), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == len(samples)
    pair = [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]
    assert cli.main(["compare", *pair, "--data", str(data), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answered_by_both"] == len(samples)
