"""Things that stand on furniture, lie on the floor or hang on a wall. Sizes in metres; see furniture.py."""

from __future__ import annotations

import numpy as np

from sim.rooms.design import BLACK, BRIGHT, DARK_METAL, FABRICS, METAL, Design, Kit, about
from sim.rooms.materials import Material, shade
from sim.rooms.shapes import Box, cylinder, vessel


def _screen(rng: np.random.Generator) -> Material:
    """What a switched-on display shows."""
    kit = Kit(rng)
    _, tone = kit.colored(("blue", "teal", "purple", "white", "black"))
    return Material(tone, shade(tone, 0.55), kit.choose(("plain", "checker", "stripes", "noise")), 0.06, glow=0.8)


def monitor(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    y, z = kit.uniform(0.48, 0.62), kit.uniform(0.3, 0.36)
    lift = kit.uniform(0.1, 0.14)
    kit.box((0.17, 0.22, 0.015), (0, 0, 0), BLACK)
    kit.box((0.03, 0.05, lift + 0.1), (-0.03, 0, 0.01), BLACK)
    kit.box((0.03, y, z), (0, 0, lift), BLACK)
    kit.box((0.004, y - 0.03, z - 0.03), (0.0165, 0, lift + 0.015), _screen(rng))
    return Design("monitor", "monitor", "black", tuple(kit.parts))


def tv(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    y, z = kit.uniform(0.85, 1.2), kit.uniform(0.5, 0.68)
    kit.box((0.2, y * 0.45, 0.02), (0, 0, 0), DARK_METAL)
    kit.box((0.04, 0.1, 0.09), (0, 0, 0.015), DARK_METAL)
    kit.box((0.05, y, z), (0, 0, 0.08), BLACK)
    kit.box((0.004, y - 0.04, z - 0.04), (0.026, 0, 0.1), _screen(rng))
    return Design("tv", "tv", "black", tuple(kit.parts))


def laptop(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    color, tone = kit.colored(("gray", "black", "white"))
    shell = Material(tone)
    kit.box((0.23, 0.33, 0.018), (0, 0, 0), shell)
    kit.box((0.11, 0.28, 0.003), (-0.03, 0, 0.018), BLACK)
    lean = about("y", -18)
    kit.box((0.01, 0.33, 0.22), (-0.15, 0, 0.01), shell, 0.0, lean)
    kit.box((0.003, 0.31, 0.2), (-0.1445, 0, 0.0217), _screen(rng), 0.0, lean)
    return Design("laptop", "laptop", color, tuple(kit.parts))


def keyboard(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    color, tone = kit.colored(("black", "white", "gray"))
    kit.box((0.14, 0.43, 0.02), (0, 0, 0), Material(tone))
    kit.box((0.11, 0.4, 0.008), (0, 0, 0.02), Material(shade(tone, 0.8), shade(tone, 1.4), "tiles", 0.019))
    return Design("keyboard", "keyboard", color, tuple(kit.parts))


def cup(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    color, tone = kit.colored(BRIGHT)
    r, h = kit.uniform(0.036, 0.046), kit.uniform(0.085, 0.115)
    glaze = kit.fabric(tone)
    kit.add(vessel(r, h, 0.005, r * kit.uniform(1.0, 1.15)), (0, 0, 0), glaze)
    mug = kit.chance(0.6)
    if mug:
        a = np.linspace(-80, 80, 7) * np.pi / 180
        kit.bar([(0, r * 0.9 + 0.03 * np.cos(t), h / 2 + 0.03 * np.sin(t)) for t in a], 0.006, Material(tone))
    return Design("cup", "mug" if mug else "cup", color, tuple(kit.parts))


def bottle(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    color, tone = kit.colored(("green", "blue", "red", "brown", "teal", "orange", "white", "purple"))
    r, h = kit.uniform(0.034, 0.045), kit.uniform(0.2, 0.3)
    n = r * 0.36
    profile = [(0, 0), (r, 0), (r, h * 0.6), (r * 0.85, h * 0.68), (n, h * 0.8), (n, h * 0.94), (0, h * 0.94)]
    kit.turned(profile, (0, 0, 0), Material(tone))
    kit.post(n * 1.15, h * 0.08, (0, 0, h * 0.92), Material(kit.colored(BRIGHT)[1]))
    kit.post(r * 1.02, h * 0.25, (0, 0, h * 0.2), Material(kit.colored(BRIGHT)[1], shade(tone, 0.5), "checker", 0.03))
    return Design("bottle", "bottle", color, tuple(kit.parts))


def book(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    count = int(rng.choice([1, 1, 2, 3]))
    z, color = 0.0, ""
    for _ in range(count):
        color, tone = kit.colored(FABRICS)
        x, y, h = kit.uniform(0.15, 0.19), kit.uniform(0.21, 0.27), kit.uniform(0.02, 0.045)
        R = about("z", kit.uniform(-12, 12))
        cover = Material(tone, shade(tone, 1.4), kit.choose(("plain", "plain", "dots")), 0.08)
        kit.box((x - 0.01, y - 0.012, h - 0.006), (0, 0, z + 0.003), Material((0.92, 0.9, 0.83)), 0, R)
        kit.box((x, y, 0.004), (0, 0, z), cover, 0, R)
        kit.box((x, y, 0.004), (0, 0, z + h - 0.004), cover, 0, R)
        kit.box((0.004, y, h), R @ (-x / 2 + 0.002, 0, 0) + (0, 0, z), cover, 0, R)
        z += h
    return Design("book", "book" if count == 1 else "books", color, tuple(kit.parts))


def book_row(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    y, width = 0.0, kit.uniform(0.22, 0.42)
    color = "red"
    while y < width:
        color, tone = kit.colored(FABRICS)
        thick, x, z = kit.uniform(0.02, 0.05), kit.uniform(0.15, 0.19), kit.uniform(0.19, 0.26)
        kit.box(
            (x, thick - 0.002, z),
            (x / 2 - 0.09, y + thick / 2 - width / 2, 0),
            Material(tone, shade(tone, 1.5), "plain"),
        )
        kit.box(
            (0.002, thick * 0.7, 0.05), (x - 0.089, y + thick / 2 - width / 2, z * 0.65), Material(shade(tone, 1.7))
        )
        y += thick
    return Design("books", "books", color, tuple(kit.parts))


def box(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    paper = kit.chance(0.55)
    color, tone = ("brown", (0.66, 0.49, 0.31)) if paper else kit.colored(BRIGHT)
    x, y, z = kit.uniform(0.16, 0.4), kit.uniform(0.18, 0.45), kit.uniform(0.12, 0.36)
    kit.box((x, y, z), (0, 0, 0), Material(tone) if paper else kit.fabric(tone))
    if paper:
        kit.box((x + 0.002, 0.05, z + 0.002), (0, 0, 0), Material((0.78, 0.68, 0.5)))
    else:
        kit.box((x + 0.012, y + 0.012, 0.04), (0, 0, z - 0.035), Material(shade(tone, 0.75)))
    return Design("box", "box", color, tuple(kit.parts))


def tissue_box(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    color, tone = kit.colored(BRIGHT)
    kit.box((0.12, 0.23, 0.09), (0, 0, 0), kit.fabric(tone))
    kit.blob((0.035, 0.05, 0.05), (0, 0, 0.1), Material((0.95, 0.95, 0.95)))
    return Design("tissue box", "tissue box", color, tuple(kit.parts))


def bowl(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    color, tone = kit.colored(BRIGHT)
    r, h = kit.uniform(0.09, 0.14), kit.uniform(0.06, 0.09)
    out = [(r * np.sin(a), h * (1 - np.cos(a))) for a in np.linspace(0.35, np.pi / 2, 6)]
    inner = [((r - 0.008) * np.sin(a), 0.008 + (h - 0.008) * (1 - np.cos(a))) for a in np.linspace(np.pi / 2, 0, 7)]
    kit.turned([(0, out[0][1]), *out, *inner], (0, 0, -out[0][1]), kit.fabric(tone))
    if kit.chance(0.5):
        _, fruit = kit.colored(("red", "orange", "yellow", "green"))
        for a in (0.3, 2.4, 4.5):
            kit.blob((0.036, 0.036, 0.034), (r * 0.4 * np.cos(a), r * 0.4 * np.sin(a), 0.05), Material(fruit))
    return Design("bowl", "bowl", color, tuple(kit.parts))


def vase(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    color, tone = kit.colored(BRIGHT)
    r, h = kit.uniform(0.05, 0.08), kit.uniform(0.18, 0.3)
    profile = [(0, 0), (r * 0.6, 0), (r, h * 0.35), (r * 0.8, h * 0.65), (r * 0.42, h * 0.85), (r * 0.6, h), (0, h)]
    kit.turned(profile, (0, 0, 0), kit.fabric(tone))
    if kit.chance(0.6):
        flower = Material(kit.colored(("red", "yellow", "pink", "purple", "orange"))[1])
        for k in range(5):
            tip = (0.07 * np.cos(1.3 * k), 0.07 * np.sin(1.3 * k), h + kit.uniform(0.1, 0.2))
            kit.bar([(0, 0, h - 0.02), tip], 0.004, Material((0.2, 0.45, 0.2)))
            kit.blob((0.028, 0.028, 0.022), tip, flower)
    return Design("vase", "vase", color, tuple(kit.parts))


def potted_plant(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    _, tone = kit.colored(("white", "orange", "blue", "yellow", "gray"))
    r, h = kit.uniform(0.055, 0.08), kit.uniform(0.09, 0.13)
    kit.turned(
        [(0, 0), (r * 0.75, 0), (r, h), (r - 0.01, h), (r - 0.012, h - 0.015), (0, h - 0.015)],
        (0, 0, 0),
        Material(tone),
    )
    green = (kit.uniform(0.12, 0.3), kit.uniform(0.4, 0.6), kit.uniform(0.12, 0.25))
    for k in range(int(rng.integers(8, 13))):
        R = about("z", 137.5 * k) @ about("y", kit.uniform(10, 60))
        length = kit.uniform(0.07, 0.12)
        kit.blob(
            (0.007, 0.024, length),
            np.array((0, 0, h)) + R @ (0, 0, length * 0.85),
            Material(green, shade(green, 0.7), "stripes", 0.03),
            R,
        )
    return Design("potted plant", "potted plant", "green", tuple(kit.parts))


def table_lamp(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    color, tone = kit.colored(("white", "beige", "yellow", "red", "teal", "pink"))
    h = kit.uniform(0.32, 0.46)
    base = Material(kit.colored(BRIGHT)[1])
    profile = [
        (0, 0),
        (0.075, 0),
        (0.075, 0.015),
        (0.03, 0.05),
        (0.055, h * 0.35),
        (0.015, h * 0.55),
        (0.012, h * 0.7),
        (0, h * 0.7),
    ]
    kit.turned(profile, (0, 0, 0), base)
    kit.post(kit.uniform(0.11, 0.14), h * 0.45, (0, 0, h * 0.55), Material(tone, glow=0.55), 0.08)
    return Design("table lamp", "table lamp", color, tuple(kit.parts))


def alarm_clock(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    color, tone = kit.colored(BRIGHT)
    kit.add(vessel(0.055, 0.05, 0.008), (-0.025, 0, 0.065), Material(tone), about("y", 90))
    kit.add(cylinder(0.046, 0.012), (-0.02, 0, 0.065), Material((0.95, 0.95, 0.92)), about("y", 90))
    kit.box((0.002, 0.006, 0.034), (-0.008, 0, 0.065), BLACK)
    for side in (-1, 1):
        kit.bar([(0, side * 0.03, 0.0), (0, side * 0.02, 0.03)], 0.006, METAL)
        kit.blob((0.02, 0.02, 0.015), (0, side * 0.03, 0.122), Material(tone))
    return Design("alarm clock", "alarm clock", color, tuple(kit.parts))


def pillow(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    color, tone = kit.colored((*FABRICS, "white", "white"))
    x, y, z = kit.uniform(0.34, 0.42), kit.uniform(0.42, 0.6), kit.uniform(0.11, 0.14)
    kit.box((x, y, z), (0, 0, 0), kit.fabric(tone), z * 0.49)
    return Design("pillow", "pillow", color, tuple(kit.parts))


def ball(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    color, tone = kit.colored(BRIGHT)
    r = kit.uniform(0.08, 0.14)
    pattern = kit.choose(("plain", "stripes", "checker", "dots"))
    kit.blob((r, r, r), (0, 0, r), Material(tone, kit.colored(BRIGHT)[1], pattern, r * 0.9))
    return Design("ball", "ball", color, tuple(kit.parts))


def backpack(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    color, tone = kit.colored(FABRICS)
    cloth, dark = Material(tone, shade(tone, 0.85), "noise", 0.02), Material(shade(tone, 0.6))
    h = kit.uniform(0.4, 0.48)
    kit.box((0.18, 0.3, h), (0, 0, 0), cloth, 0.07)
    kit.box((0.08, 0.23, h * 0.45), (0.1, 0, 0.03), dark, 0.035)
    for side in (-1, 1):
        y = side * 0.08
        kit.bar([(-0.085, y, h * 0.85), (-0.13, y, h * 0.6), (-0.12, y, h * 0.3), (-0.085, y, 0.08)], 0.014, dark)
    kit.bar(
        [(-0.03, -0.03, h - 0.01), (-0.03, -0.02, h + 0.03), (-0.03, 0.02, h + 0.03), (-0.03, 0.03, h - 0.01)],
        0.008,
        dark,
    )
    return Design("backpack", "backpack", color, tuple(kit.parts))


def suitcase(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    color, tone = kit.colored(FABRICS)
    y, z = kit.uniform(0.36, 0.46), kit.uniform(0.5, 0.68)
    kit.box((0.24, y, z - 0.04), (0, 0, 0.04), Material(tone, shade(tone, 0.8), "stripes", 0.06), 0.04)
    for sx in (-1, 1):
        for sy in (-1, 1):
            kit.blob((0.022, 0.022, 0.025), (sx * 0.08, sy * (y / 2 - 0.06), 0.025), BLACK)
    top = z + 0.22
    kit.bar([(-0.09, -0.07, z - 0.02), (-0.09, -0.07, top), (-0.09, 0.07, top), (-0.09, 0.07, z - 0.02)], 0.009, METAL)
    return Design("suitcase", "suitcase", color, tuple(kit.parts))


def basket(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    color, tone = kit.colored(("beige", "brown", "white", "gray", "blue"))
    r, h = kit.uniform(0.16, 0.22), kit.uniform(0.2, 0.36)
    kit.add(vessel(r * 0.9, h, 0.012, r), (0, 0, 0), Material(tone, shade(tone, 0.65), "checker", 0.03))
    return Design("basket", "basket", color, tuple(kit.parts))


def teddy_bear(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    color, tone = kit.colored(("brown", "beige", "white", "pink", "gray"))
    fur, s = Material(tone, shade(tone, 0.8), "noise", 0.015), kit.uniform(0.8, 1.25)
    kit.blob((0.08 * s, 0.09 * s, 0.1 * s), (0, 0, 0.1 * s), fur)
    kit.blob((0.065 * s, 0.07 * s, 0.065 * s), (0.015, 0, 0.245 * s), fur)
    kit.blob((0.03 * s, 0.032 * s, 0.026 * s), (0.075 * s, 0, 0.23 * s), Material(shade(tone, 1.3)))
    for side in (-1, 1):
        kit.blob((0.015 * s, 0.027 * s, 0.027 * s), (0.01, side * 0.055 * s, 0.305 * s), fur)
        kit.blob((0.035 * s, 0.035 * s, 0.075 * s), (0.03, side * 0.1 * s, 0.13 * s), fur, about("x", side * 25))
        kit.blob((0.08 * s, 0.04 * s, 0.04 * s), (0.1 * s, side * 0.06 * s, 0.04 * s), fur, about("z", side * 15))
        kit.blob((0.008, 0.008, 0.008), (0.075 * s, side * 0.028 * s, 0.262 * s), BLACK)
    return Design("teddy bear", "teddy bear", color, tuple(kit.parts))


def microwave(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    color, tone = kit.colored(("white", "black", "gray", "red"))
    kit.box((0.34, 0.48, 0.27), (0, 0, 0.012), Material(tone), 0.01)
    kit.box((0.26, 0.4, 0.012), (0, 0, 0), BLACK)
    kit.box((0.006, 0.31, 0.2), (0.171, 0.06, 0.045), BLACK)
    kit.box((0.006, 0.09, 0.2), (0.171, -0.165, 0.045), Material((0.3, 0.3, 0.32), (0.7, 0.7, 0.7), "checker", 0.03))
    kit.box((0.025, 0.012, 0.18), (0.18, -0.105, 0.055), METAL)
    return Design("microwave", "microwave", color, tuple(kit.parts))


def kettle(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    color, tone = kit.colored(("red", "white", "black", "gray", "teal", "yellow"))
    body = Material(tone)
    kit.turned([(0, 0), (0.085, 0), (0.09, 0.05), (0.065, 0.17), (0.05, 0.185), (0, 0.19)], (0, 0, 0), body)
    kit.blob((0.014, 0.014, 0.014), (0, 0, 0.2), BLACK)
    kit.bar([(0.07, 0, 0.1), (0.115, 0, 0.15), (0.13, 0, 0.17)], 0.014, body)
    kit.bar([(-0.065, 0, 0.16), (-0.13, 0, 0.15), (-0.135, 0, 0.09), (-0.08, 0, 0.04)], 0.011, BLACK)
    return Design("kettle", "kettle", color, tuple(kit.parts))


def telephone(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    color, tone = kit.colored(("black", "white", "red", "beige"))
    kit.box((0.2, 0.17, 0.05), (0, 0, 0), Material(tone), 0.015)
    kit.box((0.1, 0.07, 0.004), (0.03, -0.03, 0.05), Material((0.2, 0.2, 0.2), (0.85, 0.85, 0.85), "checker", 0.02))
    kit.bar([(-0.09, 0.045, 0.075), (0.09, 0.045, 0.075)], 0.016, Material(shade(tone, 0.8)))
    for x in (-0.08, 0.08):
        kit.post(0.024, 0.04, (x, 0.045, 0.045), Material(shade(tone, 0.8)))
    return Design("telephone", "telephone", color, tuple(kit.parts))


def printer(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    color, tone = kit.colored(("white", "black", "gray"))
    kit.box((0.36, 0.44, 0.2), (0, 0, 0), Material(tone), 0.02)
    kit.box((0.16, 0.3, 0.01), (0.22, 0, 0.05), Material(shade(tone, 0.6)))
    kit.box((0.13, 0.21, 0.004), (0.23, 0, 0.06), Material((0.95, 0.95, 0.95)))
    kit.box((0.14, 0.34, 0.03), (-0.06, 0, 0.195), Material(shade(tone, 0.75)), 0.01)
    return Design("printer", "printer", color, tuple(kit.parts))


def globe(rng: np.random.Generator) -> Design:
    kit = Kit(rng)
    kit.turned(
        [(0, 0), (0.08, 0), (0.07, 0.02), (0.015, 0.03), (0.012, 0.08), (0, 0.08)],
        (0, 0, 0),
        Material((0.45, 0.3, 0.18)),
    )
    kit.blob((0.115, 0.115, 0.115), (0, 0, 0.19), Material((0.15, 0.38, 0.72), (0.35, 0.6, 0.25), "noise", 0.06))
    return Design("globe", "globe", "blue", tuple(kit.parts))


def picture(rng: np.random.Generator) -> Design:
    """Hangs with its back at x = 0."""
    kit = Kit(rng)
    color, tone = kit.colored(FABRICS)
    y, z = kit.uniform(0.35, 0.9), kit.uniform(0.35, 0.7)
    _, frame = kit.wood()
    kit.box((0.025, y, z), (0.0125, 0, 0), frame)
    art = Material(
        tone, kit.colored(BRIGHT)[1], kit.choose(("noise", "checker", "dots", "stripes")), kit.uniform(0.08, 0.2)
    )
    kit.box((0.004, y - 0.07, z - 0.07), (0.026, 0, 0.035), art)
    return Design("picture", "picture", color, tuple(kit.parts))


def whiteboard(rng: np.random.Generator) -> Design:
    """Hangs with its back at x = 0."""
    kit = Kit(rng)
    y, z = kit.uniform(1.1, 1.7), kit.uniform(0.8, 1.0)
    kit.box((0.02, y, z), (0.01, 0, 0), METAL)
    kit.box((0.004, y - 0.05, z - 0.05), (0.021, 0, 0.025), Material((0.95, 0.95, 0.96)))
    kit.box((0.06, y * 0.5, 0.015), (0.04, 0, 0.0), METAL)
    for k in range(3):
        pen = Material(kit.colored(("red", "blue", "green", "black"))[1])
        kit.box((0.015, 0.12, 0.015), (0.045, -0.2 + 0.18 * k, 0.015), pen)
    return Design("whiteboard", "whiteboard", "white", tuple(kit.parts))


def clock(rng: np.random.Generator) -> Design:
    """Hangs with its back at x = 0."""
    kit = Kit(rng)
    color, tone = kit.colored(BRIGHT)
    r = kit.uniform(0.13, 0.18)
    turn = about("y", 90)
    kit.add(vessel(r, 0.04, 0.02), (0, 0, r), Material(tone), turn)
    kit.add(cylinder(r - 0.022, 0.024), (0, 0, r), Material((0.95, 0.95, 0.92)), turn)
    for degrees, length in ((kit.uniform(0, 360), r * 0.5), (kit.uniform(0, 360), r * 0.75)):
        R = about("x", degrees)
        kit.add(Box((0.004, 0.012, length)), np.array((0.03, 0, r)) + R @ (0, 0, length / 2), BLACK, R)
    return Design("clock", "clock", color, tuple(kit.parts))


TABLETOP = (
    cup, cup, cup, bottle, bottle, book, book, bowl, vase, potted_plant, table_lamp, alarm_clock, tissue_box, laptop,
    telephone, globe, teddy_bear, kettle,
)  # fmt: skip
SHELF = (book_row, book_row, book_row, book, vase, box, potted_plant, globe, alarm_clock, teddy_bear, basket, bowl)
FLOOR = (ball, box, box, backpack, suitcase, basket, teddy_bear)
SOFT = (pillow, pillow, teddy_bear, book, backpack, laptop)
COUNTER = (microwave, kettle, bowl, bottle, cup, printer, box, potted_plant)
