"""The answer: mirrors roboref_msgs/ReferAnswer and its parts one to one. Zero is never FOUND."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from roboref_core.errors import ErrorCode
from roboref_core.views.locate import DepthSource
from roboref_core.views.registration import ChangeEvidence, Registration
from roboref_core.views.view import View
from roboref_core.views.visibility import Visibility


class Status(IntEnum):
    UNKNOWN = 0
    FOUND = 1
    NOT_VISIBLE = 2
    AMBIGUOUS = 3
    FOUND_WITHOUT_POSITION = 4
    ERROR = 5


class Agreement(IntEnum):
    """Do depth and poses put the mark where the model points?"""

    NOT_CHECKED = 0
    AGREES = 1
    DISAGREES = 2
    UNDECIDED = 3


@dataclass(frozen=True)
class Target:
    """One place that the question refers to.

    Attributes:
        pixel: (u, v) in the full-resolution colour image of its view.
        position: (3,) in ``frame_id`` [m]; None without depth.
        covariance: (3, 3) of position in ``frame_id`` [m^2]; None without position.
        frame_id, stamp_ns: frame of position and capture time of the view (not of the answer).
        depth_source: where the depth came from.
        depth, depth_spread: along the optical axis and its spread in the sampled patch [m]; NaN without depth.
        score: confidence in [0, 1]; negative if the model gives none.
    """

    pixel: tuple[float, float]
    frame_id: str
    stamp_ns: int
    position: np.ndarray | None = None
    covariance: np.ndarray | None = None
    depth_source: DepthSource = DepthSource.NONE
    depth: float = float("nan")
    depth_spread: float = float("nan")
    score: float = -1.0


@dataclass(frozen=True)
class GeometricCheck:
    """Where depth and poses say the mark is, against what the model says.

    Attributes:
        agreement: the verdict.
        visibility: of the mark's 3D point in the searched view; None: not checked.
        expected_pixel: where it projects; None if behind the camera or not checked.
        distance_px: from there to the model's point [pixel]; NaN unless both exist.
        distance: between both 3D positions [m]; NaN unless both exist.
        registration: of the mark's view to the searched one: its verdict, and the correction of the stated pose
            [m, rad]; None: the stated poses stand.
        without_poses: the mark's view or the searched one has no pose, so that pictures alone had to link them;
            positions are in the optical frame of a searched view without one.
        via_view_ids: views over which the two are linked, in order, where they do not overlap; empty: directly.
        surface: what became of the surface around the mark, with its evidence.
    """

    agreement: Agreement = Agreement.NOT_CHECKED
    visibility: Visibility | None = None
    expected_pixel: tuple[float, float] | None = None
    distance_px: float = float("nan")
    distance: float = float("nan")
    registration: Registration | None = None
    without_poses: bool = False
    via_view_ids: tuple[str, ...] = ()
    surface: ChangeEvidence = field(default_factory=ChangeEvidence)


@dataclass(frozen=True)
class LastKnown:
    """A place found in an older view only, by a question that searches memory.

    Attributes:
        view_id: the older view.
        target: the place, as that view shows it.
        check: what the searched view says of that place now; its pixel is of the searched view.
    """

    view_id: str
    target: Target
    check: GeometricCheck = field(default_factory=GeometricCheck)


@dataclass(frozen=True)
class Answer:
    """The answer to a Query.

    Attributes:
        status: FOUND with targets, NOT_VISIBLE (an answer, not an error) or ERROR with a code and a text.
        error_msg: what was expected and found; with NOT_VISIBLE why older views could not be searched, if any.
        targets: best first; empty unless FOUND, AMBIGUOUS or FOUND_WITHOUT_POSITION.
        last_known: places in older views, only with NOT_VISIBLE and ``search_memory``.
        view: the view that was searched.
        view_age: age of the view when it was searched [s].
        queue_time, inference_time: [s]
        model, raw_answer: model name with revision, and its text before parsing.
    """

    status: Status
    error_code: ErrorCode = ErrorCode.NONE
    error_msg: str = ""
    targets: tuple[Target, ...] = ()
    last_known: tuple[LastKnown, ...] = ()
    check: GeometricCheck = field(default_factory=GeometricCheck)
    view: View | None = None
    view_age: float = 0.0
    queue_time: float = 0.0
    inference_time: float = 0.0
    model: str = ""
    raw_answer: str = ""

    @classmethod
    def error(cls, code: ErrorCode, message: str, model: str = "") -> Answer:
        return cls(Status.ERROR, code, message, model=model)


def is_covariance(matrix: np.ndarray) -> bool:
    """Whether a square matrix is finite, symmetric and positive semidefinite."""
    if not np.isfinite(matrix).all() or not np.allclose(matrix, matrix.T, rtol=1e-6, atol=1e-12):
        return False
    return bool(np.linalg.eigvalsh(matrix).min() >= -1e-9 * max(float(np.trace(matrix)), 0.0))
