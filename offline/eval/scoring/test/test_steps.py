"""Steps against the true ones: each by itself, in any order, and by how many there are."""

from __future__ import annotations

import json

import numpy as np
import pytest
from roboref_core.prompting.reasoning import FARTHER, Perception, ReasoningStep, format_reasoning

from offline.eval.records.predictions import Predictions
from offline.eval.records.samples import read_samples
from offline.eval.reporting.table import reasoning_rows, render_score
from offline.eval.scoring.score import score_file
from offline.eval.scoring.steps import TrueStep, process_score, read_true_steps, score_chain, step_count
from offline.files import write_picture

CHAIN = (
    ReasoningStep(Perception.POSITION, "the lamp", point=(0.2, 0.3)),
    ReasoningStep(Perception.POSITION, "the cup 2 behind the lamp", point=(0.6, 0.7)),
    ReasoningStep(Perception.DEPTH_ORDER, "the cup 2 behind the lamp, the lamp", order=FARTHER),
    ReasoningStep(Perception.DISTANCE, "the cup, the lamp", distance=0.8),
)
FACTS = [
    {"perception": "Position", "name": "the lamp", "points": [[0.2, 0.3]]},
    {"perception": "Position", "name": "the cup", "points": [[0.6, 0.7]]},
    {"perception": "Depth order", "name": "the cup, the lamp", "words": "farther"},
    {"perception": "Distance", "name": "the cup, the lamp", "distance": 0.8},
]
TRUE = read_true_steps({"steps": FACTS})


def lines(steps) -> list[str]:
    return format_reasoning(steps, None).splitlines()[:-1]


def test_the_true_chain_is_right_in_any_order():
    for order in ((0, 1, 2, 3), (3, 1, 0, 2)):
        assert score_chain(TRUE, lines([CHAIN[k] for k in order])).tolist() == [1.0] * 4


@pytest.mark.parametrize(
    ("wrong", "which"),
    [
        (ReasoningStep(Perception.POSITION, "the lamp", point=(0.2, 0.4)), 0),
        (ReasoningStep(Perception.DEPTH_ORDER, "the cup, the lamp", order="nearer"), 2),
        (ReasoningStep(Perception.DISTANCE, "the cup, the lamp", distance=1.1), 3),
    ],
)
def test_a_wrong_finding_costs_its_own_step(wrong, which):
    said = [wrong if k == which else step for k, step in enumerate(CHAIN)]
    assert score_chain(TRUE, lines(said)).tolist() == [float(k != which) for k in range(4)]
    assert process_score(TRUE, lines(said)) == pytest.approx(0.75)


def test_each_line_is_used_once_and_guesses_cost():
    one = lines(CHAIN[:1])
    assert score_chain([TRUE[0], TRUE[0]], one).sum() == 1.0
    assert process_score(TRUE[:1], one * 4) == pytest.approx(0.25)
    assert process_score((), one) == 0.0 and process_score(TRUE, []) == 0.0


def test_a_number_in_a_name_is_no_distance():
    step = TrueStep(distance=2.0, perception=Perception.DISTANCE)
    assert step.score("Step 1: [Distance] [the cup 2.0 of three, the lamp]: 0.5 m") == 0.0


@pytest.fixture
def data(tmp_path):
    write_picture(tmp_path / "1_original.png", np.zeros((40, 40, 3), np.uint8))
    mask = np.zeros((40, 40), np.uint8)
    mask[26:30, 22:26] = 255
    write_picture(tmp_path / "1_mask.png", mask)
    entries = [
        {
            "id": f"{form}_{k}",
            "image": "1_original.png",
            "conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "[(0.600, 0.700)]"}],
            "task": "reasoning",
            "form": form,
            "scene_id": f"scene000{k}_00",
            "step_count": 2 + k,
            "steps": FACTS,
        }
        for form in ("single", "steps")
        for k in range(2)
    ]
    (tmp_path / "reasoning_val.json").write_text(json.dumps(entries))
    return read_samples(tmp_path / "reasoning_val.json")


def test_scores_by_number_of_steps(data):
    right = format_reasoning(CHAIN, [(0.6, 0.7)])
    half = format_reasoning(CHAIN[:2], [(0.1, 0.1)])
    texts = {"single_0": "[(0.600, 0.700)]", "single_1": "NOT_VISIBLE", "steps_0": right, "steps_1": half}
    told = Predictions("m", {name: {"id": name, "text": text} for name, text in texts.items()})
    found = score_file(told, data)
    solved = {name: group["figures"]["correct"]["value"] for name, group in found["groups"]["steps"].items()}
    assert solved == {"2 steps": 1.0, "3 steps": 0.0}
    reasoning = found["reasoning"]
    assert reasoning["2 steps"]["chain"]["value"] == reasoning["2 steps"]["solved"]["value"] == 1.0
    assert reasoning["3 steps"]["steps"]["value"] == pytest.approx(0.5) and reasoning["3 steps"]["chain"]["value"] == 0
    assert reasoning["all"]["samples"] == 2 and reasoning["all"]["form"]["value"] == 1.0
    assert [row[0] for row in reasoning_rows(reasoning)] == ["2 steps", "3 steps", "all"]
    text = render_score(found)
    assert "by steps" in text and "whole chain right" in text


def test_how_many_steps_a_sample_has(data):
    assert [step_count(sample) for sample in data.samples] == [2, 3, 2, 3]
