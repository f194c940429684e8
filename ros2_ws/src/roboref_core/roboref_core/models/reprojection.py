"""Geometry only: carries a mark from its view to the queried one by depth and pose.

The honest baseline that every learned model must beat, and the default of the demo. It knows
nothing of words; it is exact while nothing has moved, and knows what has moved by its looks alone.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from roboref_core.errors import ErrorCode, ReferError
from roboref_core.geometry.camera import pixel_to_normalised
from roboref_core.geometry.pose import inverse, transform
from roboref_core.models.model_answer import Outcome
from roboref_core.models.pointing_model import BoxMark, Mark, PointingRequest, PositionMark, Prediction
from roboref_core.prompting.answer_text import format_answer
from roboref_core.views.appearance_search import find_by_appearance
from roboref_core.views.locate import LocateConfig, surface_in_box
from roboref_core.views.registration import Change, FeatureCache, what_changed
from roboref_core.views.view import View
from roboref_core.views.visibility import Visibility, point_visibility

# Of the views in which something was looked for.
_FEATURE_BYTES = 64_000_000
# With several reasons at hand for a box, the one that most of its points have is given; ties in this order.
_HIDDEN = (Visibility.OCCLUDED, Visibility.OUT_OF_FRUSTUM, Visibility.CONFLICT)


class ReprojectionModel:
    """A PointingModel without weights.

    A marked point is VISIBLE, or NOT_VISIBLE because it is OUT_OF_FRUSTUM, OCCLUDED or in CONFLICT
    (the sensor looks through where it was). Where the sensor has no depth it is pointed at all the same, with
    visibility UNKNOWN. A marked box stands for the surface it frames, and its answer is the visible
    point nearest to the middle of what is visible.

    Where the surface around a mark is gone or of another colour, the thing is looked for by its appearance; found, it
    is VISIBLE at its new place. Where it is gone, not found, and its point may yet be in sight, that is pointed at
    without a position: the poses, or a thin thing, may be what is wrong.
    """

    name = "reprojection"

    def __init__(self) -> None:
        self._features = FeatureCache(max_bytes=_FEATURE_BYTES)

    def predict(self, request: PointingRequest) -> Prediction:
        """Raises ReferError: INVALID_QUERY unless there is exactly one mark with depth, TF_ERROR without poses."""
        start = time.perf_counter()
        mark = self._only_mark(request)
        if request.view.T_world_camera is None:
            raise ReferError(ErrorCode.TF_ERROR, f"view {request.view.view_id} has no camera pose to reproject into")
        change = self._change(mark, request.view)
        if change in (Change.GONE, Change.CHANGED):
            moved = self._moved(mark, request, start)
            if moved is not None:
                return moved
        points = self._surface(mark, request.locate)
        visibilities, pixels = point_visibility(points, request.view, request.tolerance)
        names = np.array(visibilities, dtype=object)
        for wanted in (Visibility.VISIBLE, Visibility.UNKNOWN):
            chosen = names == wanted
            if chosen.any():
                found = self._pointing(request, mark, points[chosen], pixels[chosen], wanted, start)
                # Where the sensor looks through the marked surface, it measures what is behind.
                return replace(found, extent=np.array([np.inf])) if change is Change.GONE else found
        counts = [np.count_nonzero(names == hidden) for hidden in _HIDDEN]
        return Prediction(
            text=format_answer(None),
            outcome=Outcome.NOT_VISIBLE,
            visibility=_HIDDEN[int(np.argmax(counts))],
            timings={"predict": time.perf_counter() - start},
        )

    def _only_mark(self, request: PointingRequest) -> Mark:
        if not request.marks:
            raise ReferError(
                ErrorCode.INVALID_QUERY,
                "the reprojection model knows geometry, not words: mark the object in an earlier view "
                "(regions), or load a vision-language model (model.backend)",
            )
        if len(request.marks) > 1:
            raise ReferError(
                ErrorCode.INVALID_QUERY, f"the reprojection model carries one mark, found {len(request.marks)}"
            )
        return request.marks[0]

    def _change(self, mark: Mark, view: View) -> Change:
        if isinstance(mark, PositionMark) or mark.view.images is view.images:
            return Change.NOT_CHECKED
        return what_changed(mark.view, view, mark.pixel, mark.box if isinstance(mark, BoxMark) else None).change

    def _moved(self, mark: Mark, request: PointingRequest, start: float) -> Prediction | None:
        """The thing at a place where it was not when it was marked; None if it was not found."""
        view = request.view
        assert not isinstance(mark, PositionMark)
        box = mark.box if isinstance(mark, BoxMark) else None
        found = find_by_appearance(mark.view, mark.pixel, view, self._features, box)
        if found.pixel is None:
            return None
        if found.stayed:
            # What is found where it was marked did not move, and the mark's place tells more than a search.
            points = self._surface(mark, request.locate)
            names, pixels = point_visibility(points, view, request.tolerance)
            if Visibility.VISIBLE in names or Visibility.UNKNOWN in names:
                return None
            through = np.array([name is Visibility.CONFLICT for name in names])
            if through.any():
                # A hole, or the ragged edge of depth: what is measured there is behind the thing.
                there = self._pointing(request, mark, points[through], pixels[through], Visibility.UNKNOWN, start)
                return replace(there, extent=np.array([np.inf]))
        pixel = np.array([found.pixel])
        return Prediction(
            text=format_answer(pixel_to_normalised(pixel, view.camera.width, view.camera.height)),
            points=pixel,
            scores=np.array([found.score]),
            outcome=Outcome.VISIBLE,
            visibility=Visibility.VISIBLE,
            point_covariance=np.eye(2)[None] * found.pixel_sigma**2,
            extent=np.array([found.extent]),
            timings={"predict": time.perf_counter() - start},
        )

    def _surface(self, mark: Mark, locate: LocateConfig) -> np.ndarray:
        if isinstance(mark, BoxMark) and mark.view.T_world_camera is not None and mark.view.has_depth:
            points = surface_in_box(mark.view, mark.box, locate)
            if len(points):
                return points
        if mark.place is not None:
            return np.reshape(mark.place.position, (1, 3))
        assert not isinstance(mark, PositionMark)
        if mark.view.T_world_camera is None:
            raise ReferError(ErrorCode.TF_ERROR, f"view {mark.view.view_id}, which holds the mark, has no camera pose")
        u, v = mark.pixel
        raise ReferError(
            ErrorCode.INVALID_QUERY,
            f"no depth at the mark ({u:.0f}, {v:.0f}) of view {mark.view.view_id} nor within "
            f"{locate.fill_radius} pixels: mark another point of the object",
        )

    def _pointing(
        self,
        request: PointingRequest,
        mark: Mark,
        points: np.ndarray,
        pixels: np.ndarray,
        visibility: Visibility,
        start: float,
    ) -> Prediction:
        centre = np.median(pixels, axis=0)
        best = int(np.argmin(((pixels - centre) ** 2).sum(axis=1)))
        pixel, camera = pixels[best], request.view.camera
        covariance = np.eye(2) * request.locate.pixel_sigma**2
        if mark.place is not None and len(points) == 1:
            covariance = covariance + _projected_covariance(request.view, points[best], mark.place.covariance)
        return Prediction(
            text=format_answer(pixel_to_normalised(pixel[None], camera.width, camera.height)),
            points=pixel[None],
            outcome=Outcome.VISIBLE,
            visibility=visibility,
            point_covariance=covariance[None],
            timings={"predict": time.perf_counter() - start},
        )


def _projected_covariance(view: View, point_world: np.ndarray, covariance_world: np.ndarray) -> np.ndarray:
    """(2, 2) covariance [pixel^2] of the projection of a point known with (3, 3) covariance [m^2]."""
    assert view.T_world_camera is not None
    T_camera_world = inverse(view.T_world_camera)
    step = 1e-4
    around = transform(T_camera_world, point_world + np.concatenate([np.eye(3), -np.eye(3)]) * step)
    pixels = view.camera.project(around)
    jacobian = ((pixels[:3] - pixels[3:]) / (2 * step)).T
    return np.nan_to_num(jacobian @ covariance_world @ jacobian.T)
