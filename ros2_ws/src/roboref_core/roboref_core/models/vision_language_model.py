"""Vision-language models: pictures and a prompt in, an answer in normalised coordinates out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from roboref_core.errors import ErrorCode, ReferError
from roboref_core.models.cancellation import Cancellation
from roboref_core.models.model_answer import ModelAnswer


@dataclass(frozen=True)
class Prompt:
    """Pictures and words, as a vision-language model takes them.

    Attributes:
        text: the prompt, without media placeholders.
        images: (H, W, 3) uint8 RGB each, in prompt order; the queried one is last.
        depths: (H, W, 3) uint8 relative depth pictures (near = bright), one per image, or empty.
        deadline: as of PointingRequest: time.monotonic() after which nobody waits [s]; None: no limit.
        cancellation: as of PointingRequest: set when nobody waits any more; None: somebody always does.
    """

    text: str
    images: tuple[np.ndarray, ...] = ()
    depths: tuple[np.ndarray, ...] = ()
    deadline: float | None = None
    cancellation: Cancellation | None = None

    def check(self) -> None:
        """Raises ReferError, TIMEOUT or CANCELED, if nobody waits for the answer any more."""
        if self.cancellation is not None:
            self.cancellation.check()
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise ReferError(ErrorCode.TIMEOUT, "the time for the answer is up")


def check_waiting(prompts: Sequence[Prompt]) -> None:
    """Raises the ReferError of ``Prompt.check`` once nobody waits for the answer to any of the prompts."""
    over: list[ReferError] = []
    for prompt in prompts:
        try:
            prompt.check()
        except ReferError as error:
            over.append(error)
    if over and len(over) == len(prompts):
        raise over[0]


@dataclass(frozen=True)
class Generation(ModelAnswer):
    """A vision-language model's answer to a Prompt. Points are in [0, 1] of the prompt's last image, and may lie a
    rounding error outside; covariances are in the squares of these units.
    """


@runtime_checkable
class VisionLanguageModel(Protocol):
    """Answers prompts. ``uses_depth`` tells the prompt builder whether to render depth pictures."""

    name: str
    uses_depth: bool

    def generate(self, prompt: Prompt) -> Generation: ...

    def generate_batch(self, prompts: Sequence[Prompt]) -> list[Generation]: ...
