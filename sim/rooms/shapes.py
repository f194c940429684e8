"""Primitive solids with normals, meshed at any edge length: the parts that furniture is made of.

Every solid is closed and wound counter-clockwise seen from outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Protocol

import numpy as np

from sim.rooms.materials import Material


@dataclass(frozen=True)
class Surface:
    """Triangles of one part: vertices (V, 3) [m], unit normals (V, 3), faces (F, 3) int."""

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray


class Solid(Protocol):
    """A primitive in its own frame."""

    def __hash__(self) -> int: ...

    def mesh(self, edge: float) -> Surface:
        """Triangulate with edges of about ``edge`` [m], shorter where the shape is round."""


def join(surfaces: Sequence[Surface]) -> Surface:
    """Several surfaces as one, without welding vertices."""
    offsets = np.cumsum([0] + [len(s.vertices) for s in surfaces])
    return Surface(
        np.concatenate([s.vertices for s in surfaces]),
        np.concatenate([s.normals for s in surfaces]),
        np.concatenate([s.faces + o for s, o in zip(surfaces, offsets[:-1], strict=True)]),
    )


def _grid_faces(rows: int, columns: int) -> np.ndarray:
    """Two triangles per cell of a rows x columns lattice of vertices, counter-clockwise about row x column axis."""
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    first = np.stack([corner, corner + columns, corner + columns + 1], axis=1)
    second = np.stack([corner, corner + columns + 1, corner + 1], axis=1)
    return np.stack([first, second], axis=1).reshape(-1, 3)


def _ticks(length: float, edge: float, least: int = 1) -> np.ndarray:
    """Positions 0..length in equal steps of at most about ``edge``."""
    return np.linspace(0.0, length, max(least, round(length / edge)) + 1)


@dataclass(frozen=True)
class Box:
    """A cuboid around the origin; ``size`` (x, y, z) [m]; edges rounded off with radius ``rounding``."""

    size: tuple[float, float, float]
    rounding: float = 0.0

    def mesh(self, edge: float) -> Surface:
        half = np.array(self.size, dtype=np.float64) / 2
        # A rounding that nobody could see would only make needles.
        radius = min(self.rounding, half.min()) if self.rounding > 1e-4 else 0.0
        sides = []
        for axis in range(3):
            for sign in (-1.0, 1.0):
                # (a, b, axis) is right-handed for sign +1, so the winding of the lattice faces outwards.
                a, b = ((axis + 1) % 3, (axis + 2) % 3) if sign > 0 else ((axis + 2) % 3, (axis + 1) % 3)
                ta, tb = (self._lattice(half[k], radius, edge) for k in (a, b))
                lattice = np.empty((len(ta), len(tb), 3))
                lattice[..., a], lattice[..., b], lattice[..., axis] = ta[:, None], tb[None, :], sign * half[axis]
                points = lattice.reshape(-1, 3)
                normals = np.zeros_like(points)
                normals[:, axis] = sign
                if radius > 0:
                    core = np.clip(points, -(half - radius), half - radius)
                    away = points - core
                    normals = away / np.linalg.norm(away, axis=1, keepdims=True)
                    points = core + radius * normals
                sides.append(Surface(points, normals, _grid_faces(len(ta), len(tb))))
        return join(sides)

    @staticmethod
    def _lattice(half: float, radius: float, edge: float) -> np.ndarray:
        if radius <= 0:
            return _ticks(2 * half, edge) - half
        bend = _ticks(radius, edge, least=3)
        flat = 2 * (half - radius)
        middle = bend[-1] + (_ticks(flat, edge)[1:] if flat > 1e-9 else np.empty(0))
        return np.concatenate([bend, middle, bend[-1] + flat + bend[1:]]) - half


@dataclass(frozen=True)
class Lathe:
    """A profile turned about the z axis.

    Attributes:
        profile: (radius, z) points [m] from the bottom axis point round the outside to the top; corners are sharp
            unless ``smooth``.
        smooth: shade across the profile's corners.
        squash: factor on y (elliptic cross-section).
    """

    profile: tuple[tuple[float, float], ...]
    smooth: bool = False
    squash: float = 1.0

    def mesh(self, edge: float) -> Surface:
        points = np.array(self.profile, dtype=np.float64)
        largest = points[:, 0].max()
        turn = np.linspace(0.0, 2 * np.pi, max(12, round(2 * np.pi * largest / edge)) + 1)
        # Outward normal of a segment walked upwards on the outside: its direction turned by -90 degrees.
        along = np.diff(points, axis=0)
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        flat = np.stack([along[:, 1], -along[:, 0]], axis=1)
        corner = np.concatenate([flat[:1], flat[:-1] + flat[1:], flat[-1:]])
        corner /= np.maximum(np.linalg.norm(corner, axis=1, keepdims=True), 1e-12)
        pieces = []
        for i in range(len(flat)):
            t = _ticks(1.0, edge / max(float(np.linalg.norm(points[i + 1] - points[i])), 1e-9))[:, None]
            ring = points[i] * (1 - t) + points[i + 1] * t
            normal = corner[i] * (1 - t) + corner[i + 1] * t if self.smooth else np.repeat(flat[i : i + 1], len(t), 0)
            pieces.append(self._turned(ring, normal, turn))
        return join(pieces)

    def _turned(self, ring: np.ndarray, normal: np.ndarray, turn: np.ndarray) -> Surface:
        c, s = np.cos(turn)[:, None], np.sin(turn)[:, None]
        z = np.broadcast_to(ring[:, 1], (len(turn), len(ring)))
        vertices = np.stack([ring[:, 0] * c, ring[:, 0] * s * self.squash, z], axis=-1).reshape(-1, 3)
        nz = np.broadcast_to(normal[:, 1], z.shape)
        normals = np.stack([normal[:, 0] * c, normal[:, 0] * s / self.squash, nz], axis=-1).reshape(-1, 3)
        normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        faces = _grid_faces(len(turn), len(ring))
        a, b, c3 = (vertices[faces[:, k]] for k in range(3))
        return Surface(vertices, normals, faces[np.linalg.norm(np.cross(b - a, c3 - a), axis=1) > 1e-12])


def cylinder(radius: float, height: float, top_radius: float | None = None) -> Lathe:
    """A closed cylinder or cone frustum standing on z = 0 [m]."""
    top = radius if top_radius is None else top_radius
    return Lathe(((0.0, 0.0), (radius, 0.0), (top, height), (0.0, height)))


def vessel(radius: float, height: float, wall: float, top_radius: float | None = None) -> Lathe:
    """An open cup standing on z = 0, ``wall`` thick [m]."""
    top = radius if top_radius is None else top_radius
    inner = max(radius - wall, 1e-3)
    profile = ((0.0, 0.0), (radius, 0.0), (top, height), (top - wall, height), (inner, wall), (0.0, wall))
    return Lathe(profile)


def ellipsoid(rx: float, ry: float, rz: float) -> Lathe:
    """An ellipsoid around the origin with the given half axes [m]."""
    angles = np.linspace(-np.pi / 2, np.pi / 2, 13)
    profile = tuple((float(rx * max(np.cos(a), 0.0)), float(rz * np.sin(a))) for a in angles)
    return Lathe(((0.0, -rz), *profile[1:-1], (0.0, rz)), smooth=True, squash=ry / rx)


@dataclass(frozen=True)
class Tube:
    """A round bar of ``radius`` along a polyline of (x, y, z) points [m], closed at its ends."""

    path: tuple[tuple[float, float, float], ...]
    radius: float

    def mesh(self, edge: float) -> Surface:
        points = np.array(self.path, dtype=np.float64)
        tangents = np.gradient(points, axis=0)
        tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
        turn = np.linspace(0.0, 2 * np.pi, max(8, round(2 * np.pi * self.radius / edge)) + 1)
        side = np.cross(tangents[0], np.eye(3)[np.abs(tangents[0]).argmin()])
        centres, sides, ups = [], [], []
        for i, (point, tangent) in enumerate(zip(points, tangents, strict=True)):
            # Carrying the side vector along keeps the tube from twisting.
            side = side - tangent * (side @ tangent)
            side /= np.linalg.norm(side)
            ring = [point]
            if i + 1 < len(points):
                t = _ticks(1.0, edge / float(np.linalg.norm(points[i + 1] - point)))[:-1, None]
                ring = point + (points[i + 1] - point) * t
            for p in ring:
                centres.append(p)
                sides.append(side)
                ups.append(np.cross(tangent, side))
        centre, side_, up = np.array(centres), np.array(sides), np.array(ups)
        normals = side_[:, None] * np.cos(turn)[:, None] + up[:, None] * np.sin(turn)[:, None]
        vertices = centre[:, None] + self.radius * normals
        wall = Surface(vertices.reshape(-1, 3), normals.reshape(-1, 3), _grid_faces(len(centre), len(turn))[:, ::-1])
        return join([wall, *(self._cap(vertices[k], tangents[k] * s, s) for k, s in ((0, -1.0), (-1, 1.0)))])

    @staticmethod
    def _cap(ring: np.ndarray, normal: np.ndarray, sign: float) -> Surface:
        vertices = np.concatenate([ring, ring[:-1].mean(axis=0, keepdims=True)])
        k = np.arange(len(ring) - 1)
        faces = np.stack([k, k + 1, np.full_like(k, len(ring))], axis=1)
        return Surface(vertices, np.tile(normal, (len(vertices), 1)), faces if sign > 0 else faces[:, ::-1])


@dataclass(frozen=True)
class Panel:
    """A single-sided rectangle in the plane z = 0 facing +z, without its ``holes``: walls, floor, ceiling.

    Attributes:
        size: (x, y) extent around the origin [m].
        holes: (x0, y0, x1, y1) rectangles left open [m]: doors and windows.
    """

    size: tuple[float, float]
    holes: tuple[tuple[float, float, float, float], ...] = ()

    def mesh(self, edge: float) -> Surface:
        axes = []
        for k in range(2):
            half = self.size[k] / 2
            breaks = sorted({-half, half, *(h[k] for h in self.holes), *(h[k + 2] for h in self.holes)})
            pieces = [a + _ticks(b - a, edge)[:-1] for a, b in pairwise(breaks)]
            axes.append(np.concatenate([*pieces, [half]]))
        x, y = np.meshgrid(*axes, indexing="ij")
        vertices = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=1)
        faces = _grid_faces(len(axes[0]), len(axes[1]))
        middle = vertices[faces].mean(axis=1)
        open_ = np.zeros(len(faces), dtype=bool)
        for x0, y0, x1, y1 in self.holes:
            open_ |= (middle[:, 0] > x0) & (middle[:, 0] < x1) & (middle[:, 1] > y0) & (middle[:, 1] < y1)
        used, faces = np.unique(faces[~open_], return_inverse=True)
        normals = np.tile((0.0, 0.0, 1.0), (len(used), 1))
        return Surface(vertices[used], normals, faces.reshape(-1, 3))


@dataclass(frozen=True)
class Part:
    """A solid placed in its object's frame, and what it is made of."""

    solid: Solid
    material: Material
    T_object_part: np.ndarray

    @cached_property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest corner of the part in its object's frame [m]."""
        vertices = self.solid.mesh(10.0).vertices @ self.T_object_part[:3, :3].T + self.T_object_part[:3, 3]
        return vertices.min(axis=0), vertices.max(axis=0)
