"""A model's text to a Generation, under the convention of coordinates that the model was configured with."""

from __future__ import annotations

import numpy as np

from roboref_core.models.model_answer import Outcome
from roboref_core.models.vision_language_model import Generation
from roboref_core.prompting.answer_text import ParsedAnswer, ParsedPlaces, centres, parse_places
from roboref_core.prompting.conventions import Convention, Family, family_of, stated_scale
from roboref_core.prompting.coordinates import AnswerForm


def read_answer(
    text: str,
    convention: Family | Convention | str,
    size: tuple[int, int],
    timings: dict[str, float] | None = None,
    question: str = "",
) -> Generation:
    """Parse ``text`` as a family writes it; JSON brackets count too, as models of other families answer in JSON.

    Args:
        size: (width, height) of the answered picture as the model saw it; used by Convention.PIXELS.
        question: as it was asked before ``restate``: a scale that it states itself wins over the family's.
    """
    answer = parse_as(text, convention, size, question)
    points = np.array(answer.points)
    return Generation(text, answer.outcome, points, answer.reason, answer.labels, timings=timings or {})


def parse_as(
    text: str, convention: Family | Convention | str, size: tuple[int, int], question: str = ""
) -> ParsedAnswer:
    """As ``read_answer``, without making a Generation of it."""
    return centres(places_as(text, convention, size, question))


def places_as(
    text: str, convention: Family | Convention | str, size: tuple[int, int], question: str = ""
) -> ParsedPlaces:
    """As ``parse_as``, with boxes as boxes."""
    family = family_of(convention)
    stated = stated_scale(question)
    if family.form is not AnswerForm.LIST:
        # Tokens and tags of a family have its own scale whatever was asked for.
        own = parse_places(text, family.convention.full_scale(size), "([", family.form, family.y_first)
        if stated is None or own.outcome is not Outcome.UNPARSABLE:
            return own
    if stated is not None:
        return parse_places(text, stated.full_scale(size), brackets="([")
    return parse_places(text, family.convention.full_scale(size), "([", y_first=family.y_first)


def unread(text: str, reason: str, timings: dict[str, float] | None = None) -> Generation:
    """An answer that is not to be read, whatever its text seems to say: cut off, refused, or thoughts alone."""
    return Generation(text, Outcome.UNPARSABLE, reason=reason, timings=timings or {})
