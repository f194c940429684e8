"""A model's text to a Generation, under the coordinate convention that the model was configured with."""

from __future__ import annotations

import numpy as np

from roboref_core.models.vision_language_model import Generation
from roboref_core.prompting.answer_text import NotVisible, Point, parse
from roboref_core.prompting.prompt import Convention


def read_answer(
    text: str, convention: Convention, size: tuple[int, int], timings: dict[str, float] | None = None
) -> Generation:
    """Parse ``text``; JSON brackets count too, as models of other families answer in JSON.

    Args:
        size: (width, height) of the answered picture as the model saw it; used by Convention.PIXELS.
    """
    full_scale = {
        Convention.NORMALISED: (1.0, 1.0),
        Convention.THOUSAND: (1000.0, 1000.0),
        Convention.PIXELS: (float(size[0]), float(size[1])),
    }[convention]
    answer = parse(text, full_scale, brackets="([")
    points = np.array(answer.points if isinstance(answer, Point) else (), dtype=np.float64).reshape(-1, 2)
    visible = True if isinstance(answer, Point) else False if isinstance(answer, NotVisible) else None
    return Generation(text=text, points=points, visible=visible, timings=timings or {})
