"""The published scorer to the digit, against recordings of it (see fixtures/README.md)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline.eval.benches.official import (
    Box,
    LeftOut,
    accuracy,
    letter_matches,
    parse_json,
    parse_tuples,
    parse_xml,
    summary,
)

FIXTURES = Path(__file__).parent / "fixtures"
PARSED = json.loads((FIXTURES / "eval_parse.json").read_text())
METRIC = json.loads((FIXTURES / "eval_metric.json").read_text())
WIDTH, HEIGHT = 640, 480


def pixels(targets):
    """Every pixel, as the published parser lists them."""
    found = []
    for target in targets:
        if isinstance(target, Box):
            found += [(x, y) for y in range(target.y0, target.y1) for x in range(target.x0, target.x1)]
        else:
            found.append(target)
    return found


@pytest.mark.parametrize("case", [c for c in PARSED if "is_absolute" in c], ids=lambda c: c["text"][:30])
def test_tuples(case):
    if "error" in case:
        with pytest.raises(LeftOut):
            parse_tuples(case["text"], WIDTH, HEIGHT, case["is_absolute"])
        return
    found = pixels(parse_tuples(case["text"], WIDTH, HEIGHT, case["is_absolute"]))
    assert len(found) == case["n"] and sum(map(sum, found)) == pytest.approx(case["sum"])
    if case["points"] is not None:
        assert [list(point) for point in found] == case["points"]


@pytest.mark.parametrize("case", [c for c in PARSED if "xml" in c], ids=lambda c: c["text"][:30])
def test_other_forms(case):
    assert [list(p) for p in parse_xml(case["text"], WIDTH, HEIGHT)] == case["xml"]
    assert [list(p) for p in parse_json(case["text"], WIDTH, HEIGHT)] == case["json"]


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ('<points x1 = "50.0" y1 = "25.5">a</points>', []),
        ('<points x1="50.0" y1="25.0" x2="-3.0" y2="4.0">a</points>', [(320, 120), (-19, 19)]),
        ('<points x1="50.0"\n y1="25.0">', [(320, 120)]),
        ("<points x1='50.0' y1='25.0'>", []),
        ('<points x1=" 50.0" y1="25.0">', []),
        ('<points x1="50." y7="25">', [(320, 120)]),
    ],
)
def test_molmo_s_points_as_the_published_pattern_reads_them(text, points):
    assert parse_xml(text, WIDTH, HEIGHT) == points


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ('```\n[{"point": [500, 250]}]\n```', [(160, 240)]),
        ('```python\n[{"point": [500, 250]}]\n```', [(160, 240)]),
        ('```json [{"point": [500, 250]}]```', []),
        ('[{"point": [500, 250]}]', []),
        ('```json\n[{"point": [500, 250]},\n```', []),
        ('```json\n[{"point": [500, 250]}', []),
        ('```json\n[{"box_2d": [1, 2, 3, 4]}, {"point": [500, 250]}]\n```', [(160, 240)]),
        ('```json\n[{"point": [500, 250, 7]}, {"point": 5}]\n```', []),
        ('```json\n[{"point": [500, 250]}]\n```\nor\n```json\n[{"point": [0, 0]}]\n```', [(160, 240)]),
        ('```json\n["no point here"]\n```', LeftOut),
        ('```json\n["nowhere"]\n```', []),
        ("```json\n[5]\n```", LeftOut),
        ("```json\n7\n```", LeftOut),
        ('```json\n[{"point": ["a", "b"]}]\n```', LeftOut),
        ('```json\n[{"point": [1e999, 0]}]\n```', LeftOut),
        ('```json\n{"point": [500, 250]}\n```', LeftOut),
    ],
)
def test_gemini_s_json_as_the_published_parser_reads_it(text, points):
    """Without JSON a question counts as wrong; with JSON that the published parser stumbles over it is left out."""
    if points is LeftOut:
        with pytest.raises(LeftOut):
            parse_json(text, WIDTH, HEIGHT)
    else:
        assert parse_json(text, WIDTH, HEIGHT) == points


@pytest.mark.parametrize(
    ("text", "right"),
    [("(B)", 1.0), ("B", 1.0), ("B. left", 1.0), ("The answer is (B) left.", 1.0), ("(A) not (B)", 0.0), ("left", 0.0)],
)
def test_choices_are_taken_from_their_letters(text, right):
    assert letter_matches(text, "B") == right


def recorded_mask():
    assert METRIC["mask"] == "480x640 zeros, rows 200:300 cols 250:400 = 255"
    mask = np.zeros((HEIGHT, WIDTH))
    mask[200:300, 250:400] = 1
    return mask


def scored(text, mask):
    try:
        return accuracy(parse_tuples(text, WIDTH, HEIGHT), mask)
    except LeftOut:
        return None


def test_accuracy_and_its_last_line():
    mask = recorded_mask()
    found = [scored(answer["text"], mask) for answer in METRIC["answers"]]
    assert found == [answer["accuracy"] for answer in METRIC["answers"]]
    assert summary(found) == METRIC["printed"].splitlines()[-1]


@given(
    st.lists(
        st.one_of(st.tuples(st.floats(-0.2, 1.2), st.floats(-0.2, 1.2)), st.tuples(*[st.floats(-0.2, 1.2)] * 4)),
        max_size=4,
    )
)
def test_boxes_count_as_their_pixels(numbers):
    text = ", ".join("(" + ", ".join(f"{n:.3f}" for n in group) + ")" for group in numbers)
    mask = np.random.default_rng(0).random((24, 32)).round()
    try:
        targets = parse_tuples(text, 32, 24)
    except LeftOut:
        return
    inside = [mask[y, x] if 0 <= x < 32 and 0 <= y < 24 else 0.0 for x, y in pixels(targets)]
    assert accuracy(targets, mask) == pytest.approx(np.mean(inside) if inside else 0.0)


def test_a_box_of_pixels_taken_as_shares_is_not_listed():
    """It would take gigabytes."""
    targets = parse_tuples("[(10, 20, 30, 40)]", WIDTH, HEIGHT)
    assert targets[0].count == (30 - 10) * 640 * (40 - 20) * 480 > 10**8
    assert accuracy(targets, recorded_mask()) == 0.0


def test_where2places_boxes_are_clipped():
    (box,) = parse_tuples("(0.5, 0.5, 7.0, 9.0)", WIDTH, HEIGHT, clipped=True)
    assert box == Box(320, 240, 640, 480)
    assert parse_tuples("(400, 300, 100, 100)", WIDTH, HEIGHT, clipped=True)[0].count == 0
    assert parse_tuples("(10, 20, 30, 40)", WIDTH, HEIGHT, clipped=True)[0] == Box(10, 20, 30, 40)
