"""Steps are read as they were written, and whatever else a model writes does no harm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from roboref_core.models.model_answer import Outcome
from roboref_core.prompting.answer_text import parse
from roboref_core.prompting.reasoning import (
    FARTHER,
    NEARER,
    Perception,
    ReasoningStep,
    format_reasoning,
    parse_reasoning,
    parse_step,
)

thousandths = st.integers(0, 999).map(lambda k: k / 1000)
names = st.text(st.characters(codec="ascii", categories=("L", "Nd", "Zs")), min_size=1, max_size=40).filter(
    lambda name: name == name.strip() and name
)
orders = st.sampled_from((NEARER, FARTHER))
steps = st.one_of(
    st.builds(lambda n, x, y: ReasoningStep(Perception.POSITION, n, point=(x, y)), names, thousandths, thousandths),
    st.builds(
        lambda n, o: ReasoningStep(Perception.DEPTH_ORDER, n, order=o), names, st.sampled_from((NEARER, FARTHER))
    ),
    st.builds(lambda n, k: ReasoningStep(Perception.DISTANCE, n, distance=k / 100), names, st.integers(0, 99_999)),
)


@given(st.lists(steps, max_size=9), st.one_of(st.none(), st.lists(st.tuples(thousandths, thousandths), min_size=1)))
def test_what_is_written_is_read_again(chain, points):
    text = format_reasoning(chain, points)
    read = parse_reasoning(text)
    assert read.steps == tuple(chain) and read.malformed == ()
    assert read.answer.points == tuple(points or ())
    assert read.answer.outcome is (Outcome.VISIBLE if points else Outcome.NOT_VISIBLE)
    assert parse(text) == read.answer, "who reads no steps reads the same answer"


def test_the_published_spelling_is_read():
    text = (
        "Step1: [Position][the leftmost alarm clock] Point (0.129, 0.617). \n"
        "Step2: [Position][the second leftmost alarm clock] Point (0.510, 0.255).\n[(0.510,0.255)]"
    )
    read = parse_reasoning(text)
    assert [step.point for step in read.steps] == [(0.129, 0.617), (0.510, 0.255)]
    assert read.steps[1].name == "the second leftmost alarm clock" and read.answer.points == ((0.510, 0.255),)


def test_a_last_line_that_is_a_step_is_no_answer():
    text = "Step 1: [Position] [the cup]: (0.129, 0.617)"
    assert parse_reasoning(text).answer.outcome is Outcome.UNPARSABLE
    assert parse_reasoning(f"{text}\n[(0.1, 0.2)]").answer.points == ((0.1, 0.2),)


@pytest.mark.parametrize(
    "line",
    [
        "[Position] [the cup]: somewhere",
        "[Position] [the cup]: (0.1, 0.2) or (0.3, 0.4)",
        "[Position] [the cup]: (120, 40)",
        "[Depth order] [the cup, the lamp]: nearer or farther",
        "[Distance] [the cup, the lamp]: near",
        "[Colour] [the cup]: red",
        "the cup is at (0.1, 0.2)",
        "",
    ],
)
def test_what_is_no_step(line):
    assert parse_step(line) is None


@given(st.text(max_size=300))
def test_any_text_is_read(text):
    read = parse_reasoning(text)
    assert len(read.steps) + len(read.malformed) <= len(text.splitlines())


@pytest.mark.parametrize(
    "piece", ["[Position] ", "[Position] [a]: (", "Step 1: [", "[[[", "[Distance] [a]: 1" + "0" * 20]
)
def test_long_texts_cost_their_length(piece):
    parse_reasoning(piece * 20_000)


def test_a_step_holds_its_own_finding():
    with pytest.raises(ValueError, match="Position holds its own finding"):
        ReasoningStep(Perception.POSITION, "the cup", distance=1.0)
