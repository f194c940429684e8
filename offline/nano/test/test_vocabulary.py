"""Answers are made of single tokens, prompts of few, and any text survives."""

from __future__ import annotations

from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roboref_core import prompt
from roboref_core.answer_text import NOT_VISIBLE, Point, format_answer, parse
from roboref_core.models.roborefer.prompt_text import render_chat
from roboref_core.prompt import DrawnMark
from transformers import AutoTokenizer

from offline.nano.vocabulary import BINS, bin_of, build_tokenizer, digits_of, write_tokenizer


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
    assert isinstance(answer, Point)
    assert answer.points[0][0] == pytest.approx(value, abs=0.5 / BINS + 6e-4)


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
