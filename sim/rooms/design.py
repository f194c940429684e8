"""How an object is designed: parts put together in its own frame, its name, its colour, and where things fit on it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from roboref_core.geometry.pose import pose

from sim.rooms.materials import Material, shade
from sim.rooms.shapes import Box, Lathe, Part, Solid, Tube, cylinder, ellipsoid

PALETTE = {
    "red": (0.75, 0.13, 0.12),
    "orange": (0.90, 0.47, 0.12),
    "yellow": (0.90, 0.78, 0.20),
    "green": (0.20, 0.52, 0.23),
    "teal": (0.12, 0.52, 0.52),
    "blue": (0.14, 0.29, 0.68),
    "purple": (0.44, 0.22, 0.58),
    "pink": (0.88, 0.52, 0.62),
    "brown": (0.42, 0.26, 0.14),
    "beige": (0.82, 0.73, 0.58),
    "white": (0.90, 0.90, 0.88),
    "gray": (0.52, 0.52, 0.54),
    "black": (0.12, 0.12, 0.13),
}
WOODS = {
    "brown": (0.48, 0.31, 0.18),
    "beige": (0.80, 0.65, 0.45),
    "white": (0.88, 0.87, 0.84),
    "black": (0.20, 0.16, 0.14),
    "orange": (0.68, 0.44, 0.24),
}
FABRICS = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink", "beige", "gray", "brown", "black")
BRIGHT = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink", "white")


def seeded(*key) -> np.random.Generator:
    """A generator whose stream depends on nothing but ``key`` (anything with a stable repr)."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


@dataclass(frozen=True)
class Place:
    """A level rectangle on (or under) an object where others can stand, in the object's frame [m].

    Attributes:
        center: (x, y, z) of its middle.
        size: (x, y) extent.
        headroom: free height above it.
    """

    center: tuple[float, float, float]
    size: tuple[float, float]
    headroom: float = 1.0


@dataclass(frozen=True)
class Design:
    """An object before it is placed: foot at z = 0, front towards +x.

    Attributes:
        kind: catalogue name.
        label: ScanNet raw_category.
        color: name of the colour one would call it by, a key of ``PALETTE``.
        parts: what it is made of.
        places: where others can stand on it, under it or in it.
    """

    kind: str
    label: str
    color: str
    parts: tuple[Part, ...]
    places: tuple[Place, ...] = ()

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest corner in the object's frame [m]."""
        lows, highs = zip(*(p.bounds for p in self.parts), strict=True)
        return np.min(lows, axis=0), np.max(highs, axis=0)


@dataclass
class Kit:
    """Collects the parts of one object. Positions are the middle of a part's foot in the object's frame [m]."""

    rng: np.random.Generator
    parts: list[Part] = field(default_factory=list)

    def add(self, solid: Solid, at, material: Material, rotation: np.ndarray | None = None) -> None:
        """Put ``solid`` with its own origin at ``at``."""
        self.parts.append(Part(solid, material, pose(np.eye(3) if rotation is None else rotation, at)))

    def box(
        self, size: Sequence[float], at, material: Material, rounding: float = 0.0, rotation: np.ndarray | None = None
    ) -> None:
        """A cuboid of ``size`` whose foot (before ``rotation``) is centred at ``at``."""
        x, y, z = at
        self.add(
            Box((float(size[0]), float(size[1]), float(size[2])), rounding), (x, y, z + size[2] / 2), material, rotation
        )

    def post(self, radius: float, height: float, at, material: Material, top_radius: float | None = None) -> None:
        """An upright cylinder or frustum."""
        self.add(cylinder(radius, height, top_radius), at, material)

    def blob(self, radii, at, material: Material, rotation: np.ndarray | None = None) -> None:
        """An ellipsoid with half axes ``radii`` centred at ``at``."""
        self.add(ellipsoid(*radii), at, material, rotation)

    def turned(self, profile, at, material: Material) -> None:
        """A surface of revolution, see Lathe."""
        self.add(Lathe(tuple((float(r), float(z)) for r, z in profile)), at, material)

    def bar(self, path, radius: float, material: Material) -> None:
        """A round bar along a polyline."""
        self.add(Tube(tuple((float(x), float(y), float(z)) for x, y, z in path), radius), (0, 0, 0), material)

    def uniform(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def choose(self, options):
        """One of ``options``, as it is (no conversion to numpy types)."""
        options = tuple(options)
        return options[int(self.rng.integers(len(options)))]

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def colored(self, names=FABRICS) -> tuple[str, tuple[float, float, float]]:
        """A colour's name and a shade of it."""
        name = self.choose(names)
        return name, self._tint(PALETTE[name])

    def wood(self) -> tuple[str, Material]:
        """A wood's colour name and material."""
        name = self.choose(WOODS)
        tone = self._tint(WOODS[name])
        return name, Material(tone, shade(tone, 0.72), "wood", self.uniform(0.06, 0.12))

    def fabric(self, tone) -> Material:
        """Cloth of a given tone, with a weave or a pattern."""
        pattern = self.choose(("plain", "noise", "noise", "stripes", "checker", "dots"))
        second = shade(tone, self.choose((0.6, 0.75, 1.35)))
        scale = {"noise": 0.012, "stripes": 0.08, "checker": 0.07, "dots": 0.09}.get(pattern, 0.1)
        return Material(tone, second, pattern, scale * self.uniform(0.8, 1.3))

    def _tint(self, tone) -> tuple[float, float, float]:
        red, green, blue = np.clip(np.array(tone) * self.uniform(0.85, 1.12), 0.02, 0.97).tolist()
        return red, green, blue


METAL = Material((0.62, 0.63, 0.66))
DARK_METAL = Material((0.20, 0.20, 0.22))
BLACK = Material((0.08, 0.08, 0.09))


def about(axis: str, degrees: float) -> np.ndarray:
    """Rotation matrix about a coordinate axis "x", "y" or "z" by an angle in degrees."""
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    R = np.eye(3)
    R[i, i], R[i, j], R[j, i], R[j, j] = c, -s, s, c
    return R
