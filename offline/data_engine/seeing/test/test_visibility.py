from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import look_at
from roboref_core.scene import Instances
from roboref_core.views.visibility import Visibility

from offline.data_engine.seeing.frustum import candidates
from offline.data_engine.seeing.surface import Surface
from offline.data_engine.seeing.visibility import STATES, FrameVisibility, VisibilityConfig
from offline.data_engine.test.synthetic import ROOM, SyntheticScene, box, merge

pytest.importorskip("open3d")
OBJECTS = [i for _, _, i, _ in ROOM if i > 3]
CAMERA = Camera(320, 240, 288.0, 288.0, 159.5, 119.5)


def frame_of(scene: SyntheticScene, i: int, surface: Surface, **config) -> FrameVisibility:
    return FrameVisibility(
        surface, scene.color_camera, scene.poses[i], scene.depth(i), scene.depth_camera, VisibilityConfig(**config)
    )


def test_masks_are_those_of_ray_casting():
    scene = SyntheticScene()
    surface = Surface.build(scene.mesh(), scene.instances())
    for i in range(0, len(scene), 5):
        _, ids, _ = scene.cast(i, scene.color_camera)
        frame = frame_of(scene, i, surface)
        for object_id in OBJECTS:
            view, mask, confirmed = frame.observe(object_id)
            truth = ids == object_id
            if view.state == Visibility.VISIBLE:
                assert (mask & truth).sum() >= 0.97 * max(truth.sum(), mask.sum())
                assert (confirmed & ~truth).sum() <= 0.02 * confirmed.sum()
            assert (view.state == Visibility.VISIBLE) or truth.sum() < 200


@pytest.mark.parametrize(("noise", "holes"), [(0.0, 0.0), (0.006, 0.15)])
def test_verdicts_are_true(noise, holes):
    scene = SyntheticScene(noise=noise, holes=holes)
    surface = Surface.build(scene.mesh(), scene.instances())
    hidden = 0
    for i in range(len(scene)):
        _, ids, _ = scene.cast(i, scene.color_camera)
        frame = frame_of(scene, i, surface)
        for object_id in OBJECTS:
            view, truth = frame.view(object_id), (ids == object_id).sum()
            if view.state == Visibility.VISIBLE:
                assert truth > 0
            if view.certainly_hidden:
                hidden += 1
                assert truth == 0
                assert view.state in (Visibility.OCCLUDED, Visibility.OUT_OF_FRUSTUM)
    assert hidden > 10


def test_fraction_counts_what_the_border_and_other_objects_hide():
    """A square half behind a screen, then half outside the picture: a half is visible both times."""
    mesh, ids = merge([(*box((-0.5, -0.5, 3.0), (0.5, 0.5, 3.001)), 1), (*box((0, -2, 2.0), (2, 2, 2.001)), 2)])
    surface = Surface.build(mesh, Instances(ids, {1: "board", 2: "screen"}))
    depth = np.full((240, 320), 3.0, np.float32)
    depth[:, 160:] = 2.0
    view = FrameVisibility(surface, CAMERA, np.eye(4), depth, CAMERA).view(1)
    assert view.state == Visibility.VISIBLE and view.fraction == pytest.approx(0.5, abs=0.03)
    np.testing.assert_allclose(view.direction, (0, 0, -1), atol=1e-3)
    assert view.distance == pytest.approx(3.0, abs=1e-2)

    shifted = np.eye(4)
    edge = 3.0 * 159.5 / 288
    shifted[0, 3] = edge  # the picture's left border runs through the middle of the board
    view = FrameVisibility(surface, CAMERA, shifted, np.full((240, 320), 3.0, np.float32), CAMERA).view(1)
    assert view.counts[STATES.index(Visibility.OUT_OF_FRUSTUM)] > 0 and view.border_distance == 0


def test_the_sensor_has_its_say():
    mesh, ids = merge([(*box((-0.5, -0.5, 3.0), (0.5, 0.5, 3.1)), 1), (*box((-3, -3, 4.0), (3, 3, 4.1)), 2)])
    surface = Surface.build(mesh, Instances(ids, {1: "board", 2: "wall"}))

    def state(sensor):
        return FrameVisibility(surface, CAMERA, np.eye(4), np.full((240, 320), sensor, np.float32), CAMERA).view(1)

    assert state(3.0).state == Visibility.VISIBLE
    assert state(0.0).state == Visibility.UNKNOWN
    assert state(np.nan).state == Visibility.UNKNOWN
    assert state(1.5).state == Visibility.OCCLUDED
    assert state(4.0).state == Visibility.CONFLICT
    # Only the sensor says so: hidden, but not proof enough for an emitted NOT_VISIBLE.
    assert not state(1.5).certainly_hidden


def test_hidden_needs_a_margin():
    """The rim of a board is hidden by less than the margin: not certain; by more: certain."""
    for overlap, certain in ((0.005, False), (0.2, True)):
        half = 0.2 + overlap
        screen = box((-half, -half, 2.0), (half, half, 2.1))
        mesh, ids = merge([(*box((-0.4, -0.4, 4.0), (0.4, 0.4, 4.1)), 1), (*screen, 2)])
        surface = Surface.build(mesh, Instances(ids, {1: "board", 2: "screen"}))
        depth = np.zeros((240, 320), np.float32)
        view = FrameVisibility(surface, CAMERA, np.eye(4), depth, CAMERA).view(1)
        assert view.certainly_hidden == certain


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_frustum_cull_never_drops_what_is_in_the_picture(seed):
    rng = np.random.default_rng(seed)
    poses = np.stack([look_at(rng.uniform(-2, 2, 3), rng.uniform(-2, 2, 3)) for _ in range(6)])
    poses[2] = np.nan
    lower = rng.uniform(-4, 4, (40, 3))
    upper = lower + rng.uniform(0, 1, (40, 3))
    seen = candidates(poses, CAMERA, lower, upper, far=3.0)
    assert not seen[2].any()
    for n in (0, 1, 3, 4, 5):
        for o in range(40):
            points = rng.uniform(lower[o], upper[o], (200, 3)) - poses[n, :3, 3]
            points = points @ poses[n, :3, :3]
            if (CAMERA.contains(CAMERA.project(points)) & (points[:, 2] <= 3.0)).any():
                assert seen[n, o]
    assert 0 < seen.mean() < 0.9
