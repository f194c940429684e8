"""The demo: what it asks, what it writes, and that the model learns."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest
from roboref_core.models.nano import CHECKPOINT
from roboref_core.prompting.answer_text import NOT_VISIBLE

from offline.data_engine.task_files import turns
from offline.eval.ablation import Variant
from offline.eval.asking.show import ShowConfig
from offline.eval.records.predictions import Predictions
from offline.eval.records.samples import SampleFile, read_samples
from offline.eval.replay.scoring.table import Run
from offline.eval.reporting.report import section
from offline.eval.scoring.score import score
from offline.eval.test.small_data import SmallData
from offline.train.demo import ablations
from offline.train.demo.config import DemoConfig, RoomsConfig, TuningConfig
from offline.train.demo.demo import demo, mixture
from offline.train.demo.page import AFTER, BEFORE, difference_rows, score_rows, tables, write_page
from offline.train.demo.questions import (
    BY_HEART,
    HELD_OUT,
    TRAIN,
    coordinates_of,
    negative,
    solvable,
    without,
    write_by_heart,
    write_questions,
)
from offline.train.demo.rooms import build, make_rooms
from offline.train.registry import Entry, parse_mixture


def built(folder, objects: int = 12):
    """Task files of both splits, as the data engine would have written them."""
    data = SmallData(folder / "small", objects=objects, scenes=6)
    tasks = folder / "tasks"
    for name in (*TRAIN, *(f"{name}_grid" for name in TRAIN), *HELD_OUT):
        like = name.replace("train", "val").removesuffix("_grid").replace("referring_val", "t1_val_multi")
        samples = [sample | {"id": f"{name}_{sample['id']}"} for sample in data.samples(like)]
        tasks.mkdir(exist_ok=True)
        (tasks / f"{name}.json").write_text(json.dumps(samples))
    return tasks


def answers(samples) -> list[str]:
    return [text for sample in samples for text in turns(sample, "gpt")]


def test_training_answers_are_spelled_in_the_models_coordinates(tmp_path):
    write_questions(built(tmp_path), tmp_path / "questions", CHECKPOINT, held_out=5)
    known = {f"{value:.3f}" for value in coordinates_of(CHECKPOINT)}
    assert known
    for name in (*TRAIN, *(f"{name}_grid" for name in TRAIN)):
        said = answers(json.loads((tmp_path / "questions" / f"{name}.json").read_text()))
        assert set(re.findall(r"\d\.\d+", " ".join(said))) <= known


def test_held_out_questions_are_a_few_as_they_were(tmp_path):
    source = built(tmp_path)
    write_questions(source, tmp_path / "questions", CHECKPOINT, held_out=5)
    for name in HELD_OUT:
        all_, chosen = (json.loads((f / f"{name}.json").read_text()) for f in (source, tmp_path / "questions"))
        assert len(chosen) == 5
        assert all(sample in all_ for sample in chosen)


def test_what_is_learned_by_heart_is_what_the_base_got_wrong(tmp_path):
    source, questions = built(tmp_path), tmp_path / "questions"
    write_questions(source, questions, CHECKPOINT, held_out=5)
    wrong = {}

    def solved(data):
        # Of each task's file the base is wrong on one question, and that is the last that is looked at.
        wrong[data.name] = data.samples[-1].id
        return np.array([sample.id != wrong[data.name] for sample in data.samples])

    write_by_heart(source, questions, 10, solved)
    learned = json.loads((questions / f"{BY_HEART}.json").read_text())
    assert len(learned) == 10
    ids = {sample["id"] for sample in learned}
    assert {name.split("_")[0] for name in ids} == {"t1", "t2a", "t2b", "referring"}
    assert set(wrong.values()) <= ids
    samples = read_samples(questions / f"{BY_HEART}.json").samples
    assert solvable(samples, answers(learned)).all()


def test_too_few_questions_to_learn_are_named(tmp_path):
    source, questions = built(tmp_path), tmp_path / "questions"
    write_questions(source, questions, CHECKPOINT, held_out=5)
    with pytest.raises(ValueError, match=r"t1_train_multi\.json: expected 100 questions to learn by heart, found"):
        write_by_heart(source, questions, 400, lambda data: np.zeros(len(data.samples), bool))
    assert not (questions / f"{BY_HEART}.json").exists()


def test_an_answer_beside_the_object_solves_nothing(tmp_path):
    samples = read_samples(built(tmp_path) / "t1_train_multi.json").samples
    right = [NOT_VISIBLE if sample.truth is None else f"[{sample.truth[0]}]" for sample in samples]
    assert solvable(samples, right).all()
    far = ["[(0.999, 0.999)]" for _ in samples]
    assert not solvable(samples, far).any()
    assert [*solvable(samples, [NOT_VISIBLE] * len(samples))] == [sample.truth is None for sample in samples]


def test_files_without_negatives(tmp_path):
    source = built(tmp_path) / "t1_train_multi.json"
    without(source, tmp_path / "visible.json", negative)
    before, after = json.loads(source.read_text()), json.loads((tmp_path / "visible.json").read_text())
    assert after == [sample for sample in before if turns(sample, "gpt") != [NOT_VISIBLE]]
    assert 0 < len(after) < len(before)


@pytest.mark.parametrize("options", [{}, {"grids": ("",)}, {"suffix": "_visible"}])
def test_mixtures_name_all_tasks(options):
    names = [
        f"{name}{grid}{options.get('suffix', '')}" for name in TRAIN for grid in options.get("grids", ("", "_grid"))
    ]
    terms = parse_mixture(mixture(**options), {name: Entry(json=f"{name}.json") for name in names})
    assert {term.name for term in terms} == set(names)
    assert all((term.weight == 2) == term.name.startswith("t2b") for term in terms)


def test_rooms_of_another_configuration_are_refused(tmp_path, monkeypatch):
    config = RoomsConfig(rooms=2, held_out=1, frames=4)
    monkeypatch.setattr("offline.train.demo.rooms.Build.__call__", lambda self: 0)
    monkeypatch.setattr("offline.train.demo.rooms.make_rooms", lambda folder, seeds, *_: [f"scene{s}" for s in seeds])
    build(tmp_path, config, 1)
    assert (tmp_path / "validation.txt").read_text() == "scene102\n"
    build(tmp_path, RoomsConfig(rooms=2, held_out=1, frames=4, questions=7), 1)
    with pytest.raises(ValueError, match=r"other rooms \(frames: 4 -> 5\): use another output folder"):
        build(tmp_path, RoomsConfig(rooms=2, held_out=1, frames=5), 1)


def told(name: str, data: SampleFile, texts) -> Predictions:
    lines = {sample.id: {"text": text} for sample, text in zip(data.samples, texts, strict=True)}
    return Predictions(name, lines, 0, 0, 0, {})


def replay_scores(decided: int) -> dict:
    share = {"value": decided / 10, "hits": decided, "total": 10, "low": 0.0, "high": 1.0}
    three = {"median": 0.1, "p90": 0.2, "below_5cm": share, "below_10cm": share, "inside_95": share}
    return {
        "questions": 10,
        "decidable": 10,
        "error_3d": three,
        "error_camera": three,
        "error_2d": {"median": 1.0, "p90": 2.0},
        "hit_at_mask": share,
        "not_visible": {"accuracy": share, "recall": share, "false_refusals": share},
        "no_depth": {"count": 0, "far_position": 0, "wrong_position": 0},
        "error_codes": {},
        "pairs": {"dropped": 0, "played": 10},
        "latency": {"p50": 0.01, "p95": 0.02},
        "fates": {},
    }


@pytest.fixture
def part(tmp_path):
    """One file that "before" always refuses and "after" always solves."""
    data = read_samples(built(tmp_path, objects=24) / "t1_val_multi.json")
    right = [NOT_VISIBLE if sample.truth is None else f"[{sample.truth[0]}]" for sample in data.samples]
    return section(data, [told(BEFORE, data, [NOT_VISIBLE] * len(right)), told(AFTER, data, right)])


def test_tables_tell_before_from_after_and_from_baselines(part, tmp_path):
    rows = {row[1]: row for row in score_rows([part])}
    assert list(rows) == [BEFORE, AFTER, "image_centre", "random_prior", "never_visible"]
    assert rows[AFTER][3].startswith("100.0 %") and rows[AFTER][4].startswith("100.0 %")
    assert rows[BEFORE][3:] == rows["never_visible"][3:]
    against = {row[1]: row for row in difference_rows([part])}
    assert AFTER not in against and list(against) == [name for name in rows if name != AFTER]
    assert re.fullmatch(r"\+0\.500 \(\+0\.500 to \+0\.500\), better", against[BEFORE][2])
    text = tables(part, [part], [Run(BEFORE, "", [], replay_scores(3), tmp_path)])
    assert "Learned by heart" in text and "30.0 % (3/10" in text


def test_the_page_needs_nothing_beside_itself(part, tmp_path):
    picture = tmp_path / "loss.png"
    picture.write_bytes(b"\x89PNG curve")
    runs = [Run(name, "", [], replay_scores(n), tmp_path) for name, n in ((BEFORE, 3), (AFTER, 7))]
    write_page(tmp_path / "report.html", {"base": "<nano>"}, {"fine-tuned": picture}, part, [part], runs)
    page = (tmp_path / "report.html").read_text()
    assert "&lt;nano&gt;" in page and base64.b64encode(picture.read_bytes()).decode() in page
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert "30.0 % (3/10" in page and "70.0 % (7/10" in page


def test_ablations_compare_each_with_everything(part):
    data = part.data
    asked = []
    for trained in (ablations.EVERYTHING, ablations.NO_GRID, ablations.NO_NEGATIVES):
        for grid in (False, True):
            who = BEFORE if trained == ablations.NO_NEGATIVES else AFTER
            asked.append(ablations.Asked(trained, Variant(data, ShowConfig(grid=grid)), part.judged[who]))
    text = ablations.tables(asked, [score(one.judged) for one in asked])
    assert (
        len(re.findall(r"no_negatives +\| (?:plain|with a grid) +\| -0\.500 \(-0\.500 to -0\.500\), worse", text)) == 2
    )
    assert (
        len(re.findall(r"no_grid +\| (?:plain|with a grid) +\| \+0\.000 \(\+0\.000 to \+0\.000\), within noise", text))
        == 2
    )
    whole = ablations.joined([data, SampleFile("more", data.samples[:2], {}, {})])
    assert len(whole.samples) == len(data.samples) + 2


def test_a_room_is_made_once(tmp_path):
    names = make_rooms(tmp_path, [3], 2, workers=1)
    assert names == ["scene0003_00"]
    made = (tmp_path / "scene0003_00" / "scene0003_00.sens").stat().st_mtime_ns
    make_rooms(tmp_path, [3], 2, workers=1)
    assert (tmp_path / "scene0003_00" / "scene0003_00.sens").stat().st_mtime_ns == made


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_model_learns_and_the_node_answers_with_it(tmp_path, capsys):
    config = DemoConfig(
        out=tmp_path / "demo",
        data=RoomsConfig(rooms=3, held_out=2, frames=30, questions=12, by_heart=8),
        tuning=TuningConfig(steps=12, batch=8, threads=1),
        by_heart_steps=60,
        replays=1,
        replay_frames=40,
        replay_questions=8,
    )
    by_heart, *held_out = demo(config)
    figures = {name: one["overall"]["figures"] for name, one in by_heart.scores.items()}
    assert figures[AFTER]["correct"]["value"] >= 0.8 > figures[BEFORE]["correct"]["value"]
    assert [part.data.name for part in held_out] == list(HELD_OUT)
    losses = [json.loads(line).get("loss") for line in (config.out / "by_heart_run" / "log.jsonl").open()]
    losses = [loss for loss in losses if loss is not None]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    table, page = (config.out / "table.md").read_text(), (config.out / "report.html").read_text()
    assert table.strip() in capsys.readouterr().out
    assert page.count("data:image/png;base64,") == 2
    answered = json.loads((config.out / "figures.json").read_text())["replays"]
    assert {name: one["questions"] for name, one in answered.items()} == {BEFORE: 8, AFTER: 8}

    # Again: what is there is not made again, and gives the same.
    kept = {file: file.stat().st_mtime_ns for file in (config.out / "tuned_run" / "model").rglob("*")}
    demo(config)
    assert {file: file.stat().st_mtime_ns for file in (config.out / "tuned_run" / "model").rglob("*")} == kept
    assert (config.out / "table.md").read_text() == table
