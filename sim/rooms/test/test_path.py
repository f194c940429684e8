from __future__ import annotations

import numpy as np
import pytest
from roboref_core.geometry.pose import inverse, transform

from sim.rooms.path import make_path
from sim.rooms.renderer import Renderer
from sim.rooms.test.rooms_for_tests import SMALL, boxes_scene, renderer, room

SEEDS = (0, 3, 6, 8)


@pytest.mark.parametrize("seed", SEEDS)
def test_walk_is_human_smooth_upright_and_clear_of_everything(seed):
    scene = room(seed)
    path = make_path(renderer(seed), 240, seed=seed)
    eyes = path.poses[:, :3, 3]
    speed = np.linalg.norm(np.diff(eyes, axis=0), axis=1) * 30
    assert speed.max() < 1.2 and 0.15 < speed.mean() < 0.9
    turn = [
        np.degrees(np.arccos(np.clip((np.trace(a[:3, :3].T @ b[:3, :3]) - 1) / 2, -1, 1))) * 30
        for a, b in zip(path.poses[:-1], path.poses[1:], strict=True)
    ]
    assert max(turn) < 130
    assert np.allclose(path.poses[:, :3, :3] @ path.poses[:, :3, :3].transpose(0, 2, 1), np.eye(3), atol=1e-9)
    assert (path.poses[:, 2, 1] < -0.3).all()  # the picture's down is the world's down
    inside = transform(inverse(scene.T_world_room), eyes)
    assert (inside > 0.03).all() and (inside[:, :2] < scene.room[1, :2] - 0.03).all()
    assert ((inside[:, 2] >= 1.3) & (inside[:, 2] <= 1.7)).all()
    for o in scene.furniture:
        local = transform(inverse(o.T_world_object), eyes)
        for part in o.parts:
            low, high = part.bounds
            assert not ((local > low) & (local < high)).all(axis=1).any(), o.kind


def test_most_objects_are_seen_several_times():
    shares = []
    for seed in SEEDS:
        path = make_path(renderer(seed), 300, seed=seed)
        seen = dict.fromkeys((o.object_id for o in room(seed).furniture), 0)
        for T in path.poses[::6]:
            ids, counts = np.unique(renderer(seed).render(SMALL, T, color=False).ids, return_counts=True)
            for object_id in ids[counts >= 10]:
                if object_id in seen:
                    seen[object_id] += 1
        shares.append(np.mean(np.array(list(seen.values())) >= 3))
    assert np.mean(shares) > 0.9, shares


def test_stamps_and_seeds():
    a, b, c = (make_path(renderer(0), 12, seed=s) for s in (5, 5, 6))
    assert (a.poses == b.poses).all() and (a.poses != c.poses).any()
    assert len(make_path(renderer(0), 1)) == 1
    assert (np.diff(a.stamps_ns) // 1000 == pytest.approx(33333, abs=1)) and (a.stamps_ns % 1000 == 0).all()
    assert a.stamps_ns[0] > 0


def test_impossible_paths_are_refused():
    with pytest.raises(ValueError, match="at least one frame"):
        make_path(renderer(0), 0)
    full = boxes_scene(((6.0, 6.0, 1.0), (3.0, 3.0, 0.5)), edge=1.0)
    with pytest.raises(ValueError, match="boxes: no free floor"):
        make_path(Renderer(full), 10)
