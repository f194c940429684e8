"""A standing person, for a room that somebody comes into. Generated rooms are empty of people."""

from __future__ import annotations

import numpy as np

from sim.rooms.design import Design, Kit
from sim.rooms.materials import Material


def person(rng: np.random.Generator) -> Design:
    """1.6 to 1.85 m tall, 0.4 m wide; legs, trunk and head."""
    kit = Kit(rng)
    height = kit.uniform(1.6, 1.85)
    color, tone = kit.colored()
    _, trousers = kit.colored(("black", "blue", "gray", "brown"))
    skin = Material((0.78, 0.6, 0.48))
    hip, shoulder = 0.48 * height, 0.83 * height
    for y in (-0.1, 0.1):
        kit.post(0.07, hip, (0, y, 0), Material(trousers), 0.08)
    kit.box((0.22, 0.4, shoulder - hip), (0, 0, hip), kit.fabric(tone), 0.05)
    kit.post(0.05, 0.05 * height, (0, 0, shoulder), skin)
    kit.blob((0.1, 0.08, 0.07 * height), (0, 0, 0.93 * height), skin)
    return Design("person", "person", color, tuple(kit.parts))
