from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from roboref_core.prompting.conventions import Convention, restate
from roboref_core.prompting.grid import Grid
from roboref_core.prompting.prompt import (
    SUFFIX,
    DrawnMark,
    Form,
    correspondence,
    difference,
    missing,
    pointing,
    referring,
)

MARK = DrawnMark(label="chair", xy=(0.125, 0.5))
ALL = {
    f"{name}-{form.value}-{'grid' if grid else 'plain'}": build(form, MARK, grid)
    for (name, build), form, grid in itertools.product((("t1", correspondence), ("t2a", missing)), Form, (None, Grid()))
} | {"t2b": difference(), "t2b-grid": difference(Grid()), "referring": referring("the red mug")}


def test_the_suffix_is_roborefer_s():
    assert SUFFIX == (
        "Your answer should be formatted as a list of tuples, i.e. [(x1, y1)],  where each tuple contains the x and "
        "y coordinates of a point satisfying the conditions above. The coordinates should be between 0 and 1, "
        "indicating the normalized pixel locations of the points in the image."
    )


def test_a_referring_expression_is_asked_as_published():
    assert referring("Point to the mug.", may_be_absent=False) == f"Point to the mug. {SUFFIX}"


@pytest.mark.parametrize("text", ALL.values(), ids=ALL)
def test_every_prompt_ends_in_the_suffix_and_holds_no_placeholder(text):
    assert text.endswith(SUFFIX) and text.count(SUFFIX) == 1
    assert "<" not in text and text == text.strip() and "None" not in text


def test_prompts_differ():
    assert len(set(ALL.values())) == len(ALL)


@pytest.mark.parametrize("name", [name for name in ALL if name.startswith(("t1", "t2a", "referring"))])
def test_tasks_with_negatives_offer_the_negative_once(name):
    assert ALL[name].count("NOT_VISIBLE") == 1


def test_the_difference_task_has_no_negative():
    assert "NOT_VISIBLE" not in difference()


def test_concat_states_the_mark_and_multi_does_not():
    assert "(0.125, 0.500)" in correspondence(Form.CONCAT, MARK)
    assert "0.125" not in correspondence(Form.MULTI, MARK)


def test_each_form_says_whose_coordinates_are_meant():
    assert "those of the second image" in correspondence(Form.MULTI)
    assert "those of the whole image" in correspondence(Form.CONCAT)


def test_a_mark_without_words_is_the_correspondence_task():
    assert pointing("", (MARK,), num_images=2) == correspondence(mark=MARK)


def test_several_marks_are_told_apart_by_picture_and_label():
    text = pointing("What lies between A and B?", (DrawnMark(0, label="A"), DrawnMark(1, "red box", "B")), num_images=3)
    assert 'In the first image, a red circle marks the target "A".' in text
    assert 'In the second image, a red box marks the target "B".' in text
    assert "visible in the third image" in text


@given(st.text())
def test_no_question_brings_a_control_token_into_the_prompt(text):
    try:
        prompt = pointing(text, num_images=1)
    except ValueError:
        return
    assert prompt.endswith(SUFFIX) and text.strip() in prompt


@pytest.mark.parametrize("token", ["<image>", "<depth>", "<|im_end|>"])
@pytest.mark.parametrize("field", ["text", "label"])
def test_control_tokens_are_refused_wherever_they_come_from(token, field):
    text, label = ("x" + token, "") if field == "text" else ("x", token)
    with pytest.raises(ValueError, match="control token"):
        pointing(text, (DrawnMark(label=label),))


def test_questions_that_ask_nothing_are_refused():
    with pytest.raises(ValueError, match="exactly one mark"):
        pointing("  ")
    with pytest.raises(ValueError, match="two views"):
        pointing("x", num_images=3, form=Form.CONCAT)
    with pytest.raises(ValueError, match="1 to 10"):
        pointing("x", num_images=11)


def test_other_conventions_replace_the_scale_and_nothing_else():
    text = correspondence()
    assert restate(text, Convention.NORMALISED) == text
    thousand = restate(text, Convention.THOUSAND)
    assert "between 0 and 1000" in thousand and "between 0 and 1," not in thousand
    pixels = restate(text, Convention.PIXELS, (644, 476))
    assert "644 wide and 476 high" in pixels
    head = text.split(" The coordinates should be")[0]
    assert thousand.startswith(head) and pixels.startswith(head)
    assert restate("own prompt", Convention.THOUSAND) == "own prompt"
