"""A model's answers to samples, fused with the geometry of their scenes."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from roboref_core.geometry.camera import pixel_to_normalised
from roboref_core.geometry.pose import inverse, transform
from roboref_core.models.model_answer import Outcome
from roboref_core.models.vision_language_model import Generation

from offline.eval.asking.fused import FusedPredictor
from offline.eval.asking.predictor import ModelConfig, Question
from offline.eval.asking.predictors import load_predictor
from offline.eval.asking.test.wall_question import question
from offline.eval.records.samples import read_samples


class Told:
    """A predictor that says the same of everything."""

    name, identity, uses_depth, workers, needs_pictures = "told", {"told": 1}, False, 1, True

    def __init__(self, said):
        self.said = said

    def predict(self, questions):
        return [self.said] * len(questions)


MARK = (30.0, 20.0)


def fused(said, wall, folder, **changes):
    root, camera, poses = wall
    (folder / "data.json").write_text(json.dumps([question(root, MARK, "1", camera, **changes)]))
    (sample,) = read_samples(folder / "data.json").samples
    (generation,) = FusedPredictor(Told(said), root.parent).predict([Question(sample, "", None)])
    pixel = camera.project(
        transform(inverse(poses[1]), transform(poses[0], camera.unproject(np.array([MARK]), np.array([2.0]))))
    )
    return generation, pixel_to_normalised(pixel[0], camera.width, camera.height)


def points_at(x, y, p_visible=0.9):
    return Generation("[...]", Outcome.VISIBLE, np.array([[x, y]]), p_visible=p_visible)


def test_geometry_places_what_the_model_finds_or_misses(wall, tmp_path):
    _, exact = fused(points_at(0.5, 0.5), wall, tmp_path)
    for said in (points_at(*(exact + 0.02)), Generation("NOT_VISIBLE", Outcome.NOT_VISIBLE, p_visible=0.2)):
        generation, _ = fused(said, wall, tmp_path)
        assert generation.outcome is Outcome.VISIBLE
        np.testing.assert_allclose(generation.points[0], exact, atol=2e-3)


@pytest.mark.parametrize(
    "changes",
    [{"ref_point": None}, {"visibility": {"visible": False, "query_scene": "s2"}}, {"query_frame": "7"}],
    ids=["no mark", "picture of another scene", "no such frame"],
)
def test_where_geometry_has_no_say_the_model_has_its_word(wall, tmp_path, changes):
    said = points_at(0.25, 0.75)
    assert fused(said, wall, tmp_path, **changes)[0] is said


def test_side_by_side_answers_are_of_the_whole_picture(wall, tmp_path):
    for name, width in (("whole.png", 160), ("b.png", 80)):
        cv2.imwrite(str(tmp_path / name), np.zeros((60, width, 3), np.uint8))
    concat = {"image": ["whole.png"], "query_original": "b.png", "form": "concat"}
    exact = fused(points_at(0.5, 0.5), wall, tmp_path)[1]
    whole = (np.array([exact[0], exact[1]]) * (80, 60) + (80, 0)) / (160, 60)
    generation, _ = fused(points_at(*whole), wall, tmp_path, **concat)
    np.testing.assert_allclose(generation.points[0], whole, atol=2e-3)


def test_it_needs_the_scenes():
    with pytest.raises(ValueError, match="--scenes"):
        load_predictor(ModelConfig("fused", device="cpu"), [])
