from __future__ import annotations

import ast
import re
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from roboref_core.prompting.answer_text import NOT_VISIBLE, NotVisible, Point, Unparsable, format_answer, parse

unit = st.floats(0.0, 1.0)
pairs = st.lists(st.tuples(unit, unit), min_size=1, max_size=5)


@given(pairs)
def test_formatted_answers_parse_back_within_half_a_unit_of_the_last_place(points):
    text = format_answer(points)
    assert ast.literal_eval(text) == list(parse(text).points)
    for (x, y), (px, py) in zip(points, parse(text).points, strict=True):
        # 0.ddd has no 1.000: what lies above 0.9995 is written 0.999.
        assert abs(min(x, 0.999) - px) <= 0.0005 + 1e-12 and abs(min(y, 0.999) - py) <= 0.0005 + 1e-12


@given(st.one_of(st.none(), pairs))
def test_formatted_answers_follow_the_grammar(points):
    assert re.fullmatch(r"\[\(0\.\d{3}, 0\.\d{3}\)(, \(0\.\d{3}, 0\.\d{3}\))*\]|NOT_VISIBLE", format_answer(points))


@given(pairs, st.text(alphabet=st.characters(exclude_characters="()[]")))
def test_any_decimal_notation_reads_as_python_reads_it(points, words):
    text = words.replace(NOT_VISIBLE, "") + repr(points)
    assert parse(text) == Point(tuple(points))


@given(st.text())
def test_any_text_is_one_of_three(text):
    answer = parse(text)
    assert isinstance(answer, Point | NotVisible | Unparsable)
    if isinstance(answer, Point):
        assert answer.points and all(0 <= value <= 1 for point in answer.points for value in point)


@given(st.text(alphabet="()[],.-+eE019 \nNOT_VISIBLE"))
def test_texts_made_of_the_grammar_s_own_characters(text):
    answer = parse(text)
    assert isinstance(answer, NotVisible) == (NOT_VISIBLE in text)
    if isinstance(answer, Unparsable):
        assert answer.reason


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("[(0.123, 0.456)]", [(0.123, 0.456)]),
        ("First (0.25, 0.5) then (0.5, 0.75).", [(0.25, 0.5), (0.5, 0.75)]),
        ("[(0.1, 0.2), (0.3, 0.4)]", [(0.1, 0.2), (0.3, 0.4)]),
        ("((0.1,0.2))", [(0.1, 0.2)]),
        ("[( 0.1 , 0.2 )]", [(0.1, 0.2)]),
        ("[(.5, 1.)]", [(0.5, 1.0)]),
        ("[(1e-1, +0.25)]", [(0.1, 0.25)]),
        ("[(0, 1)]", [(0.0, 1.0)]),
        ("(0.1, 0.2, 0.3, 0.4) but (0.5, 0.6)", [(0.5, 0.6)]),
        ("unclosed ( and then (0.5, 0.6)", [(0.5, 0.6)]),
    ],
)
def test_points_are_found(text, points):
    assert parse(text) == Point(tuple(points))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no points",
        "not visible",
        "[[0.1, 0.2]]",
        "(0.1, 0.2]",
        "(0.1, 0.2, 0.3)",
        "[(10, 20, 30, 40)]",
        "(nan, 0.5)",
        "(inf, 0.5)",
        "(0.5; 0.5)",
        "(0_1, 0.5)",
        "(٠.٥, 0.5)",
        "(__import__('os'), 0.5)",
        "[(320, 240)]",
        "[(-0.1, 0.2)]",
        "[(0.5, 1.0001)]",
        "[(1e308, 0.5)]",
        "[(1e999, 0.5)]",
        "[(0.5, 0.5), (320, 240)]",
    ],
)
def test_everything_else_is_unparsable_with_a_reason(text):
    answer = parse(text)
    assert isinstance(answer, Unparsable) and answer.reason


def test_not_visible_wins_over_points():
    assert parse("It is NOT_VISIBLE, not at (0.5, 0.5)") == NotVisible()


def test_another_convention_is_used_only_when_stated():
    text = '```json\n[{"point_2d": [500, 250], "label": "mug"}]\n```'
    assert parse(text, (1000, 1000), "([") == Point(((0.5, 0.25),))
    assert isinstance(parse(text), Unparsable)
    assert isinstance(parse("[(0.5, 1001)]", (1000, 1000)), Unparsable)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 300_000,
        "()" * 150_000,
        "(" * 150_000 + ")" * 150_000,
        "(" + "1" * 300_000 + ", 2)",
        "(0." + "0" * 300_000 + ", 0.5)",
        "(" + " " * 300_000 + "0.1, 0.2)",
        "(0.1," * 60_000,
        "(10, 20, 30, 40)" * 20_000,
        "(100000, 200000, 300000, 400000)",
        "-+" * 150_000,
    ],
    ids=lambda text: f"{text[:12]!r}x{len(text)}",
)
def test_no_text_costs_more_than_its_length(text):
    tracemalloc.start()
    try:
        answer = parse(text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(answer, Unparsable)
    assert len(answer.reason) < 500
    assert peak < 100_000 + 2 * len(text)


@pytest.mark.parametrize("point", [(-0.001, 0.5), (0.5, 1.001), (float("nan"), 0.5), (0.5, float("inf"))])
def test_points_outside_the_image_are_not_written(point):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        format_answer([point])


def test_no_points_are_not_visible():
    assert format_answer(None) == format_answer([]) == NOT_VISIBLE
