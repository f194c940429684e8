"""Furnishing a room: which pieces, where, without any two sharing space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from roboref_core.geometry.pose import pose

from sim.rooms import furniture, items
from sim.rooms.collision import any_overlap, outside, upright_boxes
from sim.rooms.design import Design, Kit, Place, about, seeded
from sim.rooms.materials import Material
from sim.rooms.structure import Wall, make_structure, make_walls

_TRIES = 60


@dataclass(frozen=True)
class Theme:
    """A kind of room: what stands along its walls, in its middle, beside its pieces."""

    scene_type: str
    along_walls: tuple[str, ...]
    middle: tuple[str, ...]


THEMES = (
    Theme(
        "Living room / Lounge",
        ("couch", "tv_stand", "bookshelf", "armchair", "floor_lamp", "floor_plant", "cabinet"),
        ("coffee_table", "ottoman"),
    ),
    Theme(
        "Bedroom / Hotel",
        ("bed", "nightstand", "wardrobe", "dresser", "armchair", "floor_lamp", "desk"),
        ("ottoman",),
    ),
    Theme(
        "Office",
        ("desk", "desk", "bookshelf", "file_cabinet", "floor_plant", "cabinet", "couch"),
        ("round_table",),
    ),
    Theme(
        "Dining Room",
        ("refrigerator", "cabinet", "cabinet", "bench", "floor_plant", "bookshelf"),
        ("table", "stool"),
    ),
    Theme("Apartment", ("bed", "couch", "desk", "bookshelf", "refrigerator", "tv_stand"), ("table",)),
)


@dataclass(frozen=True)
class Placed:
    """A design standing in the room; ``support`` indexes the piece it stands on, None for floor and walls."""

    design: Design
    T_room_object: np.ndarray
    support: int | None

    @property
    def boxes(self) -> np.ndarray:
        return upright_boxes((p.bounds for p in self.design.parts), self.T_room_object)


@dataclass(frozen=True)
class Room:
    """A furnished room in its own frame: corner at the origin, x and y along walls, z up [m].

    Attributes:
        scene_type: ScanNet's sceneType.
        size: (x, y, z) [m].
        structure: (design, T_room_object) of floor, walls, doors; designs without a label are trim.
        placed: furniture and things, each after what it stands on.
        light: (3,) position of the lamp.
    """

    scene_type: str
    size: np.ndarray
    structure: list[tuple[Design, np.ndarray]]
    placed: list[Placed]
    light: np.ndarray


def furnish(seed: int, objects: int | None = None) -> Room:
    """The room of a seed.

    Args:
        seed: any integer.
        objects: how many labelled objects besides the room itself; None draws 8 to 25. A crowded small room may
            end up with fewer.
    """
    rng = seeded("room", seed)
    theme = THEMES[int(rng.integers(len(THEMES)))]
    size = rng.uniform((3.7, 3.6, 2.5), (5.6, 5.2, 2.8))
    if objects is None:
        objects = int(rng.integers(8, 26))
    walls = make_walls(rng, size)
    layout = _Layout(rng, size, walls)
    layout.add_anchors(theme, objects)
    layout.hang(objects)
    layout.add_things(objects)
    light = np.array((*rng.uniform(0.35, 0.65, 2) * size[:2], size[2] - 0.15))
    return Room(theme.scene_type, size, make_structure(rng, size, walls), layout.placed, light)


class _Layout:
    """Places designs one after another, rejecting positions that touch what is there already."""

    def __init__(self, rng: np.random.Generator, size: np.ndarray, walls: list[Wall]):
        self.kit = Kit(rng)
        self.rng = rng
        self.size = size
        self.walls = walls
        self.placed: list[Placed] = []
        self.boxes = np.empty((0, 8))
        self.reserved = self._reserved()

    def _reserved(self) -> np.ndarray:
        """Boxes that stay free: the way through the door, and what would stand in front of a window."""
        rows = []
        for wall in self.walls:
            for o in wall.openings:
                x0, y0, x1, y1 = o.rect
                low, depth = (0.0, 1.0) if o.kind == "door" else (y0 - 0.05, 0.35)
                centre = wall.at((x0 + x1) / 2, depth / 2)
                c, s = np.cos(wall.facing()), np.sin(wall.facing())
                rows.append((centre[0], centre[1], depth / 2, (x1 - x0) / 2 + 0.08, c, s, low, y1 + 0.1))
        return np.array(rows)

    def try_place(self, design: Design, T: np.ndarray, support: int | None = None, gap: float = 0.01) -> bool:
        """Place if nothing is in the way; a gap [m] is kept to everything but the support."""
        boxes = upright_boxes((p.bounds for p in design.parts), T)
        if outside(boxes, self.size) or any_overlap(boxes, self.reserved) or any_overlap(boxes, self.boxes, gap):
            return False
        self.placed.append(Placed(design, T, support))
        self.boxes = np.concatenate([self.boxes, boxes])
        return True

    def full(self, objects: int) -> bool:
        return len(self.placed) >= objects

    # Large pieces ---------------------------------------------------------------------------------------------

    def add_anchors(self, theme: Theme, objects: int) -> None:
        """The pieces of a theme, as many as half of ``objects`` allow, with what belongs to them."""
        pieces = list(theme.along_walls[:1]) + list(theme.middle[:1])
        rest = [*theme.along_walls[1:], *theme.middle[1:]]
        pieces += [rest[i] for i in self.rng.permutation(len(rest))]
        for name in pieces:
            if len(self.placed) >= max(4, objects * 0.5):
                break
            design = furniture.FURNITURE[name](self.rng)
            placed = self._in_middle(design) if name in theme.middle else self._along_wall(design)
            if placed:
                self._companions(len(self.placed) - 1, objects)

    def _along_wall(self, design: Design) -> bool:
        low, high = design.bounds
        for _ in range(_TRIES):
            wall = self.walls[int(self.rng.integers(4))]
            half = (high[1] - low[1]) / 2
            if wall.length < 2 * half + 0.1:
                continue
            along = self.kit.uniform(half + 0.03, wall.length - half - 0.03)
            foot = wall.at(along, 0.03 - low[0] + self.kit.uniform(0, 0.04))
            turn = 0.0 if half > 0.45 else self.kit.uniform(-0.12, 0.12)
            if self.try_place(design, _upright(foot, wall.facing() + turn), gap=0.04):
                return True
        return False

    def _in_middle(self, design: Design) -> bool:
        """Free-standing, with room to walk round, in front of a couch if it is a coffee table."""
        couches = [p for p in self.placed if p.design.kind == "couch"]
        for _ in range(_TRIES):
            if design.kind == "coffee table" and couches:
                T = couches[0].T_room_object @ pose(
                    np.eye(3), (self.kit.uniform(0.95, 1.2), self.kit.uniform(-0.3, 0.3), 0)
                )
            else:
                margin = 1.1
                xy = [self.kit.uniform(margin, s - margin) for s in self.size[:2]]
                yaw = self.kit.choose((0.0, np.pi / 2)) + self.kit.uniform(-0.15, 0.15)
                T = _upright((*xy, 0.0), yaw)
            if self.try_place(design, T, gap=0.3):
                return True
        return False

    def _companions(self, index: int, objects: int) -> None:
        """Chairs at tables, a nightstand at the bed, a screen on the desk, pillows."""
        host = self.placed[index]
        kind, (low, high) = host.design.kind, host.design.bounds
        if kind == "table":
            seat = self.kit.choose((furniture.chair, furniture.chair, furniture.stool))
            self._seats(host, seat, int(self.rng.integers(1, 4)), objects)
        elif kind == "desk":
            design = furniture.office_chair(self.rng) if self.kit.chance(0.7) else furniture.chair(self.rng)
            for _ in range(_TRIES):
                at = (high[0] + self.kit.uniform(0.0, 0.35), self.kit.uniform(-0.25, 0.25), 0)
                if self.try_place(design, host.T_room_object @ pose(about("z", 180 + self.kit.uniform(-35, 35)), at)):
                    break
            self._on(index, items.monitor(self.rng), back=True)
            if self.kit.chance(0.6):
                self._on(index, items.keyboard(self.rng))
        elif kind == "tv stand":
            self._on(index, items.tv(self.rng), back=True)
        elif kind == "bed":
            design = furniture.nightstand(self.rng)
            n_low, n_high = design.bounds
            side = self.kit.choose((-1, 1))
            shift = high[1] + (n_high[1] - n_low[1]) / 2 + self.kit.uniform(0.06, 0.15)
            self.try_place(design, host.T_room_object @ pose(np.eye(3), (low[0] - n_low[0] + 0.02, side * shift, 0)))
            for _ in range(int(self.rng.integers(1, 3))):
                self._on(index, items.pillow(self.rng), place=host.design.places[1], spin=10)
        elif kind in ("couch", "armchair") and self.kit.chance(0.7):
            self._on(index, items.pillow(self.rng), spin=25)

    def _seats(self, host: Placed, design_of, count: int, objects: int) -> None:
        design = design_of(self.rng)
        low, high = host.design.bounds
        reach = design.bounds[1][0]
        for side in self.rng.permutation(4)[:count]:
            if self.full(objects):
                return
            facing = (0, 180, 90, -90)[side]
            axis = 0 if side < 2 else 1
            for _ in range(_TRIES):
                # Pushed under the top by up to the seat's depth; the far side of the seat faces the table.
                out = (high[axis] - low[axis]) / 2 + reach + self.kit.uniform(-0.3, 0.25)
                slide = self.kit.uniform(-0.3, 0.3) * (high[1 - axis] - low[1 - axis])
                R = about("z", facing)
                at = R @ (-out, slide, 0)
                turned = R @ about("z", self.kit.uniform(-15, 15))
                if self.try_place(design, host.T_room_object @ pose(turned, at)):
                    break

    # Things ---------------------------------------------------------------------------------------------------

    def _on(
        self, index: int, design: Design, place: Place | None = None, back: bool = False, spin: float = 180
    ) -> bool:
        """Put a design on a place of a piece, anywhere it fits."""
        host = self.placed[index]
        low, high = design.bounds
        for _ in range(_TRIES // 2):
            spot = place or self.kit.choose(host.design.places)
            if high[2] > spot.headroom - 0.01:
                continue
            yaw = self.kit.uniform(-5, 5) if back else self.kit.uniform(-spin, spin)
            R = about("z", yaw)
            reach = np.abs(R[:2, :2]) @ (np.array(high - low)[:2] / 2)
            slack = np.array(spot.size) / 2 - reach - 0.01
            # What belongs there (a screen on its desk) may stand out by a few centimetres.
            if (slack < (-0.06 if back else 0.0)).any():
                continue
            slack = np.maximum(slack, 0.0)
            offset = self.rng.uniform(-slack, slack)
            if back:
                offset[0] = -slack[0] * self.kit.uniform(0.5, 0.9)
            middle = R @ ((low + high) / 2)
            at = np.array(spot.center) + (offset[0] - middle[0], offset[1] - middle[1], 0.0)
            support = index if spot.center[2] > 0 else None
            if self.try_place(design, host.T_room_object @ pose(R, at), support):
                return True
        return False

    def add_things(self, objects: int) -> None:
        """Small things on, in and under the pieces and on the floor until there are ``objects``."""
        if self.kit.chance(0.6) and not self.full(objects):
            self._rug()
        last = None
        for _ in range(objects * 20):
            if self.full(objects):
                return
            # Now and then another of the same kind: a scene needs duplicates to tell apart.
            again = (last,) if last is not None and self.kit.chance(0.2) else None
            hosts = [i for i, p in enumerate(self.placed) if p.design.places]
            if not hosts or self.kit.chance(0.22):
                on_floor = (*items.FLOOR, furniture.trash_can, furniture.ottoman, furniture.stool)
                make = self.kit.choose(again or on_floor)
                done = self._on_floor(make(self.rng))
            else:
                index = self.kit.choose(hosts)
                make = self.kit.choose(again or _things_for(self.placed[index].design))
                has_front = make in (items.book_row, items.laptop, items.printer, items.microwave)
                done = self._on(index, make(self.rng), spin=20 if has_front else 180)
            if done:
                last = make

    def _on_floor(self, design: Design) -> bool:
        for _ in range(_TRIES // 2):
            xy = self.rng.uniform(0.2, self.size[:2] - 0.2)
            if self.try_place(design, _upright((*xy, 0.0), self.kit.uniform(-np.pi, np.pi)), gap=0.03):
                return True
        return False

    def _rug(self) -> None:
        color, tone = self.kit.colored()
        x, y = self.kit.uniform(0.9, 1.6), self.kit.uniform(1.2, 2.2)
        second = self.kit.colored()[1]
        kit = Kit(self.rng)
        kit.box(
            (x, y, 0.01),
            (0, 0, 0),
            Material(tone, second, self.kit.choose(("stripes", "checker", "noise", "dots")), 0.15),
        )
        kit.box(
            (x - 0.16, y - 0.16, 0.001),
            (0, 0, 0.01),
            Material(second, tone, self.kit.choose(("checker", "noise")), 0.2),
        )
        place = Place((0, 0, 0.011), (x - 0.2, y - 0.2), 0.6)
        design = Design("rug", "rug", color, tuple(kit.parts), (place,))
        for _ in range(_TRIES):
            xy = self.rng.uniform(0.8, self.size[:2] - 0.8)
            if self.try_place(design, _upright((*xy, 0.0), self.kit.choose((0.0, np.pi / 2)))):
                return

    def hang(self, objects: int) -> None:
        """A few things on the walls, above what stands there."""
        for _ in range(int(self.rng.integers(1, 4))):
            if len(self.placed) >= objects * 0.75:
                return
            design = self.kit.choose((items.picture, items.picture, items.clock, items.whiteboard))(self.rng)
            if design.kind != "picture" and any(p.design.kind == design.kind for p in self.placed):
                continue
            half = design.bounds[1][1]
            for _ in range(_TRIES):
                wall = self.walls[int(self.rng.integers(4))]
                if wall.length < 2 * half + 0.6:
                    continue
                up = self.kit.uniform(1.2, 1.65) - design.bounds[1][2] * 0.3
                at = wall.at(self.kit.uniform(half + 0.2, wall.length - half - 0.2), 0.002, up)
                if self.try_place(design, _upright(at, wall.facing()), gap=0.05):
                    break


def _upright(at, yaw: float) -> np.ndarray:
    return pose(about("z", np.degrees(yaw)), at)


def _things_for(design: Design):
    if design.kind == "bookshelf":
        return items.SHELF
    if design.kind in ("couch", "armchair", "bed", "chair", "ottoman", "stool", "bench"):
        return items.SOFT
    if design.kind in ("cabinet", "refrigerator"):
        return (*items.COUNTER, *items.TABLETOP[:6])
    if design.kind == "rug":
        return items.FLOOR
    return items.TABLETOP
