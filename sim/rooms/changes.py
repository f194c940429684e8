"""A room whose things were moved or taken away while the robot walked through it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import inverse, pose, transform

from sim.rooms.collision import any_overlap, outside, upright_boxes
from sim.rooms.design import about, seeded
from sim.rooms.path import CameraPath
from sim.rooms.renderer import Renderer
from sim.rooms.scene import SimObject, SimScene

_TRIES = 200
_WANTED_PLACES = 12
# A place nearer than this to the old one might be taken for the old one [m].
_MIN_SHIFT = 0.6
# The camera keeps clear of what was moved by this much [m].
_CLEARANCE = 0.25
# Rests on the floor: its foot is not higher than this above it, a rug's thickness [m].
_FLOOR_HEIGHT = 0.05
_SAMPLED_FRAMES = 12


@dataclass(frozen=True)
class Change:
    """What is different from a position of a walk on.

    Attributes:
        at: first position that sees the changed scene.
        renderer: renderer of the changed scene.
        motions: id of each object that was moved, those that rest on it included -> 4x4 that carries its points
            from their old place in the world to their new one.
        gone: ids of the objects that were taken away.
    """

    at: int
    renderer: Renderer
    motions: dict[int, np.ndarray] = field(default_factory=dict)
    gone: frozenset[int] = frozenset()


def make_change(
    renderer: Renderer, path: CameraPath, camera: Camera, *, moved: int, removed: int, seed: int = 0
) -> Change:
    """Move and remove things in the middle of a walk; a pure function of its arguments.

    Only what the first half of the walk has seen is taken. What is moved is put down on free floor, turned
    about, together with all that rests on it: at least 0.6 m away, clear of the camera's way, and where the second
    half of the walk looks most often.

    Args:
        renderer: renderer of the scene as it is at first.
        camera: sees the scene along ``path``.
        moved, removed: how many things; what rests on them is not counted.

    Raises ValueError if the scene has not so many things that can be moved and removed.
    """
    scene, at = renderer.scene, len(path) // 2
    rng = seeded("change", scene.scene_id, seed)
    candidates = _seen(renderer, path.poses[:at], camera)
    candidates = [candidates[k] for k in rng.permutation(len(candidates))]
    motions: dict[int, np.ndarray] = {}
    gone: set[int] = set()
    moves = removals = 0
    for object_id in candidates:
        carried = scene.carried_by(object_id)
        if carried & (gone | motions.keys()):
            continue
        if moves < moved:
            T = _new_place(scene, object_id, path.poses[at:], camera, rng)
            if T is None:
                continue
            motion = T @ inverse(scene.object(object_id).T_world_object)
            motions |= dict.fromkeys(carried, motion)
            scene, moves = scene.with_moved(object_id, T), moves + 1
        elif removals < removed:
            gone |= carried
            scene, removals = scene.without(object_id), removals + 1
    if (moves, removals) != (moved, removed):
        raise ValueError(
            f"{scene.scene_id}: of {len(candidates)} things that the first {at} frames see, {moves} can be moved and "
            f"{removals} removed; asked for {moved} and {removed}"
        )
    return Change(at, Renderer(scene), motions, frozenset(gone))


def _seen(renderer: Renderer, poses: np.ndarray, camera: Camera) -> list[int]:
    """Ids of the furniture that shows in some of a walk's frames, ascending."""
    step = max(len(poses) // _SAMPLED_FRAMES, 1)
    seen: set[int] = set()
    for T in poses[::step]:
        ids, pixels = np.unique(renderer.render(camera, T, color=False).ids, return_counts=True)
        seen |= set(ids[pixels > camera.width * camera.height / 1000].tolist())
    return sorted(seen & {o.object_id for o in renderer.scene.furniture})


def _new_place(
    scene: SimScene, object_id: int, poses: np.ndarray, camera: Camera, rng: np.random.Generator
) -> np.ndarray | None:
    """T_world_object of a free place on the floor; None if it hangs on a wall, or nothing is free."""
    thing = scene.object(object_id)
    T_room_world = inverse(scene.T_world_room)
    T_room_thing = T_room_world @ thing.T_world_object
    support = None if thing.rests_on is None else scene.object(thing.rests_on)
    if (support is None or not support.kind) and T_room_thing[2, 3] > _FLOOR_HEIGHT:
        return None
    carried = scene.carried_by(object_id)
    own = [o for o in scene.furniture if o.object_id in carried]
    others = _boxes([o for o in scene.furniture if o.object_id not in carried], T_room_world)
    walk = transform(T_room_world, poses[:, :3, 3])
    extent = scene.room[1] - scene.room[0]
    best, most, found = None, 0, 0
    for _ in range(_TRIES):
        xy = rng.uniform(scene.room[0][:2], scene.room[1][:2])
        T = pose(about("z", rng.uniform(-180, 180)), (*xy, scene.room[0][2]))
        motion = T @ inverse(T_room_thing)
        boxes = _boxes(own, motion @ T_room_world)
        if np.linalg.norm(T[:3, 3] - T_room_thing[:3, 3]) < _MIN_SHIFT or outside(boxes, extent):
            continue
        if any_overlap(boxes, others, gap=0.03) or any_overlap(boxes, _around(walk)):
            continue
        middle = transform(scene.T_world_room, np.array((*boxes[:, :2].mean(axis=0), boxes[:, 6:].mean())))
        views = sum(bool(camera.contains(camera.project(transform(inverse(P), middle)))[0]) for P in poses)
        found += 1
        if views > most:
            best, most = scene.T_world_room @ T, views
        if found == _WANTED_PLACES:
            break
    return best


def _boxes(things: list[SimObject], T_room_world: np.ndarray) -> np.ndarray:
    rows = [upright_boxes((p.bounds for p in o.parts), T_room_world @ o.T_world_object) for o in things]
    return np.concatenate(rows) if rows else np.zeros((0, 8))


def _around(positions: np.ndarray) -> np.ndarray:
    """Boxes of ``_CLEARANCE`` around camera positions, in the form of ``upright_boxes``."""
    x, y, z = positions.T
    r, one = np.full(len(positions), _CLEARANCE), np.ones(len(positions))
    return np.stack([x, y, r, r, one, 0 * one, z - r, z + r], axis=1)
