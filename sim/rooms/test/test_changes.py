from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from roboref_core.geometry.pose import transform

from sim.rooms.changes import make_change
from sim.rooms.collision import any_overlap, outside, upright_boxes
from sim.rooms.path import make_path
from sim.rooms.sim_source import SimSource
from sim.rooms.test.rooms_for_tests import SMALL, renderer

FRAMES = 40


@lru_cache(maxsize=8)
def changed(seed: int, moved: int = 2, removed: int = 1, change_seed: int = 0) -> SimSource:
    path = make_path(renderer(seed), FRAMES, seed=seed, rate_hz=5.0)
    change = make_change(renderer(seed), path, SMALL, moved=moved, removed=removed, seed=change_seed)
    return SimSource(renderer(seed), path, color_camera=SMALL, change=change)


def room_boxes(source: SimSource, scene, ids) -> np.ndarray:
    T_room_world = np.linalg.inv(source.scene.T_world_room)
    rows = [
        upright_boxes((p.bounds for p in o.parts), T_room_world @ o.T_world_object)
        for o in scene.furniture
        if o.object_id in ids
    ]
    return np.concatenate(rows)


@pytest.mark.parametrize("seed", range(4))
def test_what_was_moved_stands_free_in_the_room(seed):
    source = changed(seed)
    after = source.change.renderer.scene
    moved = set(source.change.motions)
    everything = {o.object_id for o in after.furniture}
    assert everything == {o.object_id for o in source.scene.furniture} - source.change.gone
    own, others = room_boxes(source, after, moved), room_boxes(source, after, everything - moved)
    assert not any_overlap(own, others)
    assert not outside(own, source.scene.room[1])
    for object_id in moved:
        shift = after.object(object_id).T_world_object - source.scene.object(object_id).T_world_object
        assert np.linalg.norm(shift[:3, 3]) > 0.3


@pytest.mark.parametrize("seed", range(4))
def test_motions_carry_the_vertices(seed):
    source = changed(seed)
    before, after = source.scene.geometry, source.change.renderer.scene.geometry
    at = source.change.at
    for object_id in np.unique(before.vertex_object):
        points = before.vertices[before.vertex_object == object_id]
        motion = source.motion(int(object_id), at - 1, at)
        if motion is None:
            assert object_id not in after.vertex_object
        elif object_id > 0:
            carried = after.vertices[after.vertex_object == object_id]
            np.testing.assert_allclose(transform(motion, points.astype(np.float64)), carried, atol=1e-4)
        for earlier, later in ((0, at - 1), (at, FRAMES - 1)):
            np.testing.assert_array_equal(source.motion(int(object_id), earlier, later), np.eye(4))


def test_frames_show_the_scene_of_their_time():
    source = changed(3)
    at = source.change.at
    plain = SimSource(source.renderer, source.path, color_camera=SMALL)
    gone = list(source.change.gone)
    for i in (0, at - 1):
        np.testing.assert_array_equal(source.color(i), plain.color(i))
    assert any(np.isin(gone, plain.ids(i)).any() for i in range(at))
    assert not any(np.isin(gone, source.ids(i)).any() for i in range(at, FRAMES))


def test_a_change_depends_on_its_seed_only():
    first, again, other = (changed(5, change_seed=s).change for s in (1, 1, 2))
    assert (first.gone, first.motions.keys()) == (again.gone, again.motions.keys())
    for object_id, motion in first.motions.items():
        np.testing.assert_array_equal(motion, again.motions[object_id])
    assert first.motions.keys() != other.motions.keys() or first.gone != other.gone


def test_more_than_the_room_has_is_refused():
    with pytest.raises(ValueError, match=r"scene0003_00.*asked for 99 and 0"):
        changed(3, moved=99, removed=0)
