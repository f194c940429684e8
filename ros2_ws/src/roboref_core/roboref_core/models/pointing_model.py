"""What every pointing model looks like: a request in, a prediction out.

``PointingModel`` answers a request about views and marks; the geometric baseline implements it directly.
``prompting.prompted.PromptedModel`` makes one of a vision-language model, which answers pictures and a prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from roboref_core.models.cancellation import Cancellation
from roboref_core.models.model_answer import ModelAnswer
from roboref_core.views.locate import LocateConfig
from roboref_core.views.registration import Change, ChangeEvidence
from roboref_core.views.view import View
from roboref_core.views.visibility import DepthTolerance, Visibility


@dataclass(frozen=True)
class Place:
    """A position that knows its frame.

    Attributes:
        position, covariance: (3,) [m] and (3, 3) [m^2] in ``frame_id``.
        frame_id: name of a world frame.
    """

    position: np.ndarray
    covariance: np.ndarray
    frame_id: str


@dataclass(frozen=True)
class PointMark:
    """A marked pixel, resolved.

    Attributes:
        view: the view it was marked in, or the queried view for a marked position that is seen there.
        pixel: (u, v) in that view's colour image.
        place: where it is, if depth and pose of the view tell.
        label: how the text calls it.
    """

    view: View
    pixel: tuple[float, float]
    place: Place | None = None
    label: str = ""


@dataclass(frozen=True)
class BoxMark:
    """A marked box, resolved.

    Attributes:
        view: the view it was marked in.
        box: (u_min, v_min, u_max, v_max) in that view's colour image [pixel].
        place: place of the point on the framed surface that is nearest to its middle, if depth and pose tell.
        label: how the text calls it.
    """

    view: View
    box: tuple[float, float, float, float]
    place: Place | None = None
    label: str = ""

    @property
    def pixel(self) -> tuple[float, float]:
        """The centre of the box."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


@dataclass(frozen=True)
class PositionMark:
    """A marked position that projects into no view that is shown.

    Attributes:
        place: the position.
        label: how the text calls it.
    """

    place: Place
    label: str = ""


Mark = PointMark | BoxMark | PositionMark


@dataclass(frozen=True)
class PointingRequest:
    """Point at what ``text`` and ``marks`` refer to in ``view``.

    Attributes:
        text: what to point at.
        view: the queried view.
        marks: what the text refers to; their views and places are in the world frame of ``view``.
        max_points: most points wanted.
        locate, tolerance: how depth is read and compared, for models that do so.
        deadline: time.monotonic() after which nobody waits for the prediction [s]; None: no limit. A model that
            can stop raises ReferError(TIMEOUT) then.
        cancellation: set when nobody waits any more; a model that can stop raises ReferError(CANCELED) then.
        surface: what became of the surface around the one mark; None: nobody has looked.
        earlier: pixel of ``view`` -> what views from before the mark was made showed where it lies, so whether the
            surface is new there (GONE: nothing was there) or old (UNCHANGED); None: there is no memory.
    """

    text: str
    view: View
    marks: tuple[Mark, ...] = ()
    max_points: int = 1
    locate: LocateConfig = field(default_factory=LocateConfig)
    tolerance: DepthTolerance = field(default_factory=DepthTolerance)
    deadline: float | None = None
    cancellation: Cancellation | None = None
    surface: ChangeEvidence | None = None
    earlier: Callable[[tuple[float, float]], Change] | None = None


@dataclass(frozen=True)
class Prediction(ModelAnswer):
    """What a model said about one request. Points are pixels in the queried view's colour image.

    Attributes:
        visibility: why it is not visible, if the model can tell; None otherwise.
        conflict: the points are rival places of one thing, between which nothing decides.
        said: what the learned model alone said, where geometry had a part in the points; None: they are its own.
        extent: (N,) standard deviation, along any axis, of what is asked for around what a point shows, where a point
            stands for a whole thing or may be of another one [m]; infinite where the depth at a point is known to be of
            something else, which gives no position; None: the points are what is asked for.
    """

    visibility: Visibility | None = None
    conflict: bool = False
    said: Prediction | None = None
    extent: np.ndarray | None = None


@runtime_checkable
class PointingModel(Protocol):
    """Answers requests about views. ``name`` goes into every answer (with revision where there is one).

    ``predict`` raises ReferError for what its asker must be told (INVALID_QUERY, OUT_OF_MEMORY,
    INFERENCE_FAILED) and stays usable afterwards.
    """

    name: str

    def predict(self, request: PointingRequest) -> Prediction: ...


@runtime_checkable
class BatchPointingModel(PointingModel, Protocol):
    """A PointingModel that answers several requests together faster than one after the other."""

    def predict_batch(self, requests: Sequence[PointingRequest]) -> list[Prediction]:
        """One Prediction per request, in order. Raises what ``predict`` raises for any of them."""
