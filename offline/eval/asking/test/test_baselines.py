"""What the floor is: known figures for the constant answers, chance for the random one, geometry for reprojection."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from roboref_core.geometry.camera import pixel_to_normalised
from roboref_core.geometry.pose import inverse, transform
from roboref_core.models.model_answer import Outcome

from offline.eval.asking.baselines import RandomInSizePrior, Reprojection, answers, floor, object_sizes
from offline.eval.asking.predictor import Question
from offline.eval.asking.test.wall_question import question
from offline.eval.records.answers import Answer
from offline.eval.records.samples import read_samples
from offline.eval.scoring.judge import judge, judge_all
from offline.eval.scoring.score import overall
from offline.eval.test.small_data import FILES, SmallData


@pytest.mark.parametrize("name", FILES)
def test_constant_answers_have_known_figures(tmp_path, name):
    data = read_samples(SmallData(tmp_path).write(name))
    runs = floor(data.samples)
    by_name = {one.name: judged for one, judged in zip(runs, judge_all(data.samples, runs), strict=True)}
    never = overall(by_name["never_visible"])["figures"]
    assert never["hit_at_mask"]["value"] == 0 and never["false_refusals"]["value"] == 1
    assert never["not_visible_recall"]["value"] in (1.0, None)
    centre = by_name["image_centre"]
    np.testing.assert_allclose(centre.point[centre.visible], 0.5, atol=1e-9)
    for one in by_name.values():
        assert not one.problems
    random = by_name["random_prior"]
    assert ((random.point[random.visible] >= 0) & (random.point[random.visible] <= 1)).all()


def test_random_answers_hit_as_often_as_chance(tmp_path):
    """Boxes of one size put anywhere: how often their middle hits is the mask's share of where middles can be."""
    sample = next(s for s in read_samples(SmallData(tmp_path).write("t1_val_multi")).samples if s.truth)
    size = np.array([(0.2, 0.2)])
    many = [type(sample)(**{**vars(sample), "id": str(k)}) for k in range(4000)]
    judged = judge(many, answers(RandomInSizePrior(size), many))
    mask = cv2.imread(str(sample.mask), cv2.IMREAD_GRAYSCALE) > 0
    v, u = np.nonzero(mask)
    x, y = (u + 0.5) / mask.shape[1], (v + 0.5) / mask.shape[0]
    reachable = ((x > 0.1) & (x < 0.9) & (y > 0.1) & (y < 0.9)).sum() / mask.size / 0.8**2
    assert judged.hit.mean() == pytest.approx(reachable, abs=4 * np.sqrt(reachable / 4000))
    again = judge(many[::-1], answers(RandomInSizePrior(size), many[::-1]))
    np.testing.assert_array_equal(judged.point, again.point[::-1])
    assert len(np.unique(judged.point, axis=0)) > 3900


def test_sizes_are_those_of_the_masks(tmp_path):
    samples = read_samples(SmallData(tmp_path).write("t1_val_multi")).samples
    sizes = object_sizes(samples)
    expected = []
    for path in dict.fromkeys(s.mask for s in samples if s.mask):
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        _, _, w, h = cv2.boundingRect(mask)
        expected.append((w / mask.shape[1], h / mask.shape[0]))
    np.testing.assert_allclose(sizes, expected)


def test_reprojection_carries_the_mark(wall, tmp_path):
    root, camera, poses = wall
    marks = [(30.0, 20.0), (50.0, 40.0), (39.5, 29.5), (78.0, 30.0)]
    entries = [question(root, mark, "1", camera) for mark in marks] + [
        question(root, marks[0], "2", camera),
        question(root, marks[0], "1", camera, id="elsewhere", visibility={"visible": False, "query_scene": "s2"}),
        question(root, marks[0], "1", camera, id="no mark", ref_point=None),
        question(root, marks[0], "7", camera, id="no frame"),
        question(root, marks[0], "1", camera, id="no scene", scene_id="scene0009_00"),
    ]
    (tmp_path / "data.json").write_text(json.dumps(entries))
    samples = read_samples(tmp_path / "data.json").samples
    answered = answers(Reprojection(root.parent), samples)
    found = {sample.id: i for i, sample in enumerate(samples)}
    for mark in marks[:3]:
        point = camera.unproject(np.array([mark]), np.array([2.0]))
        pixel = camera.project(transform(inverse(poses[1]), transform(poses[0], point)))
        expected = pixel_to_normalised(pixel[0], 80, 60)
        np.testing.assert_allclose(answered.point[found[f"{mark} 1"]], expected, atol=1e-3)
    assert answered.answer[found[f"{marks[0]} 2"]] == Answer.NOT_VISIBLE, "out of the picture"
    assert answered.answer[found["elsewhere"]] == Answer.NOT_VISIBLE, "another scene"
    missing = {samples[i].id for i in np.flatnonzero(answered.answer == Answer.MISSING)}
    assert missing == {"no mark", "no frame", "no scene"} and answered.notes.counts == {"no prediction": 3}


def test_reprojection_sees_what_stands_in_front(wall, tmp_path):
    root, camera, _ = wall
    mark = (76.0, 30.0)  # at 62 in view 1; in view 0 moved by 14 pixels
    hidden = question(root, mark, "0", camera, ref_frame="1", id="in front")
    shown = question(root, (60.0, 30.0), "1", camera, id="beside")
    (tmp_path / "data.json").write_text(json.dumps([hidden, shown]))
    hidden, shown = read_samples(tmp_path / "data.json").samples
    model = Reprojection(root.parent)
    # What is marked in view 1 is the near thing; view 0 looks through where it stands.
    assert model.predict([Question(hidden, "", None)])[0].outcome is Outcome.NOT_VISIBLE
    assert model.predict([Question(shown, "", None)])[0].outcome is Outcome.VISIBLE
