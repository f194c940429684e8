"""The demo: what it asks, what it writes, and that it goes through from rooms to the node's answers."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from roboref_core.models.nano import CHECKPOINT
from roboref_core.models.roborefer import calibration
from roboref_core.prompting import prompt
from roboref_core.prompting.answer_text import NOT_VISIBLE

from offline.data_engine.task_files import pictures_of, turns
from offline.data_engine.tasks.expressions import phrase_text
from offline.eval.records.predictions import Predictions
from offline.eval.records.samples import SampleFile, read_samples
from offline.eval.replay.scoring.table import Run
from offline.eval.reporting.report import section
from offline.eval.scoring.calibrate import model_name
from offline.eval.test.small_data import SmallData
from offline.train.demo import ablations
from offline.train.demo.ablations import ABLATIONS
from offline.train.demo.config import AblationConfig, DemoConfig, RoomsConfig, TuningConfig
from offline.train.demo.demo import demo, mixture
from offline.train.demo.page import AFTER, BEFORE, MIXED, difference_rows, score_rows, shift_rows, tables, write_page
from offline.train.demo.questions import (
    CONCAT,
    HELD_OUT,
    TRAIN,
    TUNING,
    coordinates_of,
    dialogues,
    fewer_negatives,
    hard,
    negative,
    reworded,
    without,
    write_questions,
)
from offline.train.demo.rooms import aside, build, make_rooms
from offline.train.registry import Entry, load_registry, parse_mixture


def built(folder, objects: int = 12):
    """Task files of both splits, as the data engine would have written them."""
    data = SmallData(folder / "small", objects=objects, scenes=6)
    tasks = folder / "tasks"
    for name in (*TRAIN, *(f"{name}_grid" for name in TRAIN), *HELD_OUT, CONCAT[0], f"{CONCAT[0]}_grid", CONCAT[1]):
        like = name.replace("train", "val").removesuffix("_grid").replace("referring_val", "t1_val_multi")
        samples = [sample | {"id": f"{name}_{sample['id']}"} for sample in data.samples(like)]
        tasks.mkdir(exist_ok=True)
        (tasks / f"{name}.json").write_text(json.dumps(samples))
    return tasks


def answers(samples) -> list[str]:
    return [text for sample in samples for text in turns(sample, "gpt")]


def test_training_answers_are_spelled_in_the_models_coordinates(tmp_path):
    write_questions(built(tmp_path), tmp_path / "questions", CHECKPOINT, 5, in_other_words=False, variants=True)
    known = {f"{value:.3f}" for value in coordinates_of(CHECKPOINT)}
    assert known
    for name in (*TRAIN, *(f"{name}_grid" for name in TRAIN)):
        said = answers(json.loads((tmp_path / "questions" / f"{name}.json").read_text()))
        assert set(re.findall(r"\d\.\d+", " ".join(said))) <= known


def test_held_out_questions_are_a_few_as_they_were(tmp_path):
    source = built(tmp_path)
    write_questions(source, tmp_path / "questions", CHECKPOINT, 5, in_other_words=False)
    for name in HELD_OUT:
        all_, chosen = (json.loads((f / f"{name}.json").read_text()) for f in (source, tmp_path / "questions"))
        assert len(chosen) == 5
        assert all(sample in all_ for sample in chosen)


def test_rooms_set_aside_are_asked_about_and_not_trained_on(tmp_path):
    source = built(tmp_path)
    scenes = sorted({sample["scene_id"] for sample in json.loads((source / f"{TRAIN[0]}.json").read_text())})
    assert len(scenes) > 1
    write_questions(
        source, tmp_path / "questions", CHECKPOINT, 5, in_other_words=False, aside=scenes[:1], variants=True
    )
    for name in (*TRAIN, *(f"{name}_grid" for name in TRAIN)):
        learned = json.loads((tmp_path / "questions" / f"{name}.json").read_text())
        assert learned and scenes[0] not in {s["scene_id"] for s in learned}
        assert scenes[0] not in {s["visibility"].get("query_scene") for s in learned}
    for name in TUNING:
        asked = json.loads((tmp_path / "questions" / f"{name}.json").read_text())
        assert 0 < len(asked) <= 5 and {sample["scene_id"] for sample in asked} == set(scenes[:1])


def test_phrases_are_said_in_words_that_the_data_engine_never_uses():
    rng = np.random.default_rng(0)
    for relation in ("unique", "leftmost", "left", "right", "front", "behind", "on", "near", "free_on", "all"):
        for _ in range(10):
            text = phrase_text(relation, rng, a="drum", b="anvil", c="tire", d="spool")
            asked = prompt.referring(text)
            turns_ = [{"from": "human", "value": asked}, {"from": "gpt", "value": NOT_VISIBLE}]
            said = reworded({"task": "referring", "conversations": turns_})["conversations"]
            words = said[0]["value"]
            assert not words.startswith(("Point", "Where", "Locate", "Find", "Pick")), words
            assert words.endswith(prompt.SUFFIX) and words.count("If it is not visible") == 1
            assert said[1]["value"] == NOT_VISIBLE
    other = {"task": "t1", "conversations": [{"from": "human", "value": "Point to the target."}]}
    assert reworded(other) is other


def test_files_without_negatives(tmp_path):
    source = built(tmp_path) / "t1_train_multi.json"
    without(source, tmp_path / "visible.json", negative)
    without(source, tmp_path / "easy.json", hard)
    before, after, easy = (
        json.loads(file.read_text()) for file in (source, tmp_path / "visible.json", tmp_path / "easy.json")
    )
    assert after == [sample for sample in before if turns(sample, "gpt") != [NOT_VISIBLE]]
    assert 0 < len(after) <= len(easy) <= len(before) and len(after) < len(before)
    assert not any(sample["visibility"].get("tier") == "B" for sample in easy if not sample["visibility"]["visible"])


def test_questions_about_the_same_pictures_are_one_dialogue(tmp_path):
    source = built(tmp_path)
    write_questions(source, tmp_path / "questions", CHECKPOINT, 5, in_other_words=False)
    for name in TRAIN:
        alone, joined = (json.loads((f / f"{name}.json").read_text()) for f in (source, tmp_path / "questions"))
        kept = fewer_negatives(alone)
        marked = [sample for sample in alone if sample["task"] != "referring"]
        assert sum(map(negative, kept)) < sum(map(negative, alone)) or not any(map(negative, marked))
        assert [s for s in kept if not negative(s)] == [s for s in alone if not negative(s)]
        pictures = [tuple(pictures_of(sample)) for sample in joined]
        assert len(set(pictures)) == len(pictures)
        for sample in joined:
            asked = [t for s in kept if pictures_of(s) == pictures_of(sample) for t in turns(s, "human")]
            assert sorted(turns(sample, "human")) == sorted(asked) and len(turns(sample, "gpt")) == len(asked)
    assert not (tmp_path / "questions" / f"{TRAIN[0]}_grid.json").exists()


def test_dialogues_keep_each_answer_with_its_question():
    def asked(number: int, picture: str) -> dict:
        said = [{"from": "human", "value": f"question {number}"}, {"from": "gpt", "value": f"answer {number}"}]
        return {"id": str(number), "task": "referring", "scene_id": "a", "image": picture, "conversations": said}

    first, second = dialogues([asked(k, "b.png" if k == 5 else "a.png") for k in range(8)])
    assert (first["image"], second["image"]) == ("a.png", "b.png")
    said = [turn["value"] for turn in first["conversations"]]
    assert [text.replace("question", "answer") for text in said[::2]] == said[1::2]
    assert sorted(said[1::2]) == [f"answer {k}" for k in (0, 1, 2, 3, 4, 6, 7)] != said[1::2]


@pytest.mark.parametrize("options", [{}, {"grids": ("", "_grid")}, {"suffix": "_visible"}])
def test_mixtures_name_all_tasks(options):
    names = [f"{name}{grid}{options.get('suffix', '')}" for name in TRAIN for grid in options.get("grids", ("",))]
    terms = parse_mixture(mixture(**options), {name: Entry(json=f"{name}.json") for name in names})
    assert {term.name for term in terms} == set(names)
    weights = {"t2b": 6, "referring": 3}
    assert all(term.weight == weights.get(term.name.partition("_")[0], 1) for term in terms)


def test_rooms_of_another_configuration_are_refused(tmp_path, monkeypatch):
    config = RoomsConfig(seed=1000, rooms=2, aside=1, held_out=1, frames=4)
    monkeypatch.setattr("offline.train.demo.rooms.Build.__call__", lambda self: 0)
    monkeypatch.setattr("offline.train.demo.rooms.make_rooms", lambda folder, seeds, *_: [f"scene{s}" for s in seeds])
    build(tmp_path, config, 1)
    seed = config.seed
    assert (tmp_path / "train.txt").read_text() == "".join(f"scene{seed + k}\n" for k in range(3))
    assert (tmp_path / "validation.txt").read_text() == f"scene{seed + 3}\n"
    assert aside(config) == {f"scene{seed + 2}_00"}
    build(tmp_path, replace(config, questions=7), 1)
    with pytest.raises(ValueError, match=r"other rooms \(frames: 4 -> 5\): use another output folder"):
        build(tmp_path, replace(config, frames=5), 1)


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
    said = {BEFORE: [NOT_VISIBLE] * len(right), AFTER: right, MIXED: right}
    return section(data, [told(name, data, texts) for name, texts in said.items()])


def test_tables_tell_before_from_after_and_from_baselines(part, tmp_path):
    rows = {row[1]: row for row in score_rows([part])}
    assert list(rows) == [BEFORE, AFTER, MIXED, "image_centre", "random_prior", "never_visible"]
    assert rows[AFTER][3].startswith("100.0 %") and rows[AFTER][4].startswith("100.0 %")
    assert rows[BEFORE][3:] == rows["never_visible"][3:]
    against = {row[2]: row for row in difference_rows([part])}
    assert list(against) == [name for name in rows if name not in (AFTER, MIXED)] + [AFTER]
    assert re.fullmatch(r"\+0\.500 \(\+0\.500 to \+0\.500\), better", against[BEFORE][3])
    text = tables([part], [part], [Run(BEFORE, "", [], replay_scores(3), tmp_path)])
    assert "30.0 % (3/10" in text
    shift = shift_rows([part], [part], "correct")
    assert shift[0][0] == part.data.name and shift[0][-1] == "-", "where nothing was lost, nothing comes back"


def test_the_page_needs_nothing_beside_itself(part, tmp_path):
    picture = tmp_path / "loss.png"
    picture.write_bytes(b"\x89PNG curve")
    runs = [Run(name, "", [], replay_scores(n), tmp_path) for name, n in ((BEFORE, 3), (AFTER, 7))]
    write_page(tmp_path / "report.html", {"base": "<nano>"}, {"fine-tuned": picture}, [part], [part], runs)
    page = (tmp_path / "report.html").read_text()
    assert "&lt;nano&gt;" in page and base64.b64encode(picture.read_bytes()).decode() in page
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert "30.0 % (3/10" in page and "70.0 % (7/10" in page


@pytest.mark.parametrize("name", sorted(ABLATIONS))
def test_ablations_compare_each_recipe_with_the_first(part, name):
    ablation = ABLATIONS[name]
    asked = [
        ablations.Asked(title, shown, part.judged[BEFORE if k == 1 else AFTER])
        for k, title in enumerate(ablation.recipes)
        for shown in (("plain", "with a grid") if ablation.grid else ("plain",))
    ]
    text = ablations.table(ablation, asked)
    worse = re.findall(r"-0\.500 \(-0\.500 to -0\.500\), worse", text)
    assert len(worse) >= (2 if ablation.grid else 1)
    first = next(iter(ablation.recipes))
    assert len(re.findall(rf"\| {first} +\|.*\|  +\|", text)) == (2 if ablation.grid else 1)
    whole = ablations.joined([part.data, SampleFile("more", part.data.samples[:2], {}, {})])
    assert len(whole.samples) == len(part.data.samples) + 2


def test_every_recipe_names_data_sets_that_there_are_and_takes_the_same_steps(tmp_path):
    source = tmp_path / "questions"
    write_questions(built(tmp_path), source, CHECKPOINT, 5, in_other_words=False, variants=True)
    for file in source.glob("*_train*.json"):
        samples = [sample | {"depth": sample["image"]} for sample in json.loads(file.read_text())]
        file.write_text(json.dumps(samples))
    registry = load_registry(ablations.write_variants(source, tmp_path / "out"))
    recipes = {title: one for ablation in ABLATIONS.values() for title, one in ablation.recipes.items()}
    assert len(recipes) >= 11
    for recipe in recipes.values():
        assert recipe.lessons[-1].until == 1.0
        for lesson in recipe.lessons:
            for term in parse_mixture(lesson.mixture, registry):
                assert (term.entry.depth_root is not None) is recipe.depth
    with pytest.raises(ValueError, match=r"no ablation colour; there are grid, negatives"):
        ablations.ablate(AblationConfig(out=tmp_path, only=("colour",)))


def test_a_room_is_made_once(tmp_path):
    names = make_rooms(tmp_path, [3], 2, workers=1)
    assert names == ["scene0003_00"]
    made = (tmp_path / "scene0003_00" / "scene0003_00.sens").stat().st_mtime_ns
    make_rooms(tmp_path, [3], 2, workers=1)
    assert (tmp_path / "scene0003_00" / "scene0003_00.sens").stat().st_mtime_ns == made


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_model_is_tuned_and_the_node_answers_with_it(tmp_path, capsys):
    config = DemoConfig(
        out=tmp_path / "demo",
        data=RoomsConfig(rooms=3, aside=1, held_out=2, frames=30, questions=12),
        known=RoomsConfig(look="home", seed=500, rooms=2, aside=1, held_out=1, frames=30, questions=8),
        tuning=TuningConfig(steps=12, replay_steps=6, batch=8, threads=1),
        replays=1,
        replay_frames=30,
        replay_questions=8,
    )
    sections = demo(config)
    assert [part.data.name for part in sections] == [*HELD_OUT, *HELD_OUT]
    for run, steps in (("tuned_run", config.tuning.steps), ("mixed_run", config.tuning.replay_steps)):
        losses = [json.loads(line).get("loss") for line in (config.out / run / "log.jsonl").open()]
        losses = [loss for loss in losses if loss is not None]
        assert len(losses) == steps and np.isfinite(losses).all()
        assert calibration.load(config.out / run / "model", model_name(config.out / run / "model")) is not None
        weights = Path("llm", "model.safetensors")
        assert (config.out / run / "model" / weights).read_bytes() != (CHECKPOINT / weights).read_bytes()
    text, page = (config.out / "table.md").read_text(), (config.out / "report.html").read_text()
    assert text.strip() in capsys.readouterr().out
    assert page.count("data:image/png;base64,") == 2
    answered = json.loads((config.out / "figures.json").read_text())["replays"]
    assert {name: one["questions"] for name, one in answered.items()} == {BEFORE: 8, MIXED: 8}

    # Again: what is there is not made again, and gives the same.
    kept = {file: file.stat().st_mtime_ns for file in (config.out / "tuned_run" / "model").rglob("*")}
    demo(config)
    assert {file: file.stat().st_mtime_ns for file in (config.out / "tuned_run" / "model").rglob("*")} == kept
    assert (config.out / "table.md").read_text() == text


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ablations_run(tmp_path):
    config = AblationConfig(
        out=tmp_path,
        data=RoomsConfig(rooms=3, aside=0, held_out=1, frames=24, questions=4, variants=True),
        tuning=TuningConfig(steps=5, batch=4, threads=1),
    )
    text = ablations.ablate(config)
    assert all(title in text for ablation in ABLATIONS.values() for title in ablation.recipes)
