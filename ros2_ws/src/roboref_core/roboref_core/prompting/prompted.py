"""Makes a PointingModel from a VisionLanguageModel: views and marks to a prompt, normalised points to pixels."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from roboref_core.errors import ErrorCode, ReferError
from roboref_core.geometry.camera import normalised_to_pixel, pixel_to_normalised
from roboref_core.models.model_answer import Outcome
from roboref_core.models.pointing_model import BoxMark, PointingRequest, PointMark, PositionMark, Prediction
from roboref_core.models.vision_language_model import Generation, Prompt, VisionLanguageModel
from roboref_core.prompting.grid import Grid
from roboref_core.prompting.marker import Marker
from roboref_core.prompting.prompt import DrawnMark, Form, pointing
from roboref_core.prompting.side_by_side import SideBySide
from roboref_core.views.depth_picture import view_to_picture
from roboref_core.views.view import View

_ROUNDING = 1e-9  # of the conversion between a picture of two views and one of them

MarkInView = PointMark | BoxMark


class PromptedModel:
    """A PointingModel that shows a vision-language model the marked views and asks it in words.

    Args:
        vlm: the model.
        form: two views as two pictures, or side by side in one. Requests with one view are alike in both.
        grid: drawn over the answered picture, and explained in the prompt; None: no grid.
        marker: how marks are drawn.
        may_be_absent: tell the model that it may answer NOT_VISIBLE.
        estimate_depth: makes a depth picture of a colour image (see ``depth_anything``), for views without depth
            and a model that uses it; None: such questions are asked in colour alone.
    """

    def __init__(
        self,
        vlm: VisionLanguageModel,
        form: Form = Form.MULTI,
        grid: Grid | None = None,
        marker: Marker | None = None,
        may_be_absent: bool = True,
        estimate_depth: Callable[[np.ndarray], np.ndarray] | None = None,
    ):
        self.vlm = vlm
        self.name = vlm.name
        self.form = form
        self.grid = grid
        self.marker = marker or Marker()
        self.may_be_absent = may_be_absent
        self.estimate_depth = estimate_depth

    def predict(self, request: PointingRequest) -> Prediction:
        """Raises ReferError: INVALID_QUERY for what cannot be put into a prompt, and what the model raises."""
        return self.predict_batch([request])[0]

    def predict_batch(self, requests: Sequence[PointingRequest]) -> list[Prediction]:
        """Answers to all of them from one call of the model. Raises as ``predict``, for any of them."""
        start = time.perf_counter()
        built = [self.prompt(request) for request in requests]
        prompted = time.perf_counter()
        prompts = [prompt for prompt, _ in built]
        generations = [self.vlm.generate(prompts[0])] if len(prompts) == 1 else self.vlm.generate_batch(prompts)
        predictions = [
            _in_pixels(generation, request, layout)
            for generation, request, (_, layout) in zip(generations, requests, built, strict=True)
        ]
        for prediction in predictions:
            prediction.timings.update(prompt=prompted - start, predict=time.perf_counter() - start)
        return predictions

    def prompt(self, request: PointingRequest) -> tuple[Prompt, SideBySide | None]:
        """What the model is shown and asked; with the layout of the one picture if two views share it."""
        marks = _marks_in_views(request)
        views = [*_reference_views(marks, request.view), request.view]
        concat = self.form is Form.CONCAT and len(views) > 1
        if concat and len(views) > 2:
            raise ReferError(
                ErrorCode.INVALID_QUERY, f"the concat form shows one reference view, found marks in {len(views) - 1}"
            )
        images = [self._marked(view, marks) for view in views]
        found = [self._depth(view) for view in views] if self.vlm.uses_depth else []
        depths = [depth for depth in found if depth is not None]
        if len(depths) < len(found):
            depths = []  # a depth picture for each image, or for none
        layout = None
        if concat:
            layout = SideBySide(*((view.camera.width, view.camera.height) for view in views))
            images = [layout.compose(*images)]
            depths = [layout.compose(*depths)] if depths else []
        if self.grid is not None:
            images[-1] = self.grid.draw(images[-1])
        text = self._text(request, marks, views, layout)
        return Prompt(text, tuple(images), tuple(depths), request.deadline, request.cancellation), layout

    def _marked(self, view: View, marks: list[MarkInView]) -> np.ndarray:
        image = view.color
        for mark in marks:
            if mark.view.view_id == view.view_id:
                # A label only where there are marks to tell apart.
                image = self.marker.draw(image, mark.pixel, _box(mark), mark.label if len(marks) > 1 else "")
        return image

    def _depth(self, view: View) -> np.ndarray | None:
        picture = view_to_picture(view)
        return self.estimate_depth(view.color) if picture is None and self.estimate_depth else picture

    def _text(
        self, request: PointingRequest, marks: list[MarkInView], views: list[View], layout: SideBySide | None
    ) -> str:
        ids = [view.view_id for view in views]
        drawn = []
        for mark in marks:
            camera = mark.view.camera
            index = ids.index(mark.view.view_id)
            xy = pixel_to_normalised(np.array(mark.pixel), camera.width, camera.height)
            if layout is not None:
                xy = layout.left_to_whole(xy) if index == 0 else layout.right_to_whole(xy)
            drawn.append(DrawnMark(index, self.marker.describe(isinstance(mark, BoxMark)), mark.label, tuple(xy)))
        form = Form.MULTI if layout is None else Form.CONCAT
        try:
            return pointing(request.text, drawn, len(views), form, self.may_be_absent, self.grid)
        except ValueError as error:
            raise ReferError(ErrorCode.INVALID_QUERY, str(error)) from error


def _marks_in_views(request: PointingRequest) -> list[MarkInView]:
    """Raises ReferError(INVALID_QUERY) for a position that lies in no view."""
    marks: list[MarkInView] = []
    for mark in request.marks:
        if isinstance(mark, PositionMark):
            raise ReferError(
                ErrorCode.INVALID_QUERY,
                f"the mark {mark.label!r} is a position that lies in no view: it cannot be shown to the model",
            )
        marks.append(mark)
    return marks


def _reference_views(marks: list[MarkInView], queried: View) -> list[View]:
    """Views other than the queried one that hold marks, in the order of the marks."""
    found: dict[str, View] = {}
    for mark in marks:
        if mark.view.view_id != queried.view_id:
            found.setdefault(mark.view.view_id, mark.view)
    return list(found.values())


def _box(mark: MarkInView) -> tuple[float, float, float, float] | None:
    return mark.box if isinstance(mark, BoxMark) else None


def _in_pixels(generation: Generation, request: PointingRequest, layout: SideBySide | None) -> Prediction:
    """A Prediction from a Generation; points beside the queried view (concat form) are a miss and are left out."""
    xy, outcome, reason = generation.points, generation.outcome, generation.reason
    width, height = request.view.camera.width, request.view.camera.height
    scale = (width, height) if layout is None else layout.size
    if layout is not None:
        xy = layout.whole_to_right(xy)
    inside = np.asarray(((xy >= -_ROUNDING) & (xy <= 1.0 + _ROUNDING)).all(axis=1))
    if layout is None and not inside.all():
        # One coordinate in another scale makes the others doubtful too.
        outcome, inside[:] = Outcome.UNPARSABLE, False
    if outcome is Outcome.VISIBLE and not inside.any():
        outcome = Outcome.UNPARSABLE
    if outcome is not generation.outcome:
        reason = f"points lie outside the queried view: {xy.round(3).tolist()[:3]}"
    chosen = np.flatnonzero(inside)[: max(1, request.max_points)]
    # The outer half of an edge pixel belongs to the image: x = 1 is its last pixel.
    pixels = np.clip(normalised_to_pixel(xy[chosen], width, height), 0, (width - 1, height - 1))
    covariance, scores = generation.point_covariance, generation.scores
    return Prediction(
        text=generation.text,
        outcome=outcome,
        points=pixels,
        reason=reason,
        labels=tuple(generation.labels[i] for i in chosen) if generation.labels else (),
        point_covariance=None if covariance is None else covariance[chosen] * np.outer(scale, scale),
        scores=None if scores is None else np.asarray(scores)[chosen],
        p_visible=generation.p_visible,
        p_visible_calibrated=generation.p_visible_calibrated,
        timings=dict(generation.timings),
    )
