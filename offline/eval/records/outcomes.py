"""What came of a question: one rule for offline scoring, replays and benchmarks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from offline.eval.records.answers import Answer


class Outcome(StrEnum):
    """What came of one question, the kinds that are worth looking at first."""

    ERROR = "error"
    FALSE_POINT = "false point"
    FALSE_REFUSAL = "false refusal"
    MISS = "miss"
    UNPARSABLE = "unparsable"
    MISSING = "missing"
    NO_MASK = "pointed, no mask"
    """Pointed at something visible whose mask is not known: whether it is hit cannot be told."""
    HIT = "hit"
    RIGHT_REFUSAL = "right refusal"
    UNDECIDABLE = "undecidable"
    """The truth is too close to call; only replays have such questions."""


@dataclass(frozen=True)
class Decisions:
    """N questions, whether what they ask for is visible, and what was answered, as columns of length N.

    Attributes:
        visible: truth: it is to be seen.
        answer: ``Answer`` codes.
        hit: the answered point lies in the mask.
        has_mask: hit can be decided: it is visible and its mask is known.
    """

    visible: np.ndarray
    answer: np.ndarray
    hit: np.ndarray
    has_mask: np.ndarray

    @property
    def pointed(self) -> np.ndarray:
        return self.answer == Answer.POINT

    @property
    def refused(self) -> np.ndarray:
        return self.answer == Answer.NOT_VISIBLE

    @property
    def right_decision(self) -> np.ndarray:
        """Pointed where visible, refused where not; every other answer is neither."""
        return np.where(self.visible, self.pointed, self.refused)

    @property
    def outcomes(self) -> np.ndarray:
        """(N,) the ``Outcome`` of each question, as texts."""
        pointed, refused, visible = self.pointed, self.refused, self.visible
        cases = (
            (self.answer == Answer.ERROR, Outcome.ERROR),
            (self.answer == Answer.MISSING, Outcome.MISSING),
            (self.answer == Answer.UNPARSABLE, Outcome.UNPARSABLE),
            (refused & visible, Outcome.FALSE_REFUSAL),
            (refused, Outcome.RIGHT_REFUSAL),
            (pointed & ~visible, Outcome.FALSE_POINT),
            (~self.has_mask, Outcome.NO_MASK),
            (self.hit, Outcome.HIT),
        )
        return np.select([chosen for chosen, _ in cases], [str(name) for _, name in cases], str(Outcome.MISS))

    def of(self, chosen: np.ndarray) -> Decisions:
        """Those questions that ``chosen`` (N,) bool is true of."""
        columns = ("visible", "answer", "hit", "has_mask")
        return Decisions(**{name: getattr(self, name)[chosen] for name in columns})
