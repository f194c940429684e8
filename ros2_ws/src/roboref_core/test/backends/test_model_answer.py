"""An answer checks itself when it is made."""

from __future__ import annotations

import numpy as np
import pytest
from roboref_core.models.model_answer import Outcome
from roboref_core.models.pointing_model import Prediction
from roboref_core.models.vision_language_model import Generation

NAN = float("nan")


@pytest.mark.parametrize("kind", [Generation, Prediction])
@pytest.mark.parametrize(
    ("outcome", "points", "fields", "words"),
    [
        (Outcome.VISIBLE, [], {}, "cannot have 0 points"),
        (Outcome.NOT_VISIBLE, [[0.5, 0.5]], {}, "cannot have 1 points"),
        (Outcome.UNPARSABLE, [[0.5, 0.5]], {}, "cannot have 1 points"),
        (Outcome.VISIBLE, [[NAN, 0.5]], {}, "finite"),
        (Outcome.VISIBLE, [[0.5, np.inf]], {}, "finite"),
        (Outcome.VISIBLE, [[0.5, 0.5, 0.5]], {}, "shape"),
        (Outcome.VISIBLE, [[0.5, 0.5]], {"scores": [NAN]}, "scores"),
        (Outcome.VISIBLE, [[0.5, 0.5]], {"scores": [1.5]}, "scores"),
        (Outcome.VISIBLE, [[0.5, 0.5]], {"scores": [0.5, 0.5]}, "scores"),
        (Outcome.VISIBLE, [[0.5, 0.5]], {"p_visible": NAN}, "p_visible"),
        (Outcome.NOT_VISIBLE, [], {"p_visible": -0.1}, "p_visible"),
        (Outcome.VISIBLE, [[0.5, 0.5]], {"labels": ("a", "b")}, "labels"),
        (Outcome.VISIBLE, [[0.5, 0.5]], {"point_covariance": [[1.0]]}, "shape"),
        (Outcome.VISIBLE, [[0.5, 0.5]], {"point_covariance": [[[NAN, 0], [0, 1]]]}, "finite"),
        (Outcome.VISIBLE, [[0.5, 0.5]], {"point_covariance": [[[-1, 0], [0, 1]]]}, "semidefinite"),
        (Outcome.VISIBLE, [[0.5, 0.5]], {"point_covariance": [[[1, 0.5], [0, 1]]]}, "symmetric"),
        (Outcome.VISIBLE, [[0.5, 0.5]], {"point_covariance": [[[1, 2], [2, 1]]]}, "semidefinite"),
    ],
)
def test_numbers_that_nobody_can_vouch_for_are_refused(kind, outcome, points, fields, words):
    arrays = {name: np.array(value) if isinstance(value, list) else value for name, value in fields.items()}
    with pytest.raises(ValueError, match=words):
        kind("text", outcome, np.array(points), **arrays)


def test_text_is_valid_utf8():
    assert Generation("a\ud800b", Outcome.UNPARSABLE).text == "a?b"


@pytest.mark.parametrize("outcome", Outcome)
def test_outcomes_come_back_from_json(outcome):
    assert Outcome.from_json(outcome.as_json) is outcome
