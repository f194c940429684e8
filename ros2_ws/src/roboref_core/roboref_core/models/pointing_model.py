"""What every pointing model looks like: a request in, a prediction out.

``PointingModel`` answers a request about views and marks; the geometric baseline implements it directly.
``prompting.prompted.PromptedModel`` makes one of a vision-language model, which answers pictures and a prompt.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from roboref_core.views.locate import LocateConfig
from roboref_core.views.view import View
from roboref_core.views.visibility import DepthTolerance, Visibility


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
