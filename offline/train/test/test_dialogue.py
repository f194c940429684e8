"""Every row of the table in docs/training_data.md: what becomes of a published form of LLaVA's dialogues."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from offline.files import write_picture
from offline.train.check import check
from offline.train.dataset import NEVER_LEARNED, TrainData
from offline.train.dialogue import read_dialogue
from offline.train.families import family_of
from offline.train.families.roborefer.examples import IGNORE
from offline.train.plan import load_plan
from offline.train.registry import Entry, Term
from offline.train.test import tiny_onevision
from offline.train.test.tiny import write_project

TABLE = Path(__file__).parents[3] / "docs" / "training_data.md"
POINT, AGAIN = "[(0.500, 0.250)]", "NOT_VISIBLE"


def said(*turns: tuple[str, object], **fields: object) -> dict:
    return {"conversations": [{"from": who, "value": text} for who, text in turns], **fields}


def asked(question: object = "Where?", answer: object = POINT, **fields: object) -> dict:
    return said(("human", question), ("gpt", answer), **fields)


# The row's text -> a sample, and what is learned of it (None: all answers) or the error.
USED = {
    "one question, one answer": (asked(), [POINT]),
    "several questions and answers about the same pictures": (
        said(("human", "Where?"), ("gpt", POINT), ("human", "And now?"), ("gpt", AGAIN), image="a.png"),
        [POINT, AGAIN],
    ),
    "`image` is a path, a list of paths, or called `images`": (asked(images=["a.png", "b.png"]), [POINT]),
    "no picture at all": (asked(), [POINT]),
    "no `<image>` in the text": (asked(image="a.png"), [POINT]),
    "`<image>` before the first question": (asked("<image>\nWhere?", image="a.png"), [POINT]),
    "`<image>` within or after a question, or in a later one": (
        said(("human", "In <image>, where?"), ("gpt", POINT), ("human", "In <image>?"), ("gpt", AGAIN))
        | {"image": ["a.png", "b.png"]},
        [POINT, AGAIN],
    ),
    "a system turn first": (said(("system", "Be brief."), ("human", "Where?"), ("gpt", POINT), image="a.png"), [POINT]),
    "an empty question": (asked("<image>", image="a.png"), [POINT]),
    "a question at the end without an answer": (
        said(("human", "Where?"), ("gpt", POINT), ("human", "And?"), image="a.png"),
        [POINT],
    ),
    "an answer that lies partly beyond `model_max_length`": (asked("Where?", "word " * 700), ["word word"]),
}
REFUSED = {
    "another number of `<image>` than pictures": (asked("<image><image>", image="a.png"), "2 <image> for 1 pictures"),
    "`<image>` in an answer or in a system turn": (asked(answer="<image> here", image="a.png"), "turn by gpt"),
    "a placeholder written within another (`<ima<image>ge>`)": (
        asked("<ima<image>ge>?", image="a.png"),
        "placeholder within",
    ),
    "a system turn later": (said(("human", "?"), ("system", "x"), ("gpt", POINT)), "a system turn after others"),
    "the first turn is the assistant's": (said(("gpt", "Hi"), ("human", "?"), ("gpt", POINT)), "the first turn is the"),
    "an empty answer, or one of blanks": (asked(answer=" \n"), "the answer is empty"),
    "two questions, or two answers, in a row": (said(("human", "a"), ("human", "b"), ("gpt", "c")), "two questions"),
    "no answer at all": (said(("human", "Where?")), "no answer"),
    "an answer that lies wholly beyond it, or pictures that do": (asked("word " * 700), "no answer within"),
    "`from` other than human, gpt, system (`user`, `assistant`)": (said(("user", "?"), ("assistant", "!")), "'user'"),
    "`messages` with `role` and `content`": (
        {"messages": [{"role": "user", "content": "?"}]},
        "it has messages with role and content",
    ),
    "a value that is no text (a list of parts)": (asked([{"type": "text", "text": "?"}]), "a text value"),
    "`video` or `audio`": (asked(video="v.mp4"), "it has 'video'"),
    "a missing or damaged picture": (asked(image="gone.png"), "cannot be read"),
}


@pytest.fixture(scope="module", params=["roborefer", "llava_onevision"])
def data_of(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    write = write_project if request.param == "roborefer" else tiny_onevision.write_project
    plan = load_plan(write(folder), {"model_max_length": 512})
    reader = family_of(plan.model).reader(plan)
    for name in ("a.png", "b.png"):
        write_picture(folder / name, np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8))

    def make(*samples: dict) -> TrainData:
        (folder / "samples.json").write_text(json.dumps(samples))
        return TrainData([Term("d", Entry(json=folder / "samples.json", image_root=folder))], reader, 0, "s", 8, 2)

    return make


def learned(data: TrainData) -> str:
    labels = data.item(("d", 0)).example.labels
    return data.reader.tokenizer.decode(labels[labels != IGNORE])


def test_the_table_is_complete():
    rows = [line.split("|")[1].strip() for line in TABLE.read_text().splitlines() if line.startswith("| ")][1:]
    assert set(rows) == set(USED) | set(REFUSED)
    for line in TABLE.read_text().splitlines():
        if line.startswith("| ") and (row := line.split("|")[1].strip()) in USED | REFUSED:
            assert ("refused" in line.split("|")[2]) == (row in REFUSED), row


@pytest.mark.parametrize("form", USED)
def test_used(data_of, form):
    sample, answers = USED[form]
    data = data_of(sample)
    text = learned(data)
    positions = [text.find(answer) for answer in answers]
    assert -1 not in positions and positions == sorted(positions)
    for never in ("Where?", "Be brief", "And?", "<image>"):
        assert never not in text


@pytest.mark.parametrize("form", REFUSED)
def test_refused(data_of, form):
    sample, message = REFUSED[form]
    with pytest.raises(ValueError, match=r"samples\.json") as refused:
        data_of(sample).item(("d", 0))
    assert message in str(refused.value)


def test_check_names_every_form(tmp_path):
    """One sample among good ones, in a data set too large to be looked at whole."""
    plan = write_project(tmp_path)
    raw = yaml.safe_load(plan.read_text())
    raw["stages"] = [raw["stages"][0] | {"mixture": "c"}]
    plan.write_text(yaml.safe_dump(raw))
    good = [asked() for _ in range(40)]
    file = tmp_path / "c" / "data.json"
    texts = {form: case for form, case in REFUSED.items() if "picture" not in form and "beyond" not in form}
    file.write_text(json.dumps([*good, *(sample for sample, _ in texts.values())]))
    report = check(load_plan(plan), samples=1, with_model=False)
    for number, (_, message) in enumerate(texts.values(), start=40):
        assert any(f"data.json[{number}]" in error and message in error for error in report.errors), message
    marked = ("a system turn first", "a question at the end without an answer")
    file.write_text(json.dumps([*good, *({**USED[form][0], "image": []} for form in marked), USED[marked[1]][0]]))
    report = check(load_plan(plan), samples=1, with_model=False)
    assert "a system turn: kept" in report.text() and "data.json[40]" in report.text()
    assert "data.json[41] (and 1 more of 43 samples)" in report.text()


@given(st.lists(st.sampled_from([*NEVER_LEARNED, "<ima", "ge>", "ge", " ", "\n", "x", "(0.1, 0.2)"]), max_size=6))
def test_no_placeholder_is_ever_learned(pieces):
    """Whatever an answer is made of: it is refused, or holds no placeholder however the pieces join."""
    text = "".join(pieces)
    try:
        turns = read_dialogue(asked(answer=text), 0)
    except ValueError:
        return
    assert not any(token in turns[1]["value"] for token in NEVER_LEARNED[:-1])
