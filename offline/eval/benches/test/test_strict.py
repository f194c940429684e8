"""The strict reading: one scale, edges inside, boxes bounded, everything else wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from roboref_core.prompting.conventions import family_of

from offline.eval.benches.families import FAMILIES
from offline.eval.benches.score import choice
from offline.eval.benches.strict import accuracy, read

SIZE = (640, 480)


def target_mask():
    mask = np.zeros((480, 640), dtype=bool)
    mask[200:300, 250:400] = True
    return mask


def right_edge_mask():
    mask = np.zeros((480, 640), dtype=bool)
    mask[:, 600:] = True
    return mask


def scored(text, family="roborefer", mask=None, **changes):
    return accuracy(
        read(text, replace(FAMILIES[family], **changes), SIZE).places, target_mask() if mask is None else mask
    )


@pytest.mark.parametrize(
    "text, expected",
    [
        ("[(0.5, 0.5)]", 1.0),
        ("[(0.5, 0.5), (0.1, 0.1)]", 0.5),
        ("[(0.390625, 0.416667, 0.625, 0.625)]", 1.0),
        ("(.51, .52)", 1.0),
        ("( 0.51 , 0.52 )", 1.0),
        ("(5.1e-1, 0.52)", 1.0),
        ("[0.51, 0.52]", 1.0),
        ("[(0.9, 0.9, 0.1, 0.1)]", 0.0),  # inside out
        ("[(320, 240)]", 0.0),  # another scale than the one agreed on
        ("[(10, 20, 30, 40)]", 0.0),
        ("[(0.5, 0.5), (1.5, 0.5)]", 0.0),
        ("not visible", 0.0),
        ("NOT_VISIBLE", 0.0),
        ("", 0.0),
        ("[(0.5, 0.5, 0.6)]", 0.0),
        ("(nan, inf)", 0.0),
    ],
)
def test_probes(text, expected):
    assert scored(text) == expected


@pytest.mark.parametrize("text", ["[(1.0, 0.5)]", "[(0.97, 1)]", "[(1, 1)]"])
def test_edges_belong_to_the_picture(text):
    assert scored(text, mask=right_edge_mask()) == 1.0


@pytest.mark.parametrize(
    "family, text",
    [
        ("qwen", '```json\n[{"point_2d": [320, 240], "label": "x"}]\n```'),
        ("robobrain", "[(320, 240)]"),
        ("gemini", '```json\n[{"point": [500, 510], "label": "x"}]\n```'),
        ("molmo", '<point x="50.0" y="51.5" alt="a">a</point>'),
        ("molmo", '<points x1="50" y1="51" x2="60.5" y2="60">'),
    ],
)
def test_every_family_is_read_in_its_own_form(family, text):
    assert scored(text, family) == 1.0


def test_the_convention_can_be_stated():
    text = '[{"point_2d": [500, 510]}]'
    assert scored(text, "qwen", coordinates=family_of("thousand")) == 1.0
    assert scored(text, "qwen") == 0.0  # pixels of a picture that is only 480 high


@given(st.tuples(*[st.floats(0, 1)] * 4))
def test_a_box_counts_the_share_of_the_pixels_it_touches(numbers):
    (x0, x1), (y0, y1) = sorted((numbers[0], numbers[2])), sorted((numbers[1], numbers[3]))
    if x0 == x1 or y0 == y1:
        return
    mask = np.random.default_rng(0).random((24, 32)) < 0.5
    touched = [
        mask[v, u]
        for v in range(24)
        for u in range(32)
        if u < x1 * 32 and u + 1 > x0 * 32 and v < y1 * 24 and v + 1 > y0 * 24
    ]
    assert accuracy([(x0, y0, x1, y1)], mask) == pytest.approx(np.mean(touched))


@given(st.text(alphabet='()[]0123456789., -+eE\n"xy=<>', max_size=200), st.sampled_from(sorted(FAMILIES)))
def test_anything_can_be_read(text, family):
    targets = read(text, FAMILIES[family], SIZE).places
    assert all(0 <= value <= 1 for target in targets for value in target)


@pytest.mark.parametrize("text", ["(" * 50_000, "(1," * 50_000, "[" + "0" * 100_000 + ",1]", 'x1="' * 20_000])
def test_long_nonsense_is_read_in_passing(text):
    for family in FAMILIES.values():
        assert not read(text, family, SIZE).places


@pytest.mark.parametrize(
    "text, letter",
    [("A", "A"), ("(B)", "B"), ("**C. Yes**", "C"), ("The answer is D.", "D"), ("A or B", ""), ("", ""), ("None", ""),
     ("B B", "B")],
)  # fmt: skip
def test_one_letter_is_a_choice(text, letter):
    assert choice(text) == letter
