"""The room itself: floor, walls with their door and windows, ceiling. Everything in the room's frame (corner at 0)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from roboref_core.geometry.pose import pose

from sim.rooms.design import METAL, Design, Kit
from sim.rooms.materials import Material, shade
from sim.rooms.shapes import Panel, Part

_WALL_TONES = (
    (0.87, 0.85, 0.80), (0.80, 0.84, 0.86), (0.86, 0.80, 0.74), (0.76, 0.82, 0.76), (0.84, 0.84, 0.84),
    (0.88, 0.83, 0.66), (0.70, 0.76, 0.84),
)  # fmt: skip
_DOOR_HEIGHT = 2.03


@dataclass(frozen=True)
class Opening:
    """A door or window: kind, and (x0, y0, x1, y1) on its wall, x along the wall and y up [m]."""

    kind: str
    rect: tuple[float, float, float, float]


@dataclass(frozen=True)
class Wall:
    """One wall: seen from inside, x runs to the left along it, y up, z into the room.

    Attributes:
        length: [m].
        T_room_wall: 4x4, origin at the wall's foot where x starts.
        openings: in it.
    """

    length: float
    T_room_wall: np.ndarray
    openings: tuple[Opening, ...]

    def facing(self) -> float:
        """Yaw of the direction into the room [rad]: how furniture that stands against the wall is turned."""
        normal = self.T_room_wall[:3, 2]
        return float(np.arctan2(normal[1], normal[0]))

    def at(self, along: float, out: float, up: float = 0.0) -> np.ndarray:
        """(3,) room position ``along`` the wall, ``out`` into the room and ``up``."""
        return (self.T_room_wall @ (along, up, out, 1.0))[:3]


def make_walls(rng: np.random.Generator, size: np.ndarray) -> list[Wall]:
    """Four walls around a room of ``size`` (x, y, z) with one door and one or two windows."""
    kit = Kit(rng)
    with_door = int(rng.integers(4))
    windows = {(with_door + 2) % 4} | ({(with_door + 1) % 4} if kit.chance(0.5) else set())
    walls = []
    # Feet of the walls in turn, each running so that its z axis (x cross up) points into the room.
    starts = ((0.0, 0.0), (size[0], 0.0), (size[0], size[1]), (0.0, size[1]))
    for k in range(4):
        length = float(size[k % 2])
        along = np.array(((-1, 0, 0), (0, -1, 0), (1, 0, 0), (0, 1, 0))[k], dtype=np.float64)
        start = (*starts[(k + 1) % 4], 0.0)
        R = np.stack([along, (0.0, 0.0, 1.0), np.cross(along, (0.0, 0.0, 1.0))], axis=1)
        openings = []
        if k == with_door:
            left = kit.uniform(0.25, length - 1.15)
            openings.append(Opening("door", (left, 0.0, left + 0.86, _DOOR_HEIGHT)))
        elif k in windows:
            width = kit.uniform(1.0, min(1.9, length - 1.2))
            left, sill = kit.uniform(0.5, length - 0.5 - width), kit.uniform(0.85, 1.0)
            openings.append(
                Opening("window", (left, sill, left + width, min(size[2] - 0.3, sill + kit.uniform(1.0, 1.3))))
            )
        walls.append(Wall(length, pose(R, start), tuple(openings)))
    return walls


def make_structure(rng: np.random.Generator, size: np.ndarray, walls: list[Wall]) -> list[tuple[Design, np.ndarray]]:
    """Floor, walls, doors, windows, perhaps a ceiling and trim -> (design, T_room_object). An empty label is trim."""
    kit = Kit(rng)
    x, y, z = (float(s) for s in size)
    _, wood = kit.wood()
    tone = kit.choose(((0.55, 0.55, 0.57), (0.45, 0.42, 0.40), (0.62, 0.58, 0.5), (0.35, 0.38, 0.45)))
    floor = kit.choose(
        (
            Material(shade(wood.color, 0.95), shade(wood.color, 0.6), "planks", kit.uniform(0.1, 0.16)),
            Material(tone, shade(tone, 1.2), "noise", 0.02),
            Material((0.78, 0.76, 0.72), (0.5, 0.48, 0.46), "tiles", kit.uniform(0.3, 0.45)),
        )
    )
    paint = kit.choose(_WALL_TONES)
    made = [_flat("floor", (x, y), pose(np.eye(3), (x / 2, y / 2, 0)), floor)]
    accent = int(rng.integers(8))
    trim = Kit(rng)
    for k, wall in enumerate(walls):
        surface = Material(paint)
        if k == accent:
            other = kit.choose(_WALL_TONES)
            surface = Material(other, shade(other, 0.9), kit.choose(("plain", "stripes", "noise")), 0.3)
        holes = tuple(
            (o.rect[0] - wall.length / 2, o.rect[1] - z / 2, o.rect[2] - wall.length / 2, o.rect[3] - z / 2)
            for o in wall.openings
        )
        T = wall.T_room_wall @ pose(np.eye(3), (wall.length / 2, z / 2, 0))
        made.append(_flat("wall", (wall.length, z), T, surface, holes))
        for opening in wall.openings:
            made += [(design, wall.T_room_wall) for design in _opening(kit, opening)]
        _baseboard(trim, wall)
    made.append((Design("", "", "white", tuple(trim.parts)), np.eye(4)))
    if kit.chance(0.7):
        flip = np.diag((1.0, -1.0, -1.0))
        made.append(_flat("ceiling", (x, y), pose(flip, (x / 2, y / 2, z)), Material((0.93, 0.93, 0.91))))
    return made


def _flat(label, size, T, material, holes=()) -> tuple[Design, np.ndarray]:
    return Design("", label, "white", (Part(Panel(size, holes), material, np.eye(4)),)), T


def _opening(kit: Kit, opening: Opening) -> list[Design]:
    """Door and doorframe, or window, in the wall's frame (z into the room)."""
    x0, y0, x1, y1 = opening.rect
    middle, width, height = (x0 + x1) / 2, x1 - x0, y1 - y0

    def design(label: str, boxes) -> Design:
        own = Kit(kit.rng)
        for (w, h, d), (x, y, zc), material in boxes:
            own.box((w, h, d), (x, y, zc - d / 2), material)
        return Design("", label, "white", tuple(own.parts))

    white = Material((0.90, 0.90, 0.88))
    frame = [
        ((0.07, height + 0.07, 0.12), (x0 - 0.035, (y0 + y1) / 2 + 0.035, -0.035), white),
        ((0.07, height + 0.07, 0.12), (x1 + 0.035, (y0 + y1) / 2 + 0.035, -0.035), white),
        ((width, 0.07, 0.12), (middle, y1 + 0.035, -0.035), white),
    ]
    if opening.kind == "door":
        _, wood = kit.wood()
        slab = [((width, height, 0.04), (middle, height / 2, -0.05), wood)]
        panel = Material(shade(wood.color, 0.9), shade(wood.second, 0.9), wood.pattern, wood.scale)
        slab += [((width - 0.3, 0.7, 0.012), (middle, at, -0.027), panel) for at in (0.55, 1.45)]
        slab += [
            ((0.12, 0.02, 0.02), (x1 - 0.12, 1.0, 0.012), METAL),
            ((0.02, 0.02, 0.05), (x1 - 0.07, 1.0, -0.012), METAL),
        ]
        return [design("door", slab), design("doorframe", frame)]
    # What is outside: a bright sky over something green, as one patterned pane.
    sky = Material((0.72, 0.84, 0.95), (0.93, 0.96, 0.98), "noise", 0.6, glow=0.9)
    green = Material((0.45, 0.60, 0.38), (0.30, 0.45, 0.28), "noise", 0.15, glow=0.75)
    horizon = height * kit.uniform(0.2, 0.45)
    window = [
        ((width, height - horizon, 0.02), (middle, y0 + horizon + (height - horizon) / 2, -0.08), sky),
        ((width, horizon, 0.02), (middle, y0 + horizon / 2, -0.08), green),
        ((0.045, height, 0.03), (middle, (y0 + y1) / 2, -0.05), white),
        ((width + 0.2, 0.04, 0.26), (middle, y0 - 0.02, 0.0), white),
        *frame,
    ]
    return [design("window", window)]


def _baseboard(kit: Kit, wall: Wall) -> None:
    """A skirting board along the wall, interrupted by its door."""
    edges = [0.0]
    for o in wall.openings:
        if o.kind == "door":
            edges += [o.rect[0] - 0.07, o.rect[2] + 0.07]
    edges.append(wall.length)
    R = wall.T_room_wall[:3, :3]
    for a, b in zip(edges[::2], edges[1::2], strict=True):
        if b - a > 0.05:
            kit.box(
                (b - a, 0.07, 0.012),
                wall.at((a + b) / 2, 0.006, 0.035) - (0, 0, 0.006),
                Material((0.92, 0.92, 0.9)),
                0,
                R,
            )
