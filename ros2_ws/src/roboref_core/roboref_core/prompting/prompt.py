"""Prompts: one builder for data, training, evaluation and the robot.

Prompts hold no media placeholders (``<image>``): the code that feeds the model puts one per picture in front.
Pictures come in the order reference views, then the queried view; answers are coordinates of the last picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from roboref_core.prompting.answer_text import NOT_VISIBLE
from roboref_core.prompting.reasoning import INSTRUCTION

if TYPE_CHECKING:
    from roboref_core.prompting.grid import Grid

# RoboRefer's own words; its checkpoints have seen no others. The two spaces are in the original.
SUFFIX = (
    "Your answer should be formatted as a list of tuples, i.e. [(x1, y1)],  where each tuple contains the x and y "
    "coordinates of a point satisfying the conditions above. The coordinates should be between 0 and 1, "
    "indicating the normalized pixel locations of the points in the image."
)
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_CONTROL = ("<image>", "<depth>", "<vila/video>", "<vila/sentinel>", "<|im_start|>", "<|im_end|>", "<|endoftext|>")


class Form(Enum):
    """How two views are shown: as two pictures, or side by side in one (see ``concat.SideBySide``)."""

    MULTI = "multi"
    CONCAT = "concat"


@dataclass(frozen=True)
class DrawnMark:
    """A mark as it is seen in the pictures.

    Attributes:
        image: index of its picture.
        shape: what ``Marker.describe`` calls it.
        label: how the question calls what it marks, or its class; may be empty.
        xy: its place, normalised; stated in words in the concat form only, in whole-picture coordinates.
    """

    image: int = 0
    shape: str = "red circle"
    label: str = ""
    xy: tuple[float, float] | None = None


def correspondence(form: Form = Form.MULTI, mark: DrawnMark | None = None, grid: Grid | None = None) -> str:
    """T1: where in the second view is what is marked in the first. Concat: ``mark.xy`` in whole-picture coordinates."""
    return pointing("", (mark or DrawnMark(),), num_images=2, form=form, grid=grid)


def missing(form: Form = Form.MULTI, mark: DrawnMark | None = None, grid: Grid | None = None) -> str:
    """T2A: the same pair, asked whether the marked object is visible in the second view."""
    mark = mark or DrawnMark()
    question = (
        f"Is {_name(mark)} visible in {_last(2, form)}? If it is, point to it; if it is not, answer {NOT_VISIBLE}."
    )
    return pointing(question, (mark,), num_images=2, form=form, may_be_absent=False, grid=grid)


def difference(grid: Grid | None = None) -> str:
    """T2B: the original and the inpainted picture of one view; where was it changed."""
    return _join(
        "The second image shows the same view as the first image, but something was changed or removed.",
        "Point to the place in the second image that differs.",
        _coordinates(2, Form.MULTI),
        grid.instruction("the second image") if grid else None,
        SUFFIX,
    )


def referring(text: str, may_be_absent: bool = True, grid: Grid | None = None, steps: bool = False) -> str:
    """One view and a referring expression or instruction, as RoboRefer was trained: the text, then the suffix.

    With ``may_be_absent`` false it is the published prompt to the letter. With ``steps`` the answer is to be led up to
    as ``reasoning`` reads it.
    """
    asked = pointing(text, num_images=1, may_be_absent=may_be_absent, grid=grid)
    return f"{asked} {INSTRUCTION}" if steps else asked


def pointing(
    text: str,
    marks: Sequence[DrawnMark] = (),
    num_images: int = 1,
    form: Form = Form.MULTI,
    may_be_absent: bool = True,
    grid: Grid | None = None,
) -> str:
    """Any question about views and marks; T1 and T2A are the cases with one mark in the first of two views.

    Args:
        text: what to point to, as a phrase or a sentence; may be empty if there is one mark.
        marks: as drawn in the pictures.
        num_images: views shown, the queried one included (in the concat form: two, in one picture).
        may_be_absent: tell the model that it may answer NOT_VISIBLE.
        grid: drawn over the answered picture.

    Raises:
        ValueError: neither text nor exactly one mark, or control tokens in the words.
    """
    text = text.strip()
    for words in (text, *(mark.label for mark in marks)):
        for token in _CONTROL:
            if token in words:
                raise ValueError(f"a prompt must not hold the control token {token!r}, found it in {words[:80]!r}")
    if not text and len(marks) != 1:
        raise ValueError(f"a question without text needs exactly one mark, found {len(marks)}")
    if form is Form.CONCAT and num_images != 2:
        raise ValueError(f"the concat form shows two views, found {num_images}")
    if not 1 <= num_images <= len(_ORDINALS):
        raise ValueError(f"a prompt shows 1 to {len(_ORDINALS)} views, found {num_images}")
    where = _last(num_images, form)
    if text:
        question = text if text[-1] in ".?!" else f"{text}."
    else:
        question = f"Point to {_name(marks[0])} in {where}."
    absent = f"If it is not visible in {where}, answer {NOT_VISIBLE}."
    return _join(
        _views(num_images, form),
        *(_mark_sentence(mark, num_images, form) for mark in marks),
        question,
        absent if may_be_absent else None,
        _coordinates(num_images, form),
        grid.instruction("the whole image" if form is Form.CONCAT else where) if grid else None,
        SUFFIX,
    )


def _name(mark: DrawnMark) -> str:
    return f'the target "{mark.label}"' if mark.label else "the target"


def _join(*sentences: str | None) -> str:
    return " ".join(sentence for sentence in sentences if sentence)


def _views(num_images: int, form: Form) -> str | None:
    if form is Form.CONCAT:
        return "The image shows two views of the same place side by side."
    if num_images > 1:
        return f"The {num_images} images show the same place from different viewpoints."
    return None


def _last(num_images: int, form: Form) -> str:
    if form is Form.CONCAT:
        return "the right view"
    return _image(num_images - 1, num_images, form)


def _image(index: int, num_images: int, form: Form) -> str:
    if form is Form.CONCAT:
        return ("the left view", "the right view")[index]
    return "the image" if num_images == 1 else f"the {_ORDINALS[index]} image"


def _mark_sentence(mark: DrawnMark, num_images: int, form: Form) -> str:
    place = f" at ({mark.xy[0]:.3f}, {mark.xy[1]:.3f})" if form is Form.CONCAT and mark.xy is not None else ""
    return f"In {_image(mark.image, num_images, form)}, a {mark.shape}{place} marks {_name(mark)}."


def _coordinates(num_images: int, form: Form) -> str | None:
    if form is Form.CONCAT:
        return "All coordinates are those of the whole image."
    if num_images > 1:
        return f"All coordinates are those of the {_ORDINALS[num_images - 1]} image."
    return None
