"""Changes on command: things are moved, taken away, brought in; light, exposure and noise."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
from roboref_core.geometry.pose import inverse, pose

from sim.rooms import items
from sim.rooms.collision import any_overlap, outside, upright_boxes
from sim.rooms.design import about, seeded
from sim.rooms.furniture import FURNITURE
from sim.rooms.person import person
from sim.rooms.scene import SimObject, SimScene

_ITEMS = {make.__name__: make for make in (*items.TABLETOP, *items.SHELF, *items.FLOOR, *items.SOFT, *items.COUNTER)}
KINDS = {**_ITEMS, **FURNITURE, person.__name__: person}
# Kind of change -> fields that it must have, and those that it may have besides.
_FIELDS: dict[str, tuple[set[str], set[str]]] = {
    "move": ({"x", "y"}, {"yaw"}),
    "remove": (set(), set()),
    "bring": ({"x", "y"}, {"yaw", "seed"}),
    "walk": (set(), set()),
    "light": (set(), {"x", "y"}),
    "exposure": (set(), set()),
    "depth_noise": (set(), set()),
    "odometry_noise": (set(), set()),
}
# Largest value of those that are a factor [1].
_FACTORS = {"light": 3.0, "exposure": 10.0, "depth_noise": 10.0, "odometry_noise": 100.0}
_MAX_TEXT = 10_000


def parse_change(text: str) -> dict[str, Any]:
    """A change as JSON: one of

        {"move": 7, "x": 1.5, "y": 2.0, "yaw": 0.3}     an object (by id) and what rests on it, to a free place
        {"remove": 7}                                   an object and what rests on it
        {"bring": "chair", "x": 1.5, "y": 2.0}          a new object of a kind; "seed" picks its looks. A "person"
                                                        stands, and walks by being moved step by step
        {"walk": 3}                                     a person walks through and leaves; the number picks who, and
                                                        their path
        {"light": 0.2}                                  how bright the lamp is, 1 at first; "x" and "y" move it
        {"exposure": 0.5}                               how bright the pictures are, 1 at first
        {"depth_noise": 3}                              depth noise as a multiple of a Kinect's, 0 = exact
        {"odometry_noise": 5}                           errors of odometry as a multiple of the first ones, 0 = exact

    Places are in the room's frame, on its floor [m], yaw in [rad].

    Raises ValueError saying what was expected.
    """
    try:
        change = json.loads(text) if len(text) <= _MAX_TEXT else None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"a change must be JSON: {error}") from error
    kinds = [kind for kind in _FIELDS if isinstance(change, dict) and kind in change]
    if not isinstance(change, dict) or len(kinds) != 1:
        raise ValueError(f"a change must be an object with one of {', '.join(_FIELDS)}, found {text[:200]}")
    kind = kinds[0]
    required, optional = _FIELDS[kind]
    unknown = change.keys() - required - optional - {kind}
    missing = required - change.keys()
    if unknown or missing:
        raise ValueError(
            f"{kind}: fields {sorted(unknown)} are unknown and {sorted(missing)} are missing in {text[:200]}"
        )
    numbers = {name: value for name, value in change.items() if name != "bring"}
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            raise ValueError(f"{kind}: {name} must be a number, found {value!r}")
    if kind == "bring" and change["bring"] not in KINDS:
        raise ValueError(f"bring: no kind {change['bring']!r}; there are {', '.join(sorted(KINDS))}")
    if kind == "exposure" and not change["exposure"] > 0:
        raise ValueError(f"exposure must be above 0, found {change['exposure']}")
    if kind in _FACTORS and not 0 <= change[kind] <= _FACTORS[kind]:
        raise ValueError(f"{kind} must be at least 0 and at most {_FACTORS[kind]:g}, found {change[kind]}")
    return change


def changed_scene(scene: SimScene, change: dict[str, Any]) -> SimScene:
    """The scene after a change of ``parse_change``; the same scene for one that is not of the room.

    Raises ValueError: no such object, the room itself, or the place is taken or outside.
    """
    if "light" in change:
        return _lit(scene, change)
    if not change.keys() & {"move", "remove", "bring"}:
        return scene
    if "bring" in change:
        return _with_brought(scene, change)
    object_id = int(change.get("move", change.get("remove", 0)))
    if not scene.object(object_id).kind:
        raise ValueError(
            f"{scene.scene_id}: object {object_id} is the {scene.object(object_id).label}, part of the room"
        )
    if "remove" in change:
        return scene.without(object_id)
    moved = scene.with_moved(object_id, _on_floor(scene, change))
    carried = scene.carried_by(object_id)
    _check_free(moved, carried)
    floor = _floor(scene)
    objects = tuple(replace(o, rests_on=floor) if o.object_id == object_id else o for o in moved.objects)
    return replace(moved, objects=objects)


def _lit(scene: SimScene, change: dict[str, Any]) -> SimScene:
    x, y, z = scene.light
    light = np.array((change.get("x", x), change.get("y", y), z))
    if not ((light > scene.room[0]) & (light < scene.room[1])).all():
        raise ValueError(f"{scene.scene_id}: the lamp is not inside the room of {scene.room[1].round(2).tolist()} m")
    return replace(scene, light=light, lamp=float(change["light"]))


def _with_brought(scene: SimScene, change: dict[str, Any]) -> SimScene:
    kind = change["bring"]
    design = KINDS[kind](seeded("brought", kind, int(change.get("seed", 0))))
    new = SimObject(
        free_id(scene), design.kind, design.label, design.color, design.parts, _on_floor(scene, change), _floor(scene)
    )
    brought = replace(scene, objects=(*scene.objects, new))
    _check_free(brought, {new.object_id})
    return brought


def free_id(scene: SimScene) -> int:
    """An instance id that no object has. Raises ValueError if there is none."""
    free = sorted(set(range(1, 255)) - scene.labels.keys())
    if not free:
        raise ValueError(f"{scene.scene_id}: it has 254 objects, no more can be brought")
    return free[0]


def _on_floor(scene: SimScene, change: dict[str, Any]) -> np.ndarray:
    yaw = np.degrees(change.get("yaw", 0.0))
    return scene.T_world_room @ pose(about("z", yaw), (change["x"], change["y"], 0.0))


def _floor(scene: SimScene) -> int | None:
    return next((i for i, label in scene.labels.items() if label == "floor"), None)


def _check_free(scene: SimScene, moved: set[int]) -> None:
    T_room_world = inverse(scene.T_world_room)

    def boxes(things: list[SimObject]) -> np.ndarray:
        rows = [upright_boxes((p.bounds for p in o.parts), T_room_world @ o.T_world_object) for o in things]
        return np.concatenate(rows) if rows else np.zeros((0, 8))

    own = boxes([o for o in scene.objects if o.object_id in moved])
    others = [o for o in scene.objects if o.kind and o.object_id not in moved]
    if outside(own, scene.room[1]):
        raise ValueError(f"{scene.scene_id}: the place is not inside the room of {scene.room[1].round(2).tolist()} m")
    for other in others:
        if any_overlap(own, boxes([other])):
            raise ValueError(f"{scene.scene_id}: the place is taken by {other.label or other.kind} {other.object_id}")
