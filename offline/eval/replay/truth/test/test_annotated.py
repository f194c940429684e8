from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from roboref_core.geometry.camera import Camera
from roboref_core.scene import Instances
from roboref_core.views.visibility import Visibility

from offline.data_engine.sources import open_scene
from offline.eval.replay.truth.annotated import AnnotatedScene
from offline.eval.replay.truth.questions import QuestionConfig, make_questions
from offline.eval.replay.truth.truth import GroundTruthScene
from sim.rooms.noise import DepthNoise
from sim.rooms.path import make_path
from sim.rooms.renderer import Renderer
from sim.rooms.rooms import make_scene
from sim.rooms.scannet_writer import write_scene
from sim.rooms.sim_source import SimSource

FRAMES = 32
HALF = Camera(320, 240, 288.9353, 288.9353, 159.5, 119.5)
CONFIG = QuestionConfig(count=40, references=4, queries=8, min_area=80)


@pytest.fixture(scope="module")
def source() -> SimSource:
    renderer = Renderer(make_scene(3, objects=22, triangles=60_000))
    path = make_path(renderer, FRAMES, seed=3, rate_hz=4.0)
    return SimSource(renderer, path, color_camera=HALF, depth_noise=DepthNoise(), seed=3)


@pytest.fixture(scope="module")
def folder(source, tmp_path_factory) -> Path:
    return write_scene(source, tmp_path_factory.mktemp("scans"))


@pytest.fixture(scope="module")
def annotated(folder) -> AnnotatedScene:
    return AnnotatedScene(open_scene(folder))


def test_it_sees_what_the_renderer_saw(source, annotated):
    assert isinstance(annotated, GroundTruthScene)
    named = set(annotated.instances().labels)
    for i in range(0, FRAMES, 8):
        exact, seen = source.ids(i), annotated.ids(i)
        shown = np.isin(exact, list(named))
        assert (seen[shown] == exact[shown]).mean() > 0.97
        assert (seen[~shown] == 0).mean() > 0.99
        known = annotated.true_color_depth(i) > 0
        assert known.mean() > 0.97
        errors = np.abs(annotated.true_color_depth(i) - source.true_color_depth(i))[known]
        assert np.median(errors) < 0.002


def test_its_decided_truths_are_the_exact_ones(source, annotated):
    questions = make_questions(annotated, CONFIG)
    kinds = Counter(q.truth.visibility for q in questions if q.truth.decidable)
    assert kinds[Visibility.VISIBLE] >= 10
    assert kinds[Visibility.OCCLUDED] + kinds[Visibility.OUT_OF_FRUSTUM] >= 5
    for q in questions:
        assert source.scene.labels[q.object_id] == q.label
        if not q.truth.decidable:
            continue
        if q.truth.visibility == Visibility.VISIBLE:
            u, v = (int(np.floor(c + 0.5)) for c in q.truth.pixel)
            assert source.ids(q.query)[v, u] == q.object_id
        elif q.truth.visibility != Visibility.UNKNOWN:
            assert q.object_id not in source.ids(q.query)


def test_what_the_sensor_looks_through_is_not_decided(source, annotated):
    """An object that stands in the mesh but was carried off before the sensor came by."""
    gone = next(q for q in make_questions(annotated, CONFIG) if q.truth.visibility == Visibility.VISIBLE)
    without = SimSource(Renderer(source.scene.without(gone.object_id)), source.path, color_camera=HALF)

    class Stale:
        def __getattr__(self, name):
            return getattr(without, name)

        def __len__(self):
            return len(without)

        def mesh(self):
            return source.mesh()

        def instances(self):
            return source.instances()

    stale = AnnotatedScene(Stale())
    u, v = (int(np.floor(c + 0.5)) for c in gone.truth.pixel)
    assert stale.true_color_depth(gone.query)[v, u] == 0
    assert stale.ids(gone.query)[v, u] == 0
    assert all(
        not q.truth.decidable or q.truth.visibility != Visibility.VISIBLE
        for q in make_questions(stale, CONFIG)
        if q.object_id == gone.object_id
    )


def test_a_scene_without_objects_is_refused(source):
    class Bare(SimSource):
        def instances(self) -> Instances | None:
            return None

    with pytest.raises(ValueError, match="scene0003_00: no instances"):
        AnnotatedScene(Bare(source.renderer, source.path))


def test_questions_do_not_depend_on_the_order_of_looking(folder, annotated):
    again = AnnotatedScene(open_scene(folder))
    again.ids(FRAMES - 1)
    assert make_questions(again, replace(CONFIG, count=12)) == make_questions(annotated, replace(CONFIG, count=12))
