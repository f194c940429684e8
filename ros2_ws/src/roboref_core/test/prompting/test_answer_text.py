from __future__ import annotations

import ast
import re
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from roboref_core.models.model_answer import Outcome
from roboref_core.prompting.answer_text import NOT_VISIBLE, ParsedAnswer, format_answer, parse

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
    assert parse(text) == ParsedAnswer(Outcome.VISIBLE, tuple(points))


@given(st.text())
def test_any_text_is_one_of_three(text):
    answer = parse(text)
    assert bool(answer.points) == (answer.outcome is Outcome.VISIBLE)
    assert bool(answer.reason) == (answer.outcome is Outcome.UNPARSABLE)
    if answer.points:
        assert all(0 <= value <= 1 for point in answer.points for value in point)


@given(st.text(alphabet="()[],.-+eE019 \nNOT_VISIBLE"))
def test_texts_made_of_the_grammar_s_own_characters(text):
    answer = parse(text)
    assert (answer.outcome is Outcome.NOT_VISIBLE) == (NOT_VISIBLE in text)


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
    assert parse(text) == ParsedAnswer(Outcome.VISIBLE, tuple(points))


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
    assert answer.outcome is Outcome.UNPARSABLE and answer.reason


def test_not_visible_wins_over_points():
    assert parse("It is NOT_VISIBLE, not at (0.5, 0.5)") == ParsedAnswer(Outcome.NOT_VISIBLE)


@pytest.mark.parametrize(
    "text",
    [
        "<think>The plate is at (0.10, 0.20).</think>\n[(0.61, 0.62)]",
        "<think>If it were hidden I would answer NOT_VISIBLE.</think> [(0.61, 0.62)]",
        "The chat template opened it: (0.1, 0.2)</think>[(0.61, 0.62)]",
        "<think>a<think>b (0.1, 0.2)</think></think>(0.61, 0.62)",
        "<thinking>\n(0.1, 0.2)\n</thinking>\n\n(0.61, 0.62)",
        "<reasoning>(0.1, 0.2)</reasoning><answer>[(0.61, 0.62)]</answer> or (0.3, 0.3)",
        "◁think▷(0.1, 0.2)◁/think▷(0.61, 0.62)",
        "[THINK](0.1, 0.2)[/THINK](0.61, 0.62)",
        "<|channel|>analysis<|message|>(0.1, 0.2)<|end|><|start|>assistant<|channel|>final<|message|>(0.61, 0.62)",
        "Plate (0.1, 0.2), so \\boxed{(0.61, 0.62)}.",
        "The plate is at (0.10, 0.20), the mug right of it: [(0.61, 0.62)]",
        "The plate is at (0.10, 0.20).\nThe mug is at (0.61, 0.62).",
        "First [(0.1, 0.2)].\nBut no, it is\n[(0.61, 0.62)]",
        "It could be NOT_VISIBLE.\nAfter a second look: [(0.61, 0.62)]",
        "```\n[(0.1, 0.2)]\n```\nor rather\n```python\n[(0.61, 0.62)]\n```\nas (0.5, 0.5) is a plate",
        "杯子在盘子右边，坐标为（0.61，0.62）。",
        "坐标：【（０．６１，０．６２）】",
        "[(0.60, 0.60, 0.62, 0.64)]",
        "**[(0.61, 0.62)]**",
    ],
)
def test_the_final_answer_is_read(text):
    answer = parse(text)
    assert answer.outcome is Outcome.VISIBLE, answer.reason
    assert answer.points == (pytest.approx((0.61, 0.62)),)


@pytest.mark.parametrize(
    "text",
    [
        "<think>It may be at (0.1, 0.2).</think>NOT_VISIBLE",
        "It may be at (0.1, 0.2).\nNo: NOT_VISIBLE",
        "<answer>NOT_VISIBLE</answer>",
        "\\boxed{NOT_VISIBLE}",
        "NOT\\_VISIBLE",
        "杯子不可见：NOT_VISIBLE。",
    ],
)
def test_a_final_refusal_is_read(text):
    assert parse(text).outcome is Outcome.NOT_VISIBLE


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<think>It is at [(0.5, 0.5)]", "do not end"),
        ("<think>one</think>[(0.5, 0.5)]<think>or rather", "do not end"),
        ("<|channel|>analysis<|message|>(0.1, 0.2)", "do not end"),
        ("<think>It is at [(0.5, 0.5)]</think>", "expected NOT_VISIBLE"),
        ("<answer>I cannot say</answer> (0.5, 0.5)", "expected NOT_VISIBLE"),
        ("[(0.9, 0.9, 0.1, 0.1)]", "ends before it begins"),
        ("[(0.5, 0.5), (1.5, 0.5)]", "outside"),
        ("[" + "(0.5, 0.5), " * 600 + "(0.5, 0.5)]", "more than 512"),
    ],
)
def test_what_is_no_answer_has_a_reason(text, reason):
    answer = parse(text)
    assert answer.outcome is Outcome.UNPARSABLE and reason in answer.reason


def test_several_points_keep_their_order_and_labels():
    text = '```json\n[{"point_2d": [10, 20], "label": "mug"},\n {"point_2d": [30, 40], "label": "cup"}]\n```'
    answer = parse(text, (100, 100), "([")
    assert answer.points == ((0.1, 0.2), (0.3, 0.4)) and answer.labels == ("mug", "cup")
    lines = "Here they are:\n1. (0.1, 0.2)\n2. (0.3, 0.4)"
    assert parse(lines).points == ((0.1, 0.2), (0.3, 0.4))
    assert parse('{"point_2d": [10, 20]}\n{"point_2d": [30, 40]}', (100, 100), "([").points == answer.points


@pytest.mark.parametrize(
    "text",
    [
        '[{"bbox_2d": [20, 10, 40, 50], "label": "mug"}]',
        '{"bbox_2d": [[20, 10], [40, 50]]}',
        "<|box_start|>(20, 10),(40, 50)<|box_end|>",
        "<box>[[20, 10, 40, 50]]</box>",
        "<bbox>20 10 40 50</bbox>",
        "<point>30 30</point>",
        '{"x": 30, "y": 30}',
        '{"x_min": 20, "y_min": 10, "x_max": 40, "y_max": 50}',
        '[{"bbox_2d": [0, 0, 2, 2], "point_2d": [30, 30]}]',
    ],
)
def test_a_box_is_its_centre_however_it_is_written(text):
    assert parse(text, (100, 100), "([").points == (pytest.approx((0.3, 0.3)),)


def test_another_convention_is_used_only_when_stated():
    text = '```json\n[{"point_2d": [500, 250], "label": "mug"}]\n```'
    assert parse(text, (1000, 1000), "([") == ParsedAnswer(Outcome.VISIBLE, ((0.5, 0.25),), labels=("mug",))
    assert parse(text).outcome is Outcome.UNPARSABLE
    assert parse("[(0.5, 1001)]", (1000, 1000)).outcome is Outcome.UNPARSABLE


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
    assert answer.outcome is Outcome.UNPARSABLE
    assert len(answer.reason) < 500
    assert peak < 100_000 + 2 * len(text)


@pytest.mark.parametrize("point", [(-0.001, 0.5), (0.5, 1.001), (float("nan"), 0.5), (0.5, float("inf"))])
def test_points_outside_the_image_are_not_written(point):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        format_answer([point])


def test_no_points_are_not_visible():
    assert format_answer(None) == format_answer([]) == NOT_VISIBLE
