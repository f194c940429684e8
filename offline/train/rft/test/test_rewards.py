"""What answers earn: against hand-made cases on a real mask."""

from __future__ import annotations

import numpy as np
import pytest

from offline.files import write_picture
from offline.train.plan import Rewards
from offline.train.rft.rewards import TERMS, read_task, reward_terms, total

WEIGHTS = Rewards()


@pytest.fixture
def task(tmp_path):
    """An object in the left upper quarter of a picture of 40 x 40."""

    def make(answer: str = "[(0.250, 0.250)]", **fields):
        write_picture(tmp_path / "1_original.png", np.zeros((40, 40, 3), np.uint8))
        mask = np.zeros((40, 40), np.uint8)
        mask[:20, :20] = 255
        write_picture(tmp_path / "1_mask.png", mask)
        turns = [{"from": "human", "value": "<image>\nWhere?"}, {"from": "gpt", "value": answer}]
        return read_task({"image": "1_original.png", "conversations": turns, **fields}, tmp_path, "f[0]")

    return make


def earned(task, text: str) -> dict[str, float]:
    return dict(zip(TERMS, reward_terms([task], [[text]], WEIGHTS)[0, 0].tolist(), strict=True))


def test_visible(task):
    hit = earned(task(), "[(0.250, 0.250)]")
    assert hit == {"format": 1, "decision": 1, "hit": 1, "distance": pytest.approx(1), "process": 0}
    near = earned(task(), "[(0.450, 0.250)]")
    assert near["hit"] == 1 and near["distance"] == pytest.approx(1 - 0.2 / np.sqrt(2) / WEIGHTS.reach, abs=1e-6)
    miss = earned(task(), "[(0.900, 0.900)]")
    assert miss["decision"] == 1 and miss["hit"] == miss["distance"] == 0
    refusal = earned(task(), "NOT_VISIBLE")
    assert refusal == {"format": 1, "decision": 0, "hit": 0, "distance": 0, "process": 0}
    free = earned(task(), "It is at (0.25, 0.25)")
    assert free["format"] == 0 and free["hit"] == 1
    assert set(earned(task(), "somewhere").values()) == {0}


def test_not_visible(task):
    absent = task("NOT_VISIBLE")
    assert earned(absent, "NOT_VISIBLE") == {"format": 1, "decision": 1, "hit": 1, "distance": 1, "process": 0}
    assert earned(absent, "[(0.250, 0.250)]") == {"format": 1, "decision": 0, "hit": 0, "distance": 0, "process": 0}


def test_steps(task):
    steps = [{"points": [[0.5, 0.5]], "words": "desk"}, {"points": [[0.1, 0.9]], "distance": 1.5}]
    reasoned = task(steps=steps)
    right = "the desk [(0.500, 0.500)]\nthe lamp behind it, 1.52 m away [(0.110, 0.890)]\n[(0.250, 0.250)]"
    assert earned(reasoned, right) == {"format": 1, "decision": 1, "hit": 1, "distance": pytest.approx(1), "process": 1}
    half = right.replace("desk", "bed").replace("1.52", "9.9")
    assert earned(reasoned, half)["process"] == pytest.approx(0.5)
    assert earned(reasoned, "[(0.250, 0.250)]")["process"] == 0, "the answer alone is no step"
    padded = right.replace("\n[(0.250", "\nmore\nand more\n[(0.250")
    assert earned(reasoned, padded)["process"] == pytest.approx(0.5), "more lines than steps earn less"
    assert earned(task(), right)["format"] == 0, "steps where none are asked for"


def test_steps_of_a_kind_are_asked_for_in_their_form_and_in_any_order(task):
    steps = [
        {"perception": "Position", "name": "the desk", "points": [[0.5, 0.5]]},
        {"perception": "Distance", "name": "the lamp, the desk", "distance": 1.5},
        {"perception": "Depth order", "name": "the lamp, the desk", "words": "nearer"},
    ]
    reasoned = task(steps=steps)
    lines = [
        "Step 1: [Position] [the desk]: (0.500, 0.500)",
        "Step 2: [Distance] [the lamp, the desk]: 1.45 m",
        "Step 3: [Depth order] [the lamp, the desk]: nearer",
    ]
    for order in ((0, 1, 2), (2, 0, 1)):
        said = earned(reasoned, "\n".join([*(lines[k] for k in order), "[(0.250, 0.250)]"]))
        assert said["process"] == said["format"] == 1
    assert earned(reasoned, f"{lines[0]}\n[(0.250, 0.250)]")["process"] == pytest.approx(1 / 3)
    assert earned(reasoned, f"{lines[0]}\nso it is\n[(0.250, 0.250)]")["format"] == 0
    untold = lines[1].replace("[Distance] ", "")
    assert earned(reasoned, f"{untold}\n[(0.250, 0.250)]")["process"] == 0


def test_a_question_that_asks_for_the_answer_alone_wants_no_steps(task):
    steps = [{"perception": "Position", "name": "the desk", "points": [[0.5, 0.5]]}]
    assert earned(task(steps=steps, form="single"), "[(0.250, 0.250)]")["format"] == 1
    assert task(steps=steps, form="single").steps == () != task(steps=steps, form="steps").steps


def test_groups_and_weights(task):
    terms = reward_terms([task(), task("NOT_VISIBLE")], [["[(0.250, 0.250)]", "NOT_VISIBLE"]] * 2, WEIGHTS)
    assert terms.shape == (2, 2, len(TERMS))
    sums = total(terms, WEIGHTS)
    assert sums[0, 0] == pytest.approx(sums[1, 1]) and sums[0, 0] > sums[0, 1] and sums[1, 1] > sums[1, 0]


def test_what_cannot_be_rewarded_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"f\[3\]: cannot be rewarded: .*no image"):
        read_task({"conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "!"}]}, tmp_path, "f[3]")
