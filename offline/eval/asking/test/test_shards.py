"""Shards of a file of predictions become what one process writes."""

from __future__ import annotations

import json

import pytest

from offline.eval.cli import main
from offline.eval.test.small_data import SmallData


@pytest.fixture
def data(tmp_path):
    return str(SmallData(tmp_path / "data", objects=10, scenes=5).write("t1_val_multi"))


def predict(data, out, *more):
    return main(["predict", "--backend", "random_prior", "--data", data, "--out", str(out), "--no-progress", *more])


@pytest.mark.parametrize("count", [1, 3, 7])
def test_merged_shards_are_the_file_of_one_process_to_the_last_bit(data, tmp_path, count):
    assert predict(data, tmp_path / "whole.jsonl", "--batch", "2") == 0
    (tmp_path / "parts").mkdir()
    for number in reversed(range(1, count + 1)):
        assert predict(data, tmp_path / "parts/whole.jsonl", "--batch", "2", "--shard", f"{number}/{count}") == 0
    assert main(["merge", str(tmp_path / "parts/whole.jsonl"), "--data", data]) == 0
    assert (tmp_path / "parts/whole.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_missing_shard_is_named(data, tmp_path, capsys):
    out = tmp_path / "t1.jsonl"
    for shard in ("1/3", "3/3"):
        predict(data, out, "--shard", shard)
    assert main(["merge", str(out), "--data", data]) == 2
    assert "t1.2of3.jsonl" in capsys.readouterr().err
    predict(data, out, "--shard", "1/2")
    assert main(["merge", str(out), "--data", data]) == 2
    assert "[2, 3] shards" in capsys.readouterr().err
    assert not out.exists()
    assert main(["merge", str(tmp_path / "other.jsonl"), "--data", data]) == 2
    assert "found none" in capsys.readouterr().err


def test_shards_of_two_models_are_not_mixed(data, tmp_path, capsys):
    predict(data, tmp_path / "t1.jsonl", "--shard", "1/2")
    other = ["--backend", "image_centre", "--data", data, "--out", str(tmp_path / "t1.jsonl"), "--shard", "2/2"]
    assert main(["predict", *other]) == 0
    assert main(["merge", str(tmp_path / "t1.jsonl"), "--data", data]) == 2
    assert "another model" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "a/b", "-1/2"])
def test_what_is_no_shard_is_refused(data, tmp_path, capsys, text):
    assert predict(data, tmp_path / "p.jsonl", f"--shard={text}") == 2
    assert "--shard" in capsys.readouterr().err


def test_predictions_of_others_are_read_or_refused_with_what_they_need(data, tmp_path, capsys):
    samples = json.loads(open(data).read())
    right = {s["id"]: s["conversations"][1]["value"] for s in samples}
    plain = tmp_path / "plain.jsonl"
    plain.write_text("".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in right.items()))
    assert main(["score", str(plain), "--data", data, "--out", str(tmp_path / "s.json")]) == 0
    found = json.loads((tmp_path / "s.json").read_text())
    assert found["overall"]["figures"]["correct"]["value"] == 1.0 and found["problems"] == {}
    client = tmp_path / "client.jsonl"
    lines = [{"question_id": name, "text": text, "model_id": "RoboRefer-2B", "step": 1} for name, text in right.items()]
    client.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["score", str(client), "--data", data, "--out", str(tmp_path / "s.json")]) == 0
    found = json.loads((tmp_path / "s.json").read_text())
    assert found["model"] == "RoboRefer-2B" and found["overall"]["figures"]["correct"]["value"] == 1.0
    capsys.readouterr()
    for name, content, words in (
        ("other ids", '{"id": "x1", "text": "a"}\n', ("x1", samples[0]["id"])),
        ("other fields", '{"image": "a.png", "answer": "(0.1, 0.2)"}\n', ("answer, image", '"id"', '"text"')),
        ("no JSON", "garbage\n[1, 2]\n", ("2 lines", '"id"')),
        ("empty", "", ("0 lines", '"id"')),
    ):
        path = tmp_path / f"{name}.jsonl"
        path.write_text(content)
        for command in (
            ["score", str(path)],
            ["compare", str(plain), str(path)],
            ["report", str(path), "--out", str(tmp_path / "r.html")],
        ):
            assert main([*command, "--data", data]) == 2, (name, command)
            captured = capsys.readouterr()
            assert "better" not in captured.out and all(word in captured.err for word in (str(path), *words))
