"""Vision-language models: pictures and a prompt in, an answer in normalised coordinates out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from roboref_core.models.model_answer import ModelAnswer


@dataclass(frozen=True)
class Prompt:
    """Pictures and words, as a vision-language model takes them.

    Attributes:
        text: the prompt, without media placeholders.
        images: (H, W, 3) uint8 RGB each, in prompt order; the queried one is last.
        depths: (H, W, 3) uint8 relative depth pictures (near = bright), one per image, or empty.
        deadline: as of PointingRequest: time.monotonic() after which nobody waits [s]; None: no limit.
    """

    text: str
    images: tuple[np.ndarray, ...] = ()
    depths: tuple[np.ndarray, ...] = ()
    deadline: float | None = None


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
