"""Looks at the room's first sphere, marks in them, and answers of a model about them."""

from __future__ import annotations

import numpy as np
from roboref_core.geometry.pose import look_at
from roboref_core.models.model_answer import Outcome
from roboref_core.models.pointing_model import Prediction
from roboref_core.referring.query import MarkedPoint

CENTRE = (0.0, 0.0, 0.5)
A = look_at((-2.0, 0.0, 1.2), CENTRE)
B = look_at((-1.2, -1.7, 1.4), CENTRE)  # sees the sphere from the side
AWAY = look_at((-2.0, 0.0, 1.2), (-3.0, 0.5, 1.0))
OPPOSITE = look_at((2.4, -0.3, 1.2), CENTRE)


def found(*pixels, scores=None):
    return Prediction("[...]", Outcome.VISIBLE, np.array(pixels, float), scores=scores)


NOT_VISIBLE = Prediction("NOT_VISIBLE", Outcome.NOT_VISIBLE)


def point(view, pixel, **fields):
    return MarkedPoint(pixel, view.view_id, **fields)
