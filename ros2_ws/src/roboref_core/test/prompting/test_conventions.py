"""The table of families: every row reads its own example, and the documentation shows the table."""

from __future__ import annotations

from pathlib import Path

import pytest
from roboref_core.models.model_answer import Outcome
from roboref_core.prompting.conventions import FAMILIES, Convention, family_of, restate, stated_scale
from roboref_core.prompting.prompt import SUFFIX, referring
from roboref_core.prompting.read_answer import parse_as

SIZE = (400, 200)
PAGE = Path(__file__).parents[5] / "docs/reference/conventions.md"


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_every_family_reads_its_own_example(family):
    answer = parse_as(family.example, family, SIZE)
    # The coarsest are Kosmos' cells.
    assert answer.points == (pytest.approx((0.25, 0.75), abs=1 / 32),), answer.reason


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_every_family_is_asked_in_its_own_words_and_may_refuse(family):
    asked = restate(referring("the mug"), family, SIZE)
    assert "the mug" in asked and "NOT_VISIBLE" in asked and "{" not in asked.replace('[{"', "")
    assert (SUFFIX in asked) == (family.suffix == SUFFIX)
    assert parse_as("NOT_VISIBLE", family, SIZE).outcome is Outcome.NOT_VISIBLE
    assert stated_scale(referring("the mug")) is None


@pytest.mark.parametrize(
    ("family", "text", "points"),
    [
        ("molmo", '<points x1="10.0" y1="20.0" x2="30.5" y2="40" alt="mugs">mugs</points>', [(0.1, 0.2), (0.305, 0.4)]),
        ("molmo", '<point x = "10.0"  y = "20.0" alt="a">', [(0.1, 0.2)]),
        ("molmo", '<points x1="10" y1="20" x2="-3.0" y2="4.0">', None),
        ("molmo", '<point x="110.0" y="20.0">', None),
        ("molmo", "(0.5, 0.5)", None),
        ("molmo2", '<points coords="1 1 100 200;2 1 300 400 2 500 600">mug</points>', [(0.3, 0.4), (0.5, 0.6)]),
        ("gemini", '```json\n[{"box_2d": [700, 200, 800, 300], "label": "mug"}]\n```', [(0.25, 0.75)]),
        ("gemini", '[{"point": [1200, 10]}]', None),
        ("qwen2.5-vl", '[{"point_2d": [500, 100]}]', None),
        ("paligemma", "<loc0256><loc0512>", [(0.5, 0.25)]),
        ("paligemma", "<loc0000><loc0000><loc1023><loc1023> a ; <loc0000><loc0000><loc0512><loc0512> b",
         [(0.4995, 0.4995), (0.25, 0.25)]),
        ("paligemma", "<loc0256><loc0512><loc0100>", None),
        ("florence", "mug<loc_499><loc_249>", [(0.4995, 0.2495)]),
        ("kosmos", "<object><patch_index_0000><patch_index_1023></object>", [(0.5, 0.5)]),
        ("kosmos", "<object><patch_index_1200><patch_index_1201></object>", None),
        ("internvl", "<ref>mug</ref><box>[[0, 0, 1000, 500]]</box>", [(0.5, 0.25)]),
    ],
)  # fmt: skip
def test_forms_of_families(family, text, points):
    answer = parse_as(text, family, SIZE)
    if points is None:
        assert answer.outcome is Outcome.UNPARSABLE and answer.reason
    else:
        assert answer.points == tuple(pytest.approx(point, abs=1e-3) for point in points)


@pytest.mark.parametrize(
    ("question", "scale"),
    [
        ("The coordinates should be between 0 and 1, indicating the normalized locations.", Convention.NORMALISED),
        ("as points in [0, 1]", Convention.NORMALISED),
        ("coordinates from 0 to 1000", Convention.THOUSAND),
        ("normalized to 0-1000", Convention.THOUSAND),
        ("as percentages between 0 and 100", Convention.PERCENT),
        ("in absolute pixel coordinates", Convention.PIXELS),
        ("Where is the mug?", None),
        ("between 0 and 1 or between 0 and 1000", None),
        ("room 0 and 12 chairs", None),
    ],
)
def test_a_question_may_state_its_scale(question, scale):
    assert stated_scale(question) is scale


def test_the_question_s_scale_wins_where_the_answer_is_in_no_form_of_the_family():
    question = "The coordinates should be between 0 and 1."
    assert parse_as("[(0.5, 0.25)]", "gemini", SIZE, question).points == ((0.5, 0.25),)
    assert parse_as("[(0.5, 0.25)]", "molmo", SIZE, question).points == ((0.5, 0.25),)
    assert parse_as('<point x="50" y="25">', "molmo", SIZE, question).points == ((0.5, 0.25),)


def test_unknown_conventions_are_refused_with_the_list():
    with pytest.raises(ValueError, match=r"'ppm'.*roborefer.*molmo.*pixels"):
        family_of("ppm")


def families_as_markdown() -> str:
    """The table of families as the documentation has it."""
    lines = [
        "| name | models | scale | order | form | example | source |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for family in FAMILIES.values():
        order = "y, x" if family.y_first else "x, y"
        example = family.example.replace("\n", " ")
        cells = (family.name, family.models, family.convention.value, order, family.form.value)
        lines.append(f"| {' | '.join(cells)} | `` {example} `` | {family.source or '-'} |")
    lines += ["", "What each is asked, in place of RoboRefer's own words:", ""]
    for family in FAMILIES.values():
        asked = restate(SUFFIX, family.name, (400, 200)) or "(nothing: its task prompts ask by themselves)"
        lines.append(f"* {family.name}: {asked}")
    return "\n".join(lines) + "\n"


@pytest.mark.skipif(not PAGE.parents[1].is_dir(), reason="the documentation is not beside the library")
def test_the_documentation_shows_the_table():
    assert families_as_markdown() in PAGE.read_text(), f"put families_as_markdown() into {PAGE}"
