"""What surfaces look like: a base colour and a solid (three-dimensional) procedural pattern.

Patterns are functions of the position on the part, in metres, so they stick to an object that is moved and need no
texture coordinates. The same compiled function colours pixels and mesh vertices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np

PATTERNS = ("plain", "stripes", "checker", "noise", "wood", "dots", "tiles", "planks")
_STRIPES, _CHECKER, _NOISE, _WOOD, _DOTS, _TILES, _PLANKS = range(1, 8)


@dataclass(frozen=True)
class Material:
    """A diffuse surface.

    Attributes:
        color, second: RGB in [0, 1], linear in the picture's values; ``second`` is the pattern's other colour.
        pattern: one of ``PATTERNS``.
        scale: size of one pattern element [m].
        glow: 0 = lit by the room, 1 = shows its colour unlit (a screen, a window, a lamp shade).
    """

    color: tuple[float, float, float]
    second: tuple[float, float, float] = (0.0, 0.0, 0.0)
    pattern: str = "plain"
    scale: float = 0.1
    glow: float = 0.0

    def row(self) -> np.ndarray:
        """(9,) float64: what ``albedo`` takes."""
        return np.array([PATTERNS.index(self.pattern), self.scale, self.glow, *self.color, *self.second])


def shade(color: tuple[float, float, float], factor: float) -> tuple[float, float, float]:
    """``color`` made darker (factor < 1) or lighter, clipped to [0, 1]."""
    red, green, blue = (float(min(1.0, max(0.0, c * factor))) for c in color)
    return red, green, blue


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _hash(i, j, k):
    """Three integers -> [0, 1), the same on every machine."""
    h = (i * 374761393 + j * 668265263 + k * 2147483647) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    return ((h ^ (h >> 16)) & 0xFFFFFF) / 16777216.0


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _value_noise(x, y, z):
    """Trilinear value noise with unit cells -> [0, 1)."""
    i, j, k = math.floor(x), math.floor(y), math.floor(z)
    fx, fy, fz = x - i, y - j, z - k
    fx, fy, fz = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy), fz * fz * (3 - 2 * fz)
    i, j, k = int(i), int(j), int(k)
    low = (_hash(i, j, k) * (1 - fx) + _hash(i + 1, j, k) * fx) * (1 - fy) + (
        _hash(i, j + 1, k) * (1 - fx) + _hash(i + 1, j + 1, k) * fx
    ) * fy
    high = (_hash(i, j, k + 1) * (1 - fx) + _hash(i + 1, j, k + 1) * fx) * (1 - fy) + (
        _hash(i, j + 1, k + 1) * (1 - fx) + _hash(i + 1, j + 1, k + 1) * fx
    ) * fy
    return low * (1 - fz) + high * fz


@numba.njit(cache=True, nogil=True, error_model="numpy")
def blend(pattern, scale, x, y, z):
    """How much of the second colour a pattern shows at a position on its part [m] -> [0, 1]."""
    x, y, z = x / scale, y / scale, z / scale
    if pattern == _STRIPES:
        return 1.0 if (x + y + z) - math.floor(x + y + z) < 0.5 else 0.0
    if pattern == _CHECKER:
        # The offset keeps faces that lie exactly on a cell boundary from flickering between two cells.
        cell = math.floor(x + 0.013) + math.floor(y + 0.017) + math.floor(z + 0.019)
        return 1.0 if int(cell) % 2 == 0 else 0.0
    if pattern == _NOISE:
        return 0.65 * _value_noise(x, y, z) + 0.35 * _value_noise(2.7 * x, 2.7 * y, 2.7 * z)
    if pattern == _WOOD:
        ring = x * 0.12 + 4.0 * y + 4.0 * z + 2.5 * _value_noise(0.25 * x, 1.5 * y, 1.5 * z)
        grain = ring - math.floor(ring)
        return 0.7 * grain * (2 - grain) * _value_noise(0.4 * x, 9.0 * y, 9.0 * z) + 0.3 * grain
    if pattern == _DOTS:
        dx, dy, dz = x - math.floor(x) - 0.5, y - math.floor(y) - 0.5, z - math.floor(z) - 0.5
        near = dx * dx + dy * dy < 0.1 or dy * dy + dz * dz < 0.1 or dx * dx + dz * dz < 0.1
        return 1.0 if near else 0.0
    if pattern == _TILES:
        dx, dy = x - math.floor(x), y - math.floor(y)
        if dx < 0.03 or dy < 0.03:
            return 1.0
        return 0.18 * _hash(math.floor(x), math.floor(y), 7)
    if pattern == _PLANKS:
        row = math.floor(y)
        along = x * 0.15 + _hash(int(row), 3, 11)
        plank = math.floor(along)
        if y - row < 0.03 or along - plank < 0.004:
            return 1.0
        tone = _hash(int(row), int(plank), 5)
        return 0.35 * tone + 0.25 * _value_noise(0.6 * x, 9.0 * y, 0.0)
    return 0.0


@numba.njit(cache=True, nogil=True, error_model="numpy")
def paint(rows, which, points, out):
    """Colours of points: (M, 9) material rows, (N,) row of each point, (N, 3) positions [m] -> out (N, 3) in [0, 1]."""
    for n in range(len(which)):
        row = rows[which[n]]
        share = blend(int(row[0]), row[1], points[n, 0], points[n, 1], points[n, 2])
        for c in range(3):
            out[n, c] = row[3 + c] * (1 - share) + row[6 + c] * share
