"""Geometry and a vision-language model as one: what stands still is placed by geometry, what is gone by the model."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from roboref_core.errors import ErrorCode, ReferError
from roboref_core.geometry.camera import map_pixels
from roboref_core.models.fusion import Belief, FusionConfig, Place2D, believe, combined, model_place, on_the_thing
from roboref_core.models.mark_surface import surface_of_mark
from roboref_core.models.model_answer import Outcome
from roboref_core.models.pointing_model import (
    BatchPointingModel,
    Mark,
    PointingModel,
    PointingRequest,
    PositionMark,
    Prediction,
)
from roboref_core.models.reprojection import ReprojectionModel
from roboref_core.views.locate import locate
from roboref_core.views.registration import Change
from roboref_core.views.view import ImageError, View, valid_depth
from roboref_core.views.visibility import Visibility

_log = logging.getLogger(__name__)
_WAITED_FOR = (ErrorCode.TIMEOUT, ErrorCode.CANCELED)
"""Errors of the model after which nobody waits for what geometry says either."""
_SMALLEST = 0.003
"""Probability below which no answer of a model is taken at its word."""
_GRID = 20
"""Of this many pixels one is looked at, along each axis, where the whole picture counts."""
_EXTENT = 0.3
"""A point nearer than this to the mark's place may be another part of the marked thing [m]."""


class FusedModel:
    """A PointingModel of geometry and another one, which knows words.

    A mark that stands for the thing itself is carried by depth and (registered) poses, and the surface around it is
    compared: UNCHANGED, HIDDEN, GONE or CHANGED. That verdict and the model's answer are weighed by their likelihoods
    (see ``fusion``). Where the thing stood still the point is geometry's, and the model vouches; where it is gone, or
    where there is no such mark, the model points. Two places that are both probable are both given, as a conflict.

    Args:
        model: the other one.
        config: prior beliefs.
    """

    def __init__(self, model: PointingModel, config: FusionConfig | None = None):
        self.model = model
        self.config = config or FusionConfig()
        self.name = f"fused({model.name})"
        self._geometry = ReprojectionModel()

    def predict(self, request: PointingRequest) -> Prediction:
        """Raises what the model raises, unless geometry is sure of its own answer, which then says so."""
        mark = _mark_of_the_thing(request)
        carried = None if mark is None else self._carried(request, mark)
        if mark is None or carried is None:
            return self.model.predict(request)
        if isinstance(mark, PositionMark) and not request.text.strip():
            return carried  # Nothing to show to a model, and no words for it.
        start = time.perf_counter()
        verdict = _verdict(request, mark, carried)
        try:
            said = self._asked(request, mark, verdict)
        except ImageError:
            raise
        except Exception as error:
            return _unheard(carried, verdict, error)
        if said.outcome is Outcome.UNPARSABLE and verdict is not Change.UNCHANGED:
            return said
        fused = self._fused(request, verdict, carried, said)
        return replace(fused, said=said, timings=said.timings | {"predict": time.perf_counter() - start})

    def predict_batch(self, requests: Sequence[PointingRequest]) -> list[Prediction]:
        """Together where the model alone answers them, as it does for words; one after the other otherwise."""
        alone = all(_mark_of_the_thing(request) is None for request in requests)
        if alone and isinstance(self.model, BatchPointingModel):
            return self.model.predict_batch(requests)
        return [self.predict(request) for request in requests]

    def _carried(self, request: PointingRequest, mark: Mark) -> Prediction | None:
        """What geometry says; None where it cannot say anything."""
        try:
            return self._geometry.predict(replace(request, marks=(mark,)))
        except ReferError:
            return None  # No depth at the mark, or no pose: the model alone sees something.

    def _asked(self, request: PointingRequest, mark: Mark, verdict: Change) -> Prediction:
        """What the model says. A mark that is in no picture cannot be shown to it; words can.

        What is gone from its place and what the model does not find by the look of the mark, it may find by its name.
        """
        in_words = replace(request, marks=())
        if isinstance(mark, PositionMark):
            return self.model.predict(in_words)
        shown = self.model.predict(request)
        if verdict not in (Change.GONE, Change.CHANGED) or len(shown.points) or not request.text.strip():
            return shown
        return _either(shown, self.model.predict(in_words))

    def _fused(self, request: PointingRequest, verdict: Change, carried: Prediction, said: Prediction) -> Prediction:
        camera = request.view.camera
        size = (camera.width, camera.height)
        place = _place(carried)
        heard = None if said.outcome is Outcome.UNPARSABLE else said
        earlier = earlier_at(request, said)
        belief = believe(verdict, place, heard, size, self.config, earlier)
        text = f"{said.text} | geometry {verdict.name}: {carried.text}"
        if earlier is not Change.NOT_CHECKED:
            text += f", there earlier: {earlier.name}"
        if belief.p_visible < 0.5:
            return Prediction(
                text,
                Outcome.NOT_VISIBLE,
                p_visible=belief.p_visible,
                p_visible_calibrated=said.p_visible_calibrated,
                visibility=carried.visibility if place is None else None,
            )
        candidates = self._candidates(request, belief, carried, heard, earlier)
        return Prediction(
            text,
            Outcome.VISIBLE,
            points=np.array([one.place.pixel for one in candidates]),
            point_covariance=np.array([one.place.covariance for one in candidates]),
            scores=np.array([one.probability for one in candidates]),
            p_visible=belief.p_visible,
            p_visible_calibrated=said.p_visible_calibrated,
            visibility=carried.visibility if belief.here >= belief.elsewhere else None,
            conflict=len(candidates) > 1,
            extent=np.array([one.extent for one in candidates]),
        )

    def _candidates(
        self, request: PointingRequest, belief: Belief, carried: Prediction, said: Prediction | None, earlier: Change
    ) -> list[_Candidate]:
        """Best first; a second one only where it is a rival."""
        camera, place = request.view.camera, _place(carried)
        size = (camera.width, camera.height)
        found: list[_Candidate] = []
        if place is not None:
            if belief.agree and said is not None:
                place = combined(place, model_place(said, size, self.config))
            found.append(_Candidate(place, belief.here, 0.0 if carried.extent is None else float(carried.extent[0])))
        if said is not None and len(said.points) and not belief.agree:
            covariance = np.eye(2) * (self.config.extent * size[0]) ** 2
            if said.point_covariance is not None:
                covariance = np.asarray(said.point_covariance)[0]
            pointed = Place2D(said.points[0], covariance)
            extent = self._extent(request.view, pointed.pixel, on_the_thing(belief, earlier, self.config))
            found.append(_Candidate(pointed, belief.elsewhere, extent))
        found.sort(key=lambda candidate: -candidate.probability)
        return [one for rank, one in enumerate(found) if rank == 0 or one.probability >= self.config.rival]

    def _extent(self, view: View, pixel: np.ndarray, on_it: float) -> float:
        """Standard deviation, along any axis, of the marked point around what the model points at [m].

        With probability ``on_it`` both are of one thing; if not, the thing is anywhere in the picture.
        """
        surface, around = _scene(view, pixel)
        own = self.config.extent * view.camera.width / view.camera.fx * surface
        return float(np.sqrt(on_it * own**2 + (1.0 - on_it) * around**2))


class _Candidate(NamedTuple):
    """A place where the thing may be, with its probability and extent (see ``Prediction``) [m]."""

    place: Place2D
    probability: float
    extent: float


def _mark_of_the_thing(request: PointingRequest) -> Mark | None:
    """The one mark that stands for what is asked for; None if there is none.

    A labelled mark is something that the text speaks of ("left of A"), unless the text is that label or empty.
    """
    if len(request.marks) != 1 or request.view.T_world_camera is None or not request.view.has_depth:
        return None
    (mark,) = request.marks
    return mark if request.text.strip() in ("", mark.label) or not mark.label else None


def _verdict(request: PointingRequest, mark: Mark, carried: Prediction) -> Change:
    """What geometry says of the marked surface; where no two views of it could be compared, of the marked point."""
    verdict = (request.surface or surface_of_mark(request.marks, request.view)).change
    if verdict is not Change.NOT_CHECKED:
        return verdict
    if carried.outcome is Outcome.NOT_VISIBLE:
        return Change.GONE if carried.visibility is Visibility.CONFLICT else Change.HIDDEN
    here = not isinstance(mark, PositionMark) and mark.view.images is request.view.images
    return Change.UNCHANGED if here and carried.visibility is Visibility.VISIBLE else verdict


def _unheard(carried: Prediction, verdict: Change, error: Exception) -> Prediction:
    """Geometry's answer without the model, which failed; raises ``error`` where geometry alone is not sure."""
    waited_for = isinstance(error, ReferError) and error.code in _WAITED_FOR
    if waited_for or verdict is not Change.UNCHANGED or carried.outcome is not Outcome.VISIBLE:
        raise error
    _log.warning("answered by geometry alone, as the model failed: %s: %s", type(error).__name__, error)
    unheard = Prediction("", Outcome.UNPARSABLE, reason=str(error))
    return replace(carried, text=f"{carried.text} (geometry alone: {error})", said=unheard)


def earlier_at(request: PointingRequest, said: Prediction) -> Change:
    """What earlier views say of the surface that a model points at; NOT_CHECKED near the marked place, as that may be
    another part of the marked thing."""
    mark = request.marks[0]
    if request.earlier is None or not len(said.points) or mark.place is None:
        return Change.NOT_CHECKED
    pixel = (float(said.points[0, 0]), float(said.points[0, 1]))
    pointed = locate(request.view, pixel, None, request.locate)
    if pointed.point is None or np.linalg.norm(pointed.point - mark.place.position) < _EXTENT:
        return Change.NOT_CHECKED
    return request.earlier(pixel)


def _either(shown: Prediction, named: Prediction) -> Prediction:
    """Two answers of one model as one. They are not independent: their log odds are averaged, not added."""
    pointing = shown if len(shown.points) or not len(named.points) else named
    if shown.p_visible is None or named.p_visible is None:
        return pointing
    odds = np.clip([shown.p_visible, named.p_visible], _SMALLEST, 1.0 - _SMALLEST)
    p_visible = 1.0 / (1.0 + float(np.exp(-np.mean(np.log(odds / (1.0 - odds))))))
    return replace(pointing, text=f"{shown.text} | in words {named.text}", p_visible=p_visible)


def _scene(view: View, pixel: np.ndarray) -> tuple[float, float]:
    """Depth at a pixel, and standard deviation along any axis of all that the picture shows around it [m]."""
    image = view.depth
    assert image is not None
    camera = view.depth_camera
    grid = np.meshgrid(np.arange(0, camera.width, _GRID), np.arange(0, camera.height, _GRID))
    pixels = np.stack(grid, axis=-1).reshape(-1, 2)
    depth = image[pixels[:, 1], pixels[:, 0]].astype(np.float64)
    known = valid_depth(depth)
    if not known.any():
        return 0.0, 0.0
    points = camera.unproject(pixels[known].astype(np.float64), depth[known])
    there = points[np.argmin(((pixels[known] - map_pixels(pixel[None], view.camera, camera)) ** 2).sum(axis=1))]
    return float(there[2]), float(np.sqrt(((points - there) ** 2).sum(axis=1).mean() / 3))


def _place(carried: Prediction) -> Place2D | None:
    if carried.outcome is not Outcome.VISIBLE or carried.point_covariance is None:
        return None
    return Place2D(carried.points[0], np.asarray(carried.point_covariance)[0])
