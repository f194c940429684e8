"""Furniture that stands on the floor. Each function designs one piece from a random generator; sizes in metres."""

from __future__ import annotations

import numpy as np

from sim.rooms.design import BLACK, DARK_METAL, METAL, Design, Kit, Place, about
from sim.rooms.materials import Material, shade


def _legs(kit: Kit, x: float, y: float, height: float, thick: float, material: Material, round_: bool) -> None:
    for sx in (-1, 1):
        for sy in (-1, 1):
            at = (sx * (x / 2 - thick), sy * (y / 2 - thick), 0)
            if round_:
                kit.post(thick * 0.4, height, at, material, thick * 0.6)
            else:
                kit.box((thick, thick, height), at, material)


def _table(rng: np.random.Generator, kind: str, label: str, x: float, y: float, z: float) -> Design:
    kit = Kit(rng)
    color, top = kit.wood()
    frame = kit.choose((top, DARK_METAL, METAL))
    thick = kit.uniform(0.025, 0.045)
    kit.box((x, y, thick), (0, 0, z - thick), top)
    _legs(kit, x, y, z - thick, kit.uniform(0.045, 0.075), frame, kit.chance(0.4))
    under = Place((0, 0, 0), (x - 0.25, y - 0.25), z - thick)
    places = [Place((0, 0, z), (x, y))] + ([under] if z > 0.55 else [])
    if z < 0.55 and kit.chance(0.5):
        kit.box((x - 0.12, y - 0.12, 0.02), (0, 0, 0.13), top)
        places.append(Place((0, 0, 0.15), (x - 0.2, y - 0.2), z - thick - 0.15))
    return Design(kind, label, color, tuple(kit.parts), tuple(places))


def table(rng: np.random.Generator) -> Design:
    x, y = rng.uniform(0.75, 0.95), rng.uniform(1.2, 1.8)
    return _table(rng, "table", str(rng.choice(["table", "dining table"])), float(x), float(y), rng.uniform(0.71, 0.77))


def coffee_table(rng: np.random.Generator) -> Design:
    x, y = rng.uniform(0.5, 0.7), rng.uniform(0.8, 1.2)
    return _table(rng, "coffee table", "coffee table", float(x), float(y), float(rng.uniform(0.36, 0.45)))


def end_table(rng: np.random.Generator) -> Design:
    side = float(rng.uniform(0.4, 0.52))
    return _table(rng, "end table", "end table", side, side, float(rng.uniform(0.48, 0.54)))


def round_table(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    color, top = kit.wood()
    r, z = kit.uniform(0.45, 0.62), kit.uniform(0.71, 0.76)
    kit.post(r, 0.035, (0, 0, z - 0.035), top)
    stem = kit.choose((top, METAL, DARK_METAL))
    kit.turned([(0, 0), (0.3, 0), (0.28, 0.02), (0.05, 0.06), (0.045, z - 0.035), (0, z - 0.035)], (0, 0, 0), stem)
    return Design("table", "round table", color, tuple(kit.parts), (Place((0, 0, z), (r * 1.35, r * 1.35)),))


def desk(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    color, wood = kit.wood()
    x, y, z = kit.uniform(0.6, 0.75), kit.uniform(1.2, 1.6), kit.uniform(0.71, 0.76)
    kit.box((x, y, 0.03), (0, 0, z - 0.03), wood)
    drawers = kit.uniform(0.36, 0.45)
    side = kit.choose((-1, 1))
    kit.box((x - 0.06, drawers, z - 0.08), (0, side * (y / 2 - drawers / 2 - 0.02), 0.05), wood)
    front = Material(shade(wood.color, 0.85), shade(wood.second, 0.85), "wood", wood.scale)
    height = (z - 0.12) / 3
    for k in range(3):
        at = (x / 2 - 0.03, side * (y / 2 - drawers / 2 - 0.02), 0.07 + k * height)
        kit.box((0.02, drawers - 0.04, height - 0.02), at, front)
        kit.box((0.02, 0.12, 0.015), (x / 2 - 0.01, at[1], at[2] + height * 0.6), METAL)
    kit.box((x - 0.06, 0.03, z - 0.03), (0, -side * (y / 2 - 0.03), 0), wood)
    kit.box((0.02, y - drawers - 0.1, 0.35), (-x / 2 + 0.06, -side * (drawers / 2), z - 0.39), wood)
    free = y - drawers - 0.15
    under = Place((0.05, -side * (y / 2 - free / 2 - 0.07), 0), (x - 0.25, free), z - 0.42)
    return Design("desk", "desk", color, tuple(kit.parts), (Place((0, 0, z), (x, y)), under))


def chair(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    wooden = kit.chance(0.5)
    if wooden:
        color, frame = kit.wood()
        seat = frame
    else:
        color, tone = kit.colored()
        seat, frame = kit.fabric(tone), kit.choose((METAL, DARK_METAL, BLACK))
    w, z, back = kit.uniform(0.41, 0.47), kit.uniform(0.43, 0.47), kit.uniform(0.82, 0.98)
    _legs(kit, w, w, z - 0.04, 0.04, frame, kit.chance(0.4))
    kit.box((w, w, 0.045), (0, 0, z - 0.04), seat, 0.018)
    for side in (-1, 1):
        kit.box((0.03, 0.035, back - z), (-w / 2 + 0.02, side * (w / 2 - 0.03), z), frame)
    if wooden and kit.chance(0.6):
        for k in range(3):
            kit.box((0.018, w - 0.09, 0.055), (-w / 2 + 0.02, 0, z + 0.12 + k * (back - z - 0.17) / 2), seat)
    else:
        kit.box((0.035, w - 0.04, (back - z) * 0.6), (-w / 2 + 0.025, 0, z + (back - z) * 0.4), seat, 0.015)
    return Design("chair", "chair", color, tuple(kit.parts), (Place((0.02, 0, z + 0.005), (w - 0.08, w - 0.06), 0.4),))


def office_chair(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    color, tone = kit.colored(("black", "gray", "blue", "red", "green", "teal"))
    cloth = Material(tone, shade(tone, 0.8), "noise", 0.012)
    z = kit.uniform(0.45, 0.52)
    turn = kit.uniform(0, 72)
    for k in range(5):
        a = np.radians(72 * k + turn)
        foot = (0.29 * np.cos(a), 0.29 * np.sin(a), 0.075)
        kit.bar([(0, 0, 0.1), foot], 0.018, BLACK)
        kit.blob((0.028, 0.028, 0.028), (foot[0], foot[1], 0.03), BLACK)
    kit.post(0.03, z - 0.14, (0, 0, 0.08), METAL)
    kit.box((0.47, 0.48, 0.08), (0, 0, z - 0.06), cloth, 0.038)
    kit.bar([(-0.15, 0, z - 0.04), (-0.27, 0, z + 0.02), (-0.27, 0, z + 0.3)], 0.02, BLACK)
    kit.box((0.06, 0.45, 0.5), (-0.24, 0, z + 0.12), cloth, 0.028)
    if kit.chance(0.7):
        for side in (-1, 1):
            kit.bar(
                [(0.02, side * 0.23, z - 0.03), (0.02, side * 0.28, z + 0.02), (0.02, side * 0.28, z + 0.18)],
                0.014,
                BLACK,
            )
            kit.box((0.26, 0.06, 0.03), (0.02, side * 0.28, z + 0.18), BLACK, 0.012)
    return Design("office chair", "office chair", color, tuple(kit.parts))


def stool(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    color, wood = kit.wood()
    z, r = kit.uniform(0.44, 0.66), kit.uniform(0.15, 0.19)
    kit.post(r, 0.035, (0, 0, z - 0.035), wood)
    legs = kit.choose((wood, METAL))
    for k in range(3):
        a = np.radians(120 * k + 30)
        c, s = np.cos(a), np.sin(a)
        kit.bar([(r * 1.05 * c, r * 1.05 * s, 0), (r * 0.6 * c, r * 0.6 * s, z - 0.03)], 0.015, legs)
    return Design("stool", "stool", color, tuple(kit.parts), (Place((0, 0, z), (r * 1.2, r * 1.2)),))


def _sofa(rng: np.random.Generator, kind: str, label: str, seats: int) -> Design:
    kit = Kit(rng)
    color, tone = kit.colored()
    cloth = kit.fabric(tone)
    cushion = Material(shade(tone, 1.1), shade(cloth.second, 1.1), cloth.pattern, cloth.scale)
    seat_w, depth, arm = kit.uniform(0.56, 0.64), kit.uniform(0.82, 0.92), kit.uniform(0.13, 0.19)
    y, z, back = seats * seat_w + 2 * arm, kit.uniform(0.40, 0.45), kit.uniform(0.76, 0.88)
    kit.box((depth, y, z - 0.2), (0, 0, 0.06), cloth, 0.03)
    _legs(kit, depth - 0.06, y - 0.06, 0.07, 0.05, BLACK, False)
    kit.box((0.2, y - 0.02, back - 0.2), (-depth / 2 + 0.1, 0, 0.18), cloth, 0.06)
    for side in (-1, 1):
        kit.box((depth - 0.02, arm, 0.62 - 0.1), (0, side * (y / 2 - arm / 2), 0.1), cloth, 0.055)
    for k in range(seats):
        at = (0.1, (k - (seats - 1) / 2) * seat_w, z - 0.16)
        kit.box((depth - 0.24, seat_w - 0.015, 0.17), at, cushion, 0.05)
        lean = about("y", -12)
        kit.box((0.14, seat_w - 0.03, 0.36), (-depth / 2 + 0.26, at[1], z), cushion, 0.055, lean)
    place = Place((0.17, 0, z + 0.01), (depth - 0.42, seats * seat_w - 0.06))
    return Design(kind, label, color, tuple(kit.parts), (place,))


def couch(rng: np.random.Generator) -> Design:
    return _sofa(rng, "couch", str(rng.choice(["couch", "sofa"])), int(rng.integers(2, 4)))


def armchair(rng: np.random.Generator) -> Design:
    return _sofa(rng, "armchair", "armchair", 1)


def bed(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    color, tone = kit.colored()
    _, wood = kit.wood()
    x, y = kit.uniform(1.95, 2.08), kit.choose((0.95, 1.4, 1.6))
    kit.box((x, y, 0.18), (0, 0, 0.12), wood)
    _legs(kit, x, y, 0.12, 0.07, wood, False)
    kit.box((0.06, y, kit.uniform(0.75, 1.05)), (-x / 2 - 0.03, 0, 0.05), wood)
    kit.box((x - 0.06, y - 0.06, 0.2), (0.01, 0, 0.3), Material((0.9, 0.9, 0.87)), 0.06)
    cover = x * kit.uniform(0.62, 0.72)
    kit.box((cover, y + 0.03, 0.26), (x / 2 - cover / 2 + 0.02, 0, 0.285), kit.fabric(tone), 0.07)
    place = Place((0.2, 0, 0.545), (x - 0.6, y - 0.2))
    head = Place((-x / 2 + 0.26, 0, 0.5), (0.5, y - 0.1))
    return Design("bed", "bed", color, tuple(kit.parts), (place, head))


def _chest(rng: np.random.Generator, kind: str, label: str, size, rows: int, columns: int) -> Design:
    """A closed piece with rows x columns of drawers or doors."""
    kit = Kit(rng)
    x, y, z = (float(s) for s in size)
    if kind == "file cabinet":
        color, tone = kit.colored(("gray", "black", "beige", "white", "blue"))
        body = Material(tone)
    else:
        color, body = kit.wood()
    kit.box((x - 0.02, y, z - 0.05), (-0.01, 0, 0.05), body)
    kit.box((x - 0.08, y - 0.06, 0.05), (-0.02, 0, 0), BLACK)
    front = Material(shade(body.color, 0.87), shade(body.second, 0.87), body.pattern, body.scale)
    h, w = (z - 0.07) / rows, y / columns
    for r in range(rows):
        for c in range(columns):
            at = (x / 2 - 0.02, (c + 0.5) * w - y / 2, 0.06 + r * h)
            kit.box((0.02, w - 0.02, h - 0.015), at, front)
            if h > 0.5:
                side = 1 if c % 2 == 0 else -1
                kit.box((0.02, 0.015, 0.14), (x / 2, at[1] + side * (w / 2 - 0.05), at[2] + h * 0.45), METAL)
            else:
                kit.box((0.02, 0.11, 0.015), (x / 2, at[1], at[2] + h * 0.6), METAL)
    return Design(kind, label, color, tuple(kit.parts), (Place((0, 0, z), (x - 0.03, y)),))


def cabinet(rng: np.random.Generator) -> Design:
    size = rng.uniform((0.38, 0.8, 0.75), (0.45, 1.3, 1.15))
    return _chest(rng, "cabinet", "cabinet", size, 1, 2 if size[1] < 1.0 else 3)


def wardrobe(rng: np.random.Generator) -> Design:
    return _chest(rng, "wardrobe", "wardrobe", rng.uniform((0.52, 0.9, 1.8), (0.6, 1.3, 2.1)), 1, 2)


def dresser(rng: np.random.Generator) -> Design:
    return _chest(
        rng, "dresser", "dresser", rng.uniform((0.42, 0.9, 0.75), (0.5, 1.3, 0.95)), int(rng.integers(3, 5)), 2
    )


def nightstand(rng: np.random.Generator) -> Design:
    return _chest(rng, "nightstand", "nightstand", rng.uniform((0.36, 0.42, 0.46), (0.42, 0.52, 0.58)), 2, 1)


def file_cabinet(rng: np.random.Generator) -> Design:
    return _chest(rng, "file cabinet", "file cabinet", rng.uniform((0.5, 0.4, 0.65), (0.6, 0.46, 1.2)), 3, 1)


def tv_stand(rng: np.random.Generator) -> Design:
    return _chest(rng, "tv stand", "tv stand", rng.uniform((0.36, 1.2, 0.42), (0.42, 1.6, 0.52)), 1, 3)


def bookshelf(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    color, wood = kit.wood()
    x, y, z = kit.uniform(0.28, 0.34), kit.uniform(0.7, 1.0), kit.uniform(1.1, 1.95)
    boards = round(z / 0.36)
    for side in (-1, 1):
        kit.box((x, 0.025, z), (0, side * (y / 2 - 0.0125), 0), wood)
    kit.box((0.012, y - 0.05, z - 0.02), (-x / 2 + 0.006, 0, 0.01), wood)
    places = []
    for k in range(boards + 1):
        height = 0.04 + k * (z - 0.065) / boards
        kit.box((x - 0.014, y - 0.05, 0.025), (0.007, 0, height), wood)
        room = (z - 0.065) / boards - 0.03 if k < boards else 1.0
        places.append(Place((0.005, 0, height + 0.025), (x - 0.03, y - 0.07), room))
    return Design("bookshelf", str(rng.choice(["bookshelf", "shelf"])), color, tuple(kit.parts), tuple(places))


def refrigerator(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    color, tone = kit.colored(("white", "gray", "black", "red"))
    body = Material(tone)
    x, y, z = kit.uniform(0.6, 0.66), kit.uniform(0.58, 0.7), kit.uniform(1.5, 1.8)
    split = z * kit.uniform(0.3, 0.38)
    kit.box((x - 0.1, y - 0.04, 0.03), (-0.03, 0, 0), BLACK)
    kit.box((x - 0.05, y, z - 0.02), (-0.025, 0, 0.02), body)
    for low, high in ((0.05, split), (split + 0.012, z)):
        kit.box((0.045, y, high - low), (x / 2 - 0.0225, 0, low), body, 0.015)
        grip = 0.3 if high - low > 0.6 else 0.18
        middle = low + 0.12 if low > 0.1 else high - 0.12 - grip
        kit.box((0.03, 0.02, grip), (x / 2 + 0.01, -y / 2 + 0.07, middle), METAL, 0.008)
    return Design(
        "refrigerator", "refrigerator", color, tuple(kit.parts), (Place((-0.02, 0, z), (x - 0.1, y - 0.08), 0.5),)
    )


def floor_lamp(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    color, tone = kit.colored(("white", "beige", "yellow", "orange", "red"))
    z = kit.uniform(1.45, 1.7)
    kit.post(0.14, 0.025, (0, 0, 0), DARK_METAL)
    kit.post(0.013, z - 0.25, (0, 0, 0.02), DARK_METAL)
    kit.post(0.2, 0.28, (0, 0, z - 0.28), Material(tone, glow=0.55), kit.uniform(0.11, 0.17))
    return Design("floor lamp", "lamp", color, tuple(kit.parts))


def floor_plant(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    _, tone = kit.colored(("white", "orange", "black", "blue", "gray"))
    r, h = kit.uniform(0.13, 0.19), kit.uniform(0.24, 0.34)
    kit.turned(
        [(0, 0), (r * 0.75, 0), (r, h), (r - 0.02, h), (r - 0.03, h - 0.03), (0, h - 0.03)], (0, 0, 0), Material(tone)
    )
    green = (kit.uniform(0.12, 0.25), kit.uniform(0.38, 0.55), kit.uniform(0.12, 0.22))
    leaf = Material(green, shade(green, 0.7), "stripes", 0.05)
    kit.bar([(0, 0, h - 0.05), (0.02, 0.01, h + 0.4)], 0.015, Material((0.35, 0.25, 0.15)))
    for k in range(int(rng.integers(9, 15))):
        yaw, tilt, length = kit.uniform(0, 360), kit.uniform(20, 65), kit.uniform(0.22, 0.36)
        R = about("z", yaw) @ about("y", tilt)
        at = np.array((0.0, 0.0, h + 0.05 + 0.025 * k)) + R @ (0, 0, length * 0.8)
        kit.blob((0.012, 0.055, length), at, leaf, R)
    return Design("plant", "plant", "green", tuple(kit.parts))


def trash_can(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    color, tone = kit.colored(("gray", "black", "white", "blue", "green", "red"))
    r, h = kit.uniform(0.12, 0.17), kit.uniform(0.28, 0.5)
    kit.turned(
        [(0, 0), (r * 0.8, 0), (r, h), (r - 0.008, h), (r * 0.8 - 0.008, 0.01), (0, 0.01)], (0, 0, 0), Material(tone)
    )
    return Design("trash can", "trash can", color, tuple(kit.parts))


def bench(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    color, wood = kit.wood()
    x, y, z = kit.uniform(0.34, 0.42), kit.uniform(0.9, 1.3), kit.uniform(0.42, 0.47)
    kit.box((x, y, 0.04), (0, 0, z - 0.04), wood)
    for side in (-1, 1):
        kit.box((x - 0.06, 0.05, z - 0.04), (0, side * (y / 2 - 0.12), 0), wood)
    return Design(
        "bench",
        "bench",
        color,
        tuple(kit.parts),
        (Place((0, 0, z), (x, y)), Place((0, 0, 0), (x - 0.1, y - 0.4), z - 0.05)),
    )


def ottoman(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    color, tone = kit.colored()
    r, z = kit.uniform(0.22, 0.3), kit.uniform(0.36, 0.44)
    cloth = kit.fabric(tone)
    if kit.chance(0.5):
        kit.turned(
            [(0, 0.0), (r * 0.97, 0.0), (r, 0.05), (r, z - 0.05), (r * 0.95, z - 0.01), (0, z)], (0, 0, 0), cloth
        )
    else:
        kit.box((2 * r, 2 * r, z), (0, 0, 0), cloth, 0.05)
    return Design("ottoman", "ottoman", color, tuple(kit.parts), (Place((0, 0, z), (r, r)),))


FURNITURE = {
    f.__name__: f
    for f in (
        table, coffee_table, end_table, round_table, desk, chair, office_chair, stool, couch, armchair, bed, cabinet,
        wardrobe, dresser, nightstand, file_cabinet, tv_stand, bookshelf, refrigerator, floor_lamp, floor_plant,
        trash_can, bench, ottoman,
    )
}  # fmt: skip
