"""From a seed to a scene: ids, labels, a world frame that is turned against the room, and a mesh density."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from roboref_core.geometry.pose import pose

from sim.rooms.design import about, seeded
from sim.rooms.labels import LABELS
from sim.rooms.layout import furnish
from sim.rooms.scene import SimObject, SimScene, face_count

_MAX_ID = 254


def make_scene(seed: int, *, triangles: int = 200_000, objects: int | None = None) -> SimScene:
    """The scene of a seed: the same on every machine.

    Args:
        seed: any integer >= 0; scene ids are its last four digits.
        triangles: about how many to mesh the scene with. Edges of boxes and curves set a floor of about 15,000.
        objects: labelled objects besides the room itself; None draws 8 to 25.
    """
    room = furnish(seed, objects)
    rng = seeded("world", seed)
    T_world_room = pose(
        about("z", float(rng.uniform(-180, 180))), (*rng.uniform(-4, 4, 2), float(rng.uniform(-0.2, 0.2)))
    )
    made: list[SimObject] = []
    for design, T in room.structure:
        made.append(SimObject(0, "", design.label, design.color, design.parts, T_world_room @ T))
    labelled = [k for k, o in enumerate(made) if o.label]
    first = len(made)
    for placed in room.placed:
        made.append(
            SimObject(
                0,
                placed.design.kind,
                placed.design.label,
                placed.design.color,
                placed.design.parts,
                T_world_room @ placed.T_room_object,
            )
        )
    # Ids in random order, as annotators find things: nothing may be guessed from an id.
    order = rng.permutation([*labelled, *range(first, len(made))])
    ids = np.zeros(len(made), dtype=int)
    ids[order] = np.arange(1, len(order) + 1)
    if len(order) > _MAX_ID:
        raise ValueError(f"seed {seed}: {len(order)} objects, ScanNet's 8-bit instance images hold {_MAX_ID}")
    floor = ids[next(k for k, o in enumerate(made) if o.label == "floor")]
    objects_ = []
    for k, o in enumerate(made):
        if o.label and o.label not in LABELS:
            raise ValueError(f"label {o.label!r} of {o.kind!r} is not in sim/rooms/labels.py")
        support = room.placed[k - first].support if k >= first else None
        rests_on = int(ids[first + support]) if support is not None else (int(floor) if k >= first else None)
        objects_.append(replace(o, object_id=int(ids[k]), rests_on=rests_on))
    return SimScene(
        scene_id=f"scene{seed % 10000:04d}_00",
        scene_type=room.scene_type,
        objects=tuple(objects_),
        room=np.stack([np.zeros(3), room.size]),
        T_world_room=T_world_room,
        light=room.light,
        edge=_edge_for(tuple(objects_), triangles),
    )


def _edge_for(objects: tuple[SimObject, ...], triangles: int) -> float:
    """Edge length [m] that gives about ``triangles``."""
    edge = 0.05
    for _ in range(4):
        count = face_count(objects, edge)
        if abs(count - triangles) < 0.03 * triangles:
            break
        edge = float(np.clip(edge * np.sqrt(count / triangles), 0.005, 1.0))
    return edge
