"""Vision-language models: pictures and a prompt in, an answer in normalised coordinates out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np


@dataclass(frozen=True)
class Prompt:
    """Pictures and words, as a vision-language model takes them.

    Attributes:
        text: the prompt, without media placeholders.
        images: (H, W, 3) uint8 RGB each, in prompt order; the queried one is last.
        depths: (H, W, 3) uint8 relative depth pictures (near = bright), one per image, or empty.
    """

    text: str
    images: tuple[np.ndarray, ...] = ()
    depths: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True)
class Generation:
    """A vision-language model's answer to a Prompt; as Prediction, but in normalised coordinates.

    Attributes:
        points: (N, 2) in [0, 1] relative to the last image of the prompt, or None if the model gives
            text only and the caller parses it.
        point_covariance: (N, 2, 2) in normalised units^2.
    """

    text: str
    points: np.ndarray | None = None
    visible: bool | None = None
    point_covariance: np.ndarray | None = None
    scores: np.ndarray | None = None
    p_visible: float | None = None
    p_visible_calibrated: bool = False
    timings: dict[str, float] = field(default_factory=dict)


@runtime_checkable
class VisionLanguageModel(Protocol):
    """Answers prompts. ``uses_depth`` tells the prompt builder whether to render depth pictures."""

    name: str
    uses_depth: bool

    def generate(self, prompt: Prompt) -> Generation: ...

    def generate_batch(self, prompts: Sequence[Prompt]) -> list[Generation]: ...
