"""A paired comparison finds what is there, and calls noise noise."""

from __future__ import annotations

import json

import numpy as np
import pytest
from roboref_core.prompting.answer_text import format_answer

from offline.eval.cli import main
from offline.eval.records.predictions import collect
from offline.eval.records.samples import read_samples
from offline.eval.scoring.compare import compare, render
from offline.eval.scoring.judge import judge
from offline.eval.scoring.paired import NOT_TESTED
from offline.eval.test.small_data import SmallData, answer_line


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return SmallData(tmp_path_factory.mktemp("small"), objects=60, scenes=12).write("t1_val_multi")


def answers(samples, wrong_share, seed, name="m"):
    """The right answers, but for a random share."""
    rng = np.random.default_rng(seed)
    lines = []
    for s in samples:
        text = s.extra["conversations"][1]["value"]
        if rng.random() < wrong_share:
            text = "NOT_VISIBLE" if s.truth else format_answer([rng.random(2)])
        lines.append(answer_line(s.id, text))
    return collect(lines, name)


def test_equal_runs_differ_in_nothing(data):
    samples = read_samples(data).samples
    one = judge(samples, answers(samples, 0.3, 0))
    found = compare(one, one)
    assert found["figures"]["correct"]["better_in"] == {"a": 0, "b": 0} and found["figures"]["correct"]["p"] == 1.0
    assert {f["verdict"] for f in found["figures"].values()} == {"within noise"}
    assert all(f["difference"] == 0 for f in found["figures"].values() if f["difference"] is not None)


def test_a_real_difference_is_found_in_the_right_direction(data):
    samples = read_samples(data).samples
    a, b = (judge(samples, answers(samples, share, seed)) for share, seed in ((0.5, 1), (0.1, 2)))
    found, back = compare(a, b), compare(b, a)
    assert found["figures"]["correct"]["verdict"] == found["figures"]["false_refusals"]["verdict"] == "B is better"
    assert found["figures"]["false_refusals"]["difference"] < 0 < found["figures"]["correct"]["difference"]
    assert back["figures"]["correct"]["verdict"] == "A is better"
    assert back["figures"]["correct"]["difference"] == -found["figures"]["correct"]["difference"]
    assert found["figures"]["correct"]["p"] == back["figures"]["correct"]["p"] < 0.001
    only_b = int((b.correct & ~a.correct).sum())
    assert found["figures"]["correct"]["better_in"]["b"] == back["figures"]["correct"]["better_in"]["a"] == only_b


def test_runs_of_one_quality_are_within_noise_most_of_the_time(data):
    samples = read_samples(data).samples
    verdicts = []
    for seed in range(40):
        a, b = (judge(samples, answers(samples, 0.3, 1000 + 2 * seed + k)) for k in (0, 1))
        verdicts.append(compare(a, b)["figures"]["correct"]["verdict"])
    assert verdicts.count("within noise") >= 34


def test_missing_samples_count_as_wrong_unless_told_otherwise(data):
    samples = read_samples(data).samples
    full = answers(samples, 0.0, 0)
    half = collect([line for k, line in enumerate(full.by_id.values()) if k % 2], "half")
    a, b = judge(samples, full), judge(samples, half)
    assert compare(a, b)["figures"]["correct"]["b"] == 0.5
    common = compare(a, b, common=True)
    assert common["figures"]["correct"]["b"] == 1.0 and common["samples"] == len(samples) // 2
    with pytest.raises(ValueError, match="no sample that both answer"):
        compare(judge(samples, collect([], "none")), b, common=True)


def test_different_samples_are_refused(data):
    samples = read_samples(data).samples
    predictions = answers(samples, 0.1, 0)
    with pytest.raises(ValueError, match="same samples"):
        compare(judge(samples, predictions), judge(samples[1:], predictions))


def test_few_scenes_say_so(tmp_path):
    samples = read_samples(SmallData(tmp_path, objects=20, scenes=4).write("t1_val_multi")).samples
    a, b = (judge(samples, answers(samples, share, 0)) for share in (0.9, 0.0))
    found = compare(a, b)
    assert found["clusters"] == {"of": "object", "count": 20}
    assert found["figures"]["correct"]["verdict"] == "B is better"
    assert "verdicts hold for these" in render(found, "a", "b")


def test_too_few_of_everything_is_not_tested(tmp_path):
    samples = read_samples(SmallData(tmp_path, objects=4, scenes=2).write("t1_val_multi")).samples
    a, b = (judge(samples, answers(samples, share, 0)) for share in (1.0, 0.0))
    found = compare(a, b)
    assert {figure["verdict"] for figure in found["figures"].values()} == {NOT_TESTED}
    assert found["figures"]["correct"]["b"] == 1.0
    shown = render(found, "a", "b")
    assert "better" not in shown.split("Exact p")[0] and "nothing is tested" in shown


def test_a_figure_without_a_case_is_not_tested(data):
    samples = [sample for sample in read_samples(data).samples if sample.truth is not None]
    a, b = (judge(samples, answers(samples, share, 0)) for share in (0.9, 0.0))
    found = compare(a, b)["figures"]
    assert found["not_visible_recall"]["verdict"] == found["f1"]["verdict"] == NOT_TESTED
    assert found["not_visible_recall"]["difference"] is None


def test_command(data, tmp_path, capsys):
    samples = read_samples(data).samples
    for name, share in (("a", 0.5), ("b", 0.1)):
        lines = answers(samples, share, 3).by_id.values()
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    arguments = [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl"), "--data", str(data)]
    assert main(["compare", *arguments, "--out", str(tmp_path / "c.json")]) == 0
    out = capsys.readouterr().out
    assert "B is better" in out and "Exact p" in out and "within noise" in out
    assert json.loads((tmp_path / "c.json").read_text())["figures"]["correct"]["verdict"] == "B is better"
