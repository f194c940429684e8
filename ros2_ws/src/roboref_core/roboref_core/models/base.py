"""What every pointing model looks like: a request in, a prediction out.

Two levels. ``PointingModel`` answers a request about views and marks; the geometric baseline
implements it directly. ``VisionLanguageModel`` answers pictures and a prompt, which is what the
offline evaluation feeds it; ``models.prompted.PromptedModel`` makes the first out of the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from roboref_core.locate import LocateConfig
from roboref_core.view import View
from roboref_core.visibility import DepthTolerance, Visibility


@dataclass(frozen=True)
class Mark:
    """A marked region, resolved: in which view, at which pixel.

    Attributes:
        view: the view it was marked in (for a 3D position: the queried view, or None if it projects nowhere).
        pixel: (u, v) in that view's colour image; for a box its centre; None for a position only.
        box: (u_min, v_min, u_max, v_max), or None.
        position, covariance: (3,) and (3, 3) in the world frame [m, m^2], if it could be located.
        label: how the text calls it.
    """

    view: View | None
    pixel: tuple[float, float] | None
    box: tuple[float, float, float, float] | None = None
    position: np.ndarray | None = None
    covariance: np.ndarray | None = None
    label: str = ""


@dataclass(frozen=True)
class PointingRequest:
    """Point at what ``text`` and ``marks`` refer to in ``view``.

    ``locate`` and ``tolerance`` say how depth is read and compared, for models that do so.
    """

    text: str
    view: View
    marks: tuple[Mark, ...] = ()
    max_points: int = 1
    locate: LocateConfig = field(default_factory=LocateConfig)
    tolerance: DepthTolerance = field(default_factory=DepthTolerance)


@dataclass(frozen=True)
class Prediction:
    """What a model said about one request.

    Attributes:
        text: raw answer text, before parsing.
        points: (N, 2) pixels in the queried view's colour image, best first; empty with NOT_VISIBLE.
        visible: True: points hold the answer; False: NOT_VISIBLE; None: the text was not parsable.
        point_covariance: (N, 2, 2) [pixel^2], or None if the model does not know.
        scores: (N,) confidence in [0, 1], or None.
        p_visible: probability of pointing against NOT_VISIBLE, or None.
        p_visible_calibrated: whether p_visible went through a fitted calibration.
        visibility: why it is not visible, if the model can tell; None otherwise.
        timings: named durations [s].
    """

    text: str
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    visible: bool | None = None
    point_covariance: np.ndarray | None = None
    scores: np.ndarray | None = None
    p_visible: float | None = None
    p_visible_calibrated: bool = False
    visibility: Visibility | None = None
    timings: dict[str, float] = field(default_factory=dict)


@runtime_checkable
class PointingModel(Protocol):
    """Answers requests about views. ``name`` goes into every answer (with revision where there is one).

    ``predict`` raises ReferError for what its asker must be told (INVALID_QUERY, OUT_OF_MEMORY,
    INFERENCE_FAILED) and stays usable afterwards.
    """

    name: str

    def predict(self, request: PointingRequest) -> Prediction: ...


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
