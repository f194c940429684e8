"""Answers are made of single tokens, prompts of few, and any text survives."""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roboref_core.models.roborefer.prompt_text import render_chat
from roboref_core.prompting import prompt
from roboref_core.prompting.answer_text import NOT_VISIBLE, format_answer, parse
from roboref_core.prompting.prompt import DrawnMark
from transformers import AutoTokenizer

from offline.train.nano.vocabulary import (
    BINS,
    bin_of,
    build_tokenizer,
    digits_of,
    respelled,
    spelled_coordinates,
    write_tokenizer,
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    count = write_tokenizer(folder, 512)
    loaded = AutoTokenizer.from_pretrained(folder)
    assert len(loaded) == count
    return loaded


@given(st.floats(0, 1))
def test_a_bin_is_read_as_a_coordinate_within_half_its_width(value):
    answer = parse(format_answer([(float(f"0.{digits_of(bin_of(value))}"), 0.5)]))
    assert answer.points
    assert answer.points[0][0] == pytest.approx(value, abs=0.5 / BINS + 6e-4)


def test_the_coordinates_that_are_one_token_are_the_bins(tokenizer):
    assert spelled_coordinates(tokenizer) == tuple(float(f"0.{digits_of(k)}") for k in range(BINS))


def test_coordinates_that_are_spelled_by_digit_stay_as_they_are():
    def by_digit(texts, add_special_tokens):
        return SimpleNamespace(input_ids=[[int(digit) for digit in text] for text in texts])

    assert spelled_coordinates(by_digit) == ()
    assert respelled("[(0.123, 0.456)]", ()) == "[(0.123, 0.456)]"


COORDINATES = st.lists(st.integers(0, 999).map(lambda n: n / 1000), min_size=1, max_size=50, unique=True).map(sorted)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=4), COORDINATES)
def test_an_answer_is_spelled_anew_with_the_nearest_coordinates(points, coordinates):
    answer = format_answer(points)
    found = np.array(parse(respelled(answer, coordinates)).points)
    asked = np.array(parse(answer).points)
    assert set(found.ravel()) <= set(coordinates)
    nearest = np.min(np.abs(asked[..., None] - np.array(coordinates)), axis=-1)
    np.testing.assert_allclose(np.abs(found - asked), nearest)
    assert respelled(respelled(answer, coordinates), coordinates) == respelled(answer, coordinates)


def test_an_answer_spelled_anew_is_single_tokens_within_half_a_bin(tokenizer):
    coordinates = spelled_coordinates(tokenizer)
    answer = respelled("[(0.123, 0.999), (0.000, 0.457)]", coordinates)
    assert len(tokenizer(answer).input_ids) == 9
    off = np.array(parse(answer).points) - np.array([(0.123, 0.999), (0.0, 0.457)])
    assert np.abs(off).max() <= 0.5 / BINS + 6e-4
    assert respelled(NOT_VISIBLE, coordinates) == NOT_VISIBLE


def test_what_is_no_answer_is_not_spelled_anew():
    with pytest.raises(ValueError, match="found 'on the table'"):
        respelled("on the table", (0.5,))


def test_answers_are_few_tokens(tokenizer):
    def count(text):
        return len(tokenizer(text).input_ids)

    assert count(NOT_VISIBLE) == 1
    assert count(f"[(0.{digits_of(5)}, 0.{digits_of(127)})]") == 5
    assert count(f"[(0.{digits_of(5)}, 0.{digits_of(127)}), (0.{digits_of(0)}, 0.{digits_of(64)})]") == 9


def test_prompts_are_few_tokens(tokenizer):
    marked = render_chat(tokenizer, [("user", prompt.correspondence(mark=DrawnMark(label="mug")))], "qwen2", True)
    asked = render_chat(tokenizer, [("user", prompt.referring("the red chair"))], "qwen2", True)
    assert len(tokenizer(marked).input_ids) < 20
    assert len(tokenizer(asked).input_ids) < 20


@lru_cache(maxsize=1)
def built_tokenizer():
    return build_tokenizer()


@settings(deadline=None)
@given(st.text())
def test_any_text_survives(text):
    built = built_tokenizer()
    ids = built.encode(text).ids
    assert built.decode(ids, skip_special_tokens=False) == built.normalizer.normalize_str(text)
