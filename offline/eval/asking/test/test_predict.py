"""Each sample is asked once: in batches, from several workers, over stops, failures and kills."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from roboref_core.models.registry import load_vlm
from roboref_core.prompting import prompt
from roboref_core.prompting.grid import Grid
from roboref_core.prompting.prompt import DrawnMark, Form

from offline.eval.asking.predict import Gone, RunConfig, predict
from offline.eval.asking.predictor import ModelConfig
from offline.eval.asking.predictors import ModelPredictor, checkpoint_hash, load_predictor
from offline.eval.asking.show import ShowConfig, with_grid
from offline.eval.cli import main
from offline.eval.records.predictions import read_predictions
from offline.eval.records.samples import read_samples
from offline.eval.scoring.judge import judge
from offline.eval.scoring.score import score
from offline.eval.test.model_server import serving
from offline.eval.test.small_data import SmallData

QUIET = RunConfig(batch=3, progress=False)
TINY = Path(__file__).parents[4] / "ros2_ws/src/roboref_core/test/roborefer/fixtures/ckpt_rgbd_3x3"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return SmallData(tmp_path_factory.mktemp("small"))


@pytest.fixture
def samples(small):
    return read_samples(small.write("t1_val_multi")).samples


def model(server, workers=2, **changes):
    options = ("model=m", "convention=normalised", "attempts=1", "timeout=10")
    return load_predictor(ModelConfig("openai", url=(server.url,), options=options, workers=workers, **changes), ())


def lines(path):
    return [one for one in map(json.loads, path.read_text().splitlines()) if one["kind"] == "prediction"]


@pytest.mark.parametrize("batch, workers", [(1, 1), (3, 2), (100, 4)])
def test_batches_and_workers_change_nothing(samples, tmp_path, batch, workers):
    with serving() as server:
        summary = predict(samples, model(server, workers), tmp_path / "p.jsonl", run=replace(QUIET, batch=batch))
        assert set(server.asked.values()) == {1} and len(server.asked) == len(samples)
        answers = {line["id"]: line["text"] for line in lines(tmp_path / "p.jsonl")}
        predict(samples, model(server, 1), tmp_path / "one.jsonl", run=replace(QUIET, batch=1))
    assert summary.new == len(samples) and not summary.failed
    assert list(answers) == [s.id for s in samples], "in the order of the samples"
    assert answers == {line["id"]: line["text"] for line in lines(tmp_path / "one.jsonl")}


def test_a_line_holds_what_was_said_and_with_what(samples, tmp_path):
    with serving() as server:
        predict(samples[:1], model(server, name="m1"), tmp_path / "p.jsonl", run=QUIET)
    run, line = map(json.loads, (tmp_path / "p.jsonl").read_text().splitlines())
    assert {"text", "points", "visible", "p_visible", "timings", "key", "asked"} <= set(line)
    assert line["run"] == run["run"] and line["timings"]["generate"] > 0
    assert run["model"] == "m1" and "numpy" in run["versions"] and "git" in run
    assert run["show"] == {"grid": None, "depth": False, "depth_estimator": None}
    assert run["identity"]["options"]["convention"] == "normalised"


def test_a_second_run_asks_for_the_rest_only(samples, tmp_path):
    out = tmp_path / "p.jsonl"
    with serving() as server:
        first = predict(samples, model(server), out, run=replace(QUIET, limit=7))
        second = predict(samples, model(server), out, run=QUIET)
        third = predict(samples, model(server), out, run=QUIET)
        assert set(server.asked.values()) == {1}
    assert (first.new, second.kept, second.new, third.kept, third.new) == (7, 7, len(samples) - 7, len(samples), 0)
    assert Counter(line["id"] for line in lines(out)) == Counter(s.id for s in samples)


def test_samples_that_ask_the_same_share_an_answer(samples, tmp_path):
    twins = [replace(s, id=f"twin of {s.id}") for s in samples]
    out = tmp_path / "p.jsonl"
    with serving() as server:
        first = predict([samples[0], twins[0], samples[1]], model(server), out, run=QUIET)
        later = predict([*samples, *twins], model(server), out, run=QUIET)
        assert set(server.asked.values()) == {1} and len(server.asked) == len(samples)
    assert (first.new, first.shared) == (2, 1) and later.shared == len(samples) - 1
    texts = {line["id"]: line["text"] for line in lines(out)}
    assert all(texts[s.id] == texts[t.id] for s, t in zip(samples, twins, strict=True))


def test_changed_pictures_or_prompts_are_asked_again(small, samples, tmp_path):
    out = tmp_path / "p.jsonl"
    with serving() as server:
        predict(samples[:4], model(server), out, run=QUIET)
        changed = replace(samples[0], images=(samples[2].images[0], samples[0].images[1]))
        reworded = replace(samples[1], prompt=f"Please. {samples[1].prompt}")
        summary = predict([changed, reworded, *samples[2:4]], model(server), out, run=QUIET)
        gridded = predict(samples[:4], model(server), out, ShowConfig(grid=True), QUIET)
        before = predict(samples[:4], model(server), out, run=QUIET)
        assert set(server.asked.values()) == {1}
    assert (summary.new, summary.kept, gridded.new) == (2, 2, 4)
    # Back to what was asked first: nothing is asked, but the last line of each sample is the right one again.
    assert (before.new, before.shared) == (0, 4)
    assert not judge(samples[:4], read_predictions(out)).problems.keys() - {"superseded line"}


def test_what_cannot_be_read_is_told_and_the_rest_is_answered(samples, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG nothing")
    odd = [replace(samples[0], images=(broken, broken)), replace(samples[1], images=(tmp_path / "none.png",) * 2)]
    with serving() as server:
        summary = predict([*odd, *samples[2:5]], model(server), tmp_path / "p.jsonl", run=QUIET)
    assert summary.new == 3 and set(summary.unreadable) == {samples[0].id, samples[1].id}
    assert "broken.png" in summary.unreadable[samples[0].id] and "none.png" in str(summary.unreadable)


def test_a_failure_costs_its_own_sample_only_and_is_tried_again(samples, tmp_path):
    out = tmp_path / "p.jsonl"
    with serving() as server:
        server.refuse = lambda answer: 400 if answer == "NOT_VISIBLE" else None
        first = predict(samples, model(server), out, run=QUIET)
        server.refuse = lambda answer: None
        second = predict(samples, model(server), out, run=QUIET)
    assert first.failed and first.new == len(samples) - len(first.failed)
    assert all("INVALID_QUERY" in text for text in first.failed.values())
    assert second.new == len(first.failed) and second.kept == first.new and not second.failed


def test_a_dead_server_ends_the_run(small, tmp_path):
    many = [
        replace(s, id=f"{s.id} {k}", prompt=f"{s.prompt} {k}")
        for k in range(3)
        for s in read_samples(small.write("t1_val_multi")).samples
    ]
    with serving() as server:
        server.refuse = lambda answer: 500
        with pytest.raises(Gone, match="20 failures in a row"):
            predict(many, model(server), tmp_path / "p.jsonl", run=QUIET)


def test_several_servers_share_the_work(samples, tmp_path):
    options = ("model=m", "convention=normalised")
    with serving(0.02) as a, serving(0.02) as b:
        config = ModelConfig("openai", url=(a.url, b.url), options=options, workers=1, name="both")
        predict(samples, load_predictor(config, ()), tmp_path / "p.jsonl", run=replace(QUIET, batch=1))
        assert min(sum(a.asked.values()), sum(b.asked.values())) > 3
        assert sum((a.asked + b.asked).values()) == len(samples)


def test_the_grids_words_are_those_of_the_prompt_builder(small):
    grid, mark = Grid(), DrawnMark(label="mug")
    (multi, *_), (concat, *_), (missing, *_), (difference, *_) = (
        read_samples(small.write(name)).samples
        for name in ("t1_val_multi", "t1_val_concat", "t2a_val_multi", "t2b_val_multi")
    )
    assert with_grid(multi, grid) == prompt.correspondence(mark=mark, grid=grid)
    assert with_grid(missing, grid) == prompt.missing(mark=mark, grid=grid)
    assert with_grid(difference, grid) == prompt.difference(grid=grid)
    single = replace(multi, images=multi.images[:1], prompt=prompt.referring("the mug"))
    assert with_grid(single, grid) == prompt.referring("the mug", grid=grid)
    place = small.objects[0]["views"][0]["xy"]
    xy = (place[0] * 64 / 144, place[1] * 48 / 60)
    built = prompt.correspondence(Form.CONCAT, replace(mark, xy=xy), grid)
    assert with_grid(concat, grid) == built and with_grid(concat, None) == concat.prompt
    with pytest.raises(ValueError, match="has a grid"):
        with_grid(replace(multi, gridded=True), grid)


def test_checkpoint_hash_sees_every_byte_and_no_training_state(tmp_path):
    (tmp_path / "llm").mkdir()
    (tmp_path / "llm" / "model.safetensors").write_bytes(b"weights")
    before = checkpoint_hash(tmp_path)
    (tmp_path / "checkpoint-40").mkdir()
    (tmp_path / "checkpoint-40" / "optimizer.pt").write_bytes(b"state")
    assert checkpoint_hash(tmp_path) == before
    (tmp_path / "llm" / "model.safetensors").write_bytes(b"weightz")
    assert checkpoint_hash(tmp_path) != before


def test_commands_say_what_is_lacking(small, tmp_path, capsys):
    data, out = str(small.write("t1_val_multi")), str(tmp_path / "p.jsonl")
    for arguments, words in (
        (["--backend", "roborefer"], "needs a path"),
        (["--model", "openai"], "needs a url"),
        (["--model", "reprojection"], "--scenes"),
    ):
        assert main(["predict", *arguments, "--data", data, "--out", out]) == 2
        assert words in capsys.readouterr().err
    assert main(["predict", "--model", "never_visible", "--data", data, "--out", out, "--no-progress"]) == 0
    assert len(lines(Path(out))) == 24


def test_a_real_checkpoint_answers_the_same_in_batches(samples, tmp_path):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    vlm = load_vlm("roborefer", str(TINY), device="cpu", max_points=1)
    predictor = ModelPredictor([vlm], vlm.name, {"checkpoint": "tiny"}, 1)
    for batch in (1, 3):
        predict(samples[:4], predictor, tmp_path / f"{batch}.jsonl", run=replace(QUIET, batch=batch))
    one, three = (lines(tmp_path / f"{batch}.jsonl") for batch in (1, 3))
    assert [line["text"] for line in one] == [line["text"] for line in three]
    assert all(line["p_visible"] is not None and line["point_covariance"] for line in one if line["visible"])


@pytest.mark.slow
def test_killed_at_random_points_it_ends_with_the_same_scores(tmp_path):
    """kill -9 until it is through; nothing is recorded twice, and what was asked twice was under way at a kill."""
    data = SmallData(tmp_path / "data", objects=40, scenes=5).write("t1_val_multi")
    samples = read_samples(data).samples
    batch, workers = 4, 2

    def command(server, out):
        return [
            sys.executable,
            "-m",
            "offline.cli",
            "eval",
            "predict",
            "--model",
            "openai",
            "--url",
            server.url,
            "--options",
            "model=m",
            "convention=normalised",
            "--name",
            "m",
            "--workers",
            str(workers),
            "--batch",
            str(batch),
            "--no-progress",
            "--data",
            str(data),
            "--out",
            str(out),
        ]

    with serving(0.08) as server:
        subprocess.run(command(server, tmp_path / "calm.jsonl"), check=True)
        assert set(server.asked.values()) == {1}
        server.asked.clear()
        out, kills, rng = tmp_path / "killed.jsonl", 0, random.Random(0)
        while True:
            process = subprocess.Popen(command(server, out), start_new_session=True)
            written = out.stat().st_size if out.exists() else 0
            while process.poll() is None and (not out.exists() or out.stat().st_size <= written):
                time.sleep(0.002)
            time.sleep(rng.random() * 0.15)
            if process.poll() is not None:
                break
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
        assert process.returncode == 0 and kills >= 5, kills
        assert sum(server.asked.values()) <= len(samples) + kills * batch * (2 * workers + 1)
    assert Counter(line["id"] for line in lines(out)) == Counter(s.id for s in samples)
    calm, killed = (judge(samples, read_predictions(path)) for path in (tmp_path / "calm.jsonl", out))
    assert json.dumps(score(calm)) == json.dumps(score(killed)) and not killed.problems
