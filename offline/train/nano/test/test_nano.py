"""The bundled model in rooms that it has never seen: it finds things, by a wide margin."""

from __future__ import annotations

import numpy as np
import pytest
from roboref_core.models.model_answer import Outcome
from roboref_core.models.registry import load_vlm
from roboref_core.models.vision_language_model import Prompt

from offline.train.nano.batches import BatchMaker
from offline.train.nano.pool import SIDE, PoolConfig, load_chunk, make_chunk
from offline.train.nano.questions import Mix, Sampler


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Questions about four rooms with what the model answered."""
    chunk = load_chunk(make_chunk(tmp_path_factory.mktemp("pool"), 0, PoolConfig(seed=8_200_000, rooms=4, views=20)))
    questions = Sampler([chunk], Mix(concat=0.0, grid=0.0)).draw(50, np.random.default_rng(0))
    questions = [question for question in questions if len(question.points) < 2]
    model = load_vlm("nano", device="cpu", dtype="float32")
    maker = BatchMaker([chunk], model.model, {}, {}, patch_labels=False)
    answers = [
        model.generate(Prompt(q.text, tuple(maker.drawn(picture) for picture in q.pictures), ())) for q in questions
    ]
    return list(zip(questions, answers, strict=True))


def hits(asked, task):
    """Of visible targets of a task that were pointed at: share in the mask, and of all pixels in masks by chance."""
    found, chance = [], []
    for question, answer in asked:
        if question.task == task and question.target is not None and len(answer.points):
            x, y = np.clip(answer.points[0], 0, 1 - 1e-9)
            found.append(question.target[int(y * SIDE), int(x * SIDE)])
            chance.append(question.target.mean())
    assert len(found) > 10
    return np.mean(found), np.mean(chance)


@pytest.mark.parametrize("task", ["t1", "t2b", "referring"])
def test_it_points_at_the_right_thing_far_more_often_than_chance(asked, task):
    found, chance = hits(asked, task)
    assert found > max(0.2, 3 * chance)


def test_it_tells_what_is_not_there(asked):
    said = {True: [], False: []}
    for question, answer in asked:
        if question.task == "referring":
            said[bool(question.points)].append(answer.outcome is Outcome.VISIBLE)
    balanced = (np.mean(said[True]) + 1 - np.mean(said[False])) / 2
    assert balanced > 0.65
