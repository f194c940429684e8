from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from roboref_core.geometry.camera import Camera
from roboref_core.views.visibility import Visibility

from offline.eval.replay.truth.questions import QuestionConfig, make_questions
from sim.rooms.changes import make_change
from sim.rooms.path import make_path
from sim.rooms.renderer import Renderer
from sim.rooms.rooms import make_scene
from sim.rooms.sim_source import SimSource

FRAMES = 60
HALF = Camera(320, 240, 288.9353, 288.9353, 159.5, 119.5)
CONFIG = QuestionConfig(count=36, references=4, queries=8, min_area=80)


@pytest.fixture(scope="module")
def renderer():
    return Renderer(make_scene(3, objects=22, triangles=40_000))


@pytest.fixture(scope="module")
def path(renderer):
    return make_path(renderer, FRAMES, seed=3, rate_hz=5.0)


@pytest.fixture(scope="module")
def changed(renderer, path) -> SimSource:
    change = make_change(renderer, path, HALF, moved=3, removed=2)
    return SimSource(renderer, path, color_camera=HALF, change=change)


@pytest.fixture(scope="module")
def questions(changed):
    return make_questions(changed, CONFIG)


def test_each_fate_has_its_share_and_lies_on_both_sides_of_the_change(changed, questions):
    assert Counter(q.fate for q in questions) == {"unchanged": 12, "moved": 12, "removed": 12}
    assert all(q.reference < changed.change_at <= q.query for q in questions)
    assert [q.query for q in questions] == sorted(q.query for q in questions)
    assert len({q.question_id for q in questions}) == len(questions)


def test_truth_is_of_the_changed_scene(changed, questions):
    """Rendered ids are an oracle that knows nothing of motions."""
    for q in questions:
        ids = changed.ids(q.query)
        if q.fate == "removed":
            assert q.object_id not in ids
            assert q.truth.visibility in (Visibility.CONFLICT, Visibility.OCCLUDED, Visibility.OUT_OF_FRUSTUM)
        elif q.truth.visibility == Visibility.VISIBLE and q.truth.decidable:
            u, v = (int(np.floor(c + 0.5)) for c in q.truth.pixel)
            assert ids[v, u] == q.object_id
        elif q.truth.decidable:
            assert q.object_id not in ids


def test_marks_lie_on_their_objects(changed, questions):
    for q in questions:
        u, v = map(int, q.mark)
        assert changed.ids(q.reference)[v, u] == q.object_id
        assert changed.scene.labels[q.object_id] == q.label


def test_only_the_given_frames_are_used(changed):
    positions = range(0, FRAMES, 3)
    questions = make_questions(changed, CONFIG, positions=positions)
    assert questions
    assert {p for q in questions for p in (q.reference, q.query)} <= set(positions)
    with pytest.raises(ValueError, match=r"scene0003_00.*0 of them before position"):
        make_questions(changed, CONFIG, positions=range(changed.change_at, FRAMES))


def test_choice_depends_on_the_seed_only(changed, questions):
    assert make_questions(changed, CONFIG) == questions
    assert make_questions(changed, replace(CONFIG, seed=1)) != questions


def test_without_a_change_nothing_has_a_fate(renderer, path):
    questions = make_questions(SimSource(renderer, path, color_camera=HALF), CONFIG)
    assert {q.fate for q in questions} == {"unchanged"}
    share = Counter(q.truth.visibility for q in questions)
    assert share[Visibility.VISIBLE] >= 0.5 * len(questions)
    assert share[Visibility.CONFLICT] == 0
