"""The fused model on samples: a vision-language model's answers, weighed against the geometry of their scenes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from roboref_core.errors import ReferError
from roboref_core.geometry.camera import normalised_to_pixel, pixel_to_normalised
from roboref_core.models.fused import FusedModel
from roboref_core.models.model_answer import Outcome
from roboref_core.models.pointing_model import PointingRequest, Prediction
from roboref_core.models.vision_language_model import Generation
from roboref_core.prompting.prompt import Form
from roboref_core.prompting.side_by_side import SideBySide

from offline.eval.asking.marked_scenes import MarkedScenes
from offline.eval.asking.predictor import Predictor, Question
from offline.eval.records.samples import Sample, side_by_side


class FusedPredictor:
    """Asks another predictor and fuses what it says with geometry, for samples that have a mark and a scene.

    Args:
        predictor: the vision-language model.
        scenes: folder with the posed RGB-D scenes, by scene_id.
    """

    needs_pictures = True

    def __init__(self, predictor: Predictor, scenes: Path):
        self._predictor = predictor
        self._scenes = MarkedScenes(scenes)
        self.name = f"fused({predictor.name})"
        self.identity = {"fused": predictor.identity}
        self.uses_depth, self.workers = predictor.uses_depth, predictor.workers

    def predict(self, questions: Sequence[Question]) -> list[Generation]:
        said = self._predictor.predict(questions)
        return [self._fused(question.sample, one) for question, one in zip(questions, said, strict=True)]

    def _fused(self, sample: Sample, said: Generation) -> Generation:
        try:
            request = self._scenes.request(sample)
        except ReferError:
            return said  # No mark, or none that geometry can carry.
        if request is None:
            return said  # The picture is of another scene, of which geometry knows nothing.
        layout = side_by_side(sample) if sample.form is Form.CONCAT else None
        fused = FusedModel(_Said(_in_view(said, request, layout))).predict(request)
        return _in_picture(fused, request, layout)


class _Said:
    """A PointingModel that has answered already."""

    name = "said"

    def __init__(self, prediction: Prediction):
        self._prediction = prediction

    def predict(self, request: PointingRequest) -> Prediction:
        return self._prediction


def _in_view(said: Generation, request: PointingRequest, layout: SideBySide | None) -> Prediction:
    """Normalised coordinates of the answered picture as pixels of the queried view."""
    width, height = request.view.camera.width, request.view.camera.height
    xy = said.points if layout is None else layout.whole_to_right(said.points)
    inside = ((xy >= 0) & (xy <= 1)).all(axis=1)
    if not inside.any() and said.outcome is Outcome.VISIBLE:
        return Prediction(said.text, Outcome.UNPARSABLE, reason="the points lie outside the queried view")
    scale = _scale(request, layout)
    covariance = None if said.point_covariance is None else said.point_covariance[inside] * np.outer(scale, scale)
    return Prediction(
        said.text,
        said.outcome,
        points=normalised_to_pixel(xy[inside], width, height),
        reason=said.reason,
        point_covariance=covariance,
        scores=None if said.scores is None else np.asarray(said.scores)[inside],
        p_visible=said.p_visible,
        p_visible_calibrated=said.p_visible_calibrated,
        timings=said.timings,
    )


def _in_picture(fused: Prediction, request: PointingRequest, layout: SideBySide | None) -> Generation:
    width, height = request.view.camera.width, request.view.camera.height
    xy = np.clip(pixel_to_normalised(fused.points, width, height), 0.0, 1.0)
    scale = _scale(request, layout)
    return Generation(
        fused.text,
        fused.outcome,
        points=xy if layout is None else layout.right_to_whole(xy),
        reason=fused.reason,
        point_covariance=None if fused.point_covariance is None else fused.point_covariance / np.outer(scale, scale),
        scores=fused.scores,
        p_visible=fused.p_visible,
        p_visible_calibrated=fused.p_visible_calibrated,
        timings=fused.timings,
    )


def _scale(request: PointingRequest, layout: SideBySide | None) -> tuple[float, float]:
    """Pixels of the queried view in one unit of the answered picture."""
    camera = request.view.camera
    if layout is None:
        return camera.width, camera.height
    whole, right = layout.size, layout.right_size
    return camera.width * whole[0] / right[0], camera.height * whole[1] / right[1]
