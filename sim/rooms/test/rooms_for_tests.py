"""Small scenes that several test modules share; built once."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import pose

from sim.rooms.layout import Room, furnish
from sim.rooms.materials import Material
from sim.rooms.path import make_path
from sim.rooms.renderer import Renderer
from sim.rooms.rooms import make_scene
from sim.rooms.scene import SimObject, SimScene
from sim.rooms.shapes import Box, Panel, Part
from sim.rooms.sim_source import SimSource

SMALL = Camera(160, 120, 144.0, 144.0, 79.5, 59.5)


@lru_cache(maxsize=64)
def furnished(seed: int) -> Room:
    return furnish(seed)


@lru_cache(maxsize=8)
def room(seed: int) -> SimScene:
    return make_scene(seed, triangles=20_000)


@lru_cache(maxsize=8)
def renderer(seed: int) -> Renderer:
    return Renderer(room(seed))


def source(seed: int, frames: int, **options) -> SimSource:
    return SimSource(renderer(seed), make_path(renderer(seed), frames, seed=seed), **options)


def boxes_scene(*boxes, edge: float = 0.2) -> SimScene:
    """A floor (id 100) and boxes ((x, y, z) size, (x, y, z) centre) with ids 1, 2, ... in a 6 x 6 x 3 m room."""
    grey = Material((0.6, 0.6, 0.6))
    floor = Part(Panel((6.0, 6.0)), grey, pose(np.eye(3), (3, 3, 0)))
    objects = [SimObject(100, "", "floor", "white", (floor,), np.eye(4))]
    for k, (size, centre) in enumerate(boxes):
        part = Part(Box(size), Material((0.8, 0.2, 0.1)), np.eye(4))
        objects.append(SimObject(k + 1, "box", "box", "red", (part,), pose(np.eye(3), centre), 100))
    size = np.array([(0, 0, 0), (6, 6, 3)], dtype=np.float64)
    return SimScene("boxes", "Misc.", tuple(objects), size, np.eye(4), np.array((3.0, 3.0, 2.8)), edge)
