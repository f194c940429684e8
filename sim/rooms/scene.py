"""An indoor scene: objects made of parts, and the triangles they make together.

Objects stay apart from each other, so a scene can be asked for again with one of them moved or gone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from roboref_core.geometry.pose import inverse, transform
from roboref_core.scene import Instances, Mesh

from sim.rooms.materials import Material, paint
from sim.rooms.shapes import Part, Solid, Surface, join

# Faces per cluster: what the renderer accepts or rejects as a whole.
CLUSTER = 128


@dataclass(frozen=True)
class SimObject:
    """One object (or piece of the room).

    Attributes:
        object_id: instance id, 1..254 (ScanNet's objectId + 1); 0 = geometry that nobody annotated.
        kind: what it was built as ("chair"); empty for the room itself.
        label: ScanNet raw_category; empty if not annotated.
        color: name of the colour one would call it by.
        parts: what it is made of.
        T_world_object: 4x4; the object's frame has its origin at the middle of its foot, x to its front, z up.
        rests_on: id of the object it stands on or hangs from, None for the room.
    """

    object_id: int
    kind: str
    label: str
    color: str
    parts: tuple[Part, ...]
    T_world_object: np.ndarray
    rests_on: int | None = None


@dataclass(frozen=True)
class Geometry:
    """The triangles of a scene, grouped into clusters of neighbours.

    Attributes:
        vertices: (V, 3) float32, world [m].
        normals: (V, 3) float32, world, unit length.
        local: (V, 3) float32, position on the part, for patterns [m].
        faces: (F, 3) int32, counter-clockwise seen from outside.
        face_object: (F,) int32 instance id.
        vertex_object: the same per vertex, (V,) int32.
        vertex_part: (V,) int32, which part, counted over all objects; parts share no vertex.
        vertex_material: (V,) int32 row of ``materials``.
        materials: (M, 9) float64, see Material.row.
        starts: (C + 1,) int64, faces of cluster c are starts[c]..starts[c + 1].
        spheres: (C, 4) float64 centre and radius of each cluster [m].
    """

    vertices: np.ndarray
    normals: np.ndarray
    local: np.ndarray
    faces: np.ndarray
    face_object: np.ndarray
    vertex_object: np.ndarray
    vertex_part: np.ndarray
    vertex_material: np.ndarray
    materials: np.ndarray
    starts: np.ndarray
    spheres: np.ndarray


@dataclass(frozen=True)
class SimScene:
    """A furnished room, immutable; a pure function of the seed it was generated from.

    Attributes:
        scene_id: e.g. "scene0007_00".
        scene_type: ScanNet's sceneType, e.g. "Living room / Lounge".
        objects: room and furniture; ids are unique except 0.
        room: (2, 3) lowest and highest corner of the free interior, in the room's frame [m].
        T_world_room: 4x4; the world is turned and shifted against the room as a scan's is, z stays up.
        light: (3,) position of the lamp, room frame [m].
        edge: triangle edge length [m].
        lamp: how bright the lamp is, 0 = off, 1 = as generated; the light of the day stays.
    """

    scene_id: str
    scene_type: str
    objects: tuple[SimObject, ...]
    room: np.ndarray
    T_world_room: np.ndarray
    light: np.ndarray
    edge: float
    lamp: float = 1.0

    def object(self, object_id: int) -> SimObject:
        """The object with this instance id. Raises ValueError if there is none."""
        for candidate in self.objects:
            if candidate.object_id == object_id and object_id > 0:
                return candidate
        raise ValueError(f"{self.scene_id}: no object {object_id}, has {sorted(self.labels)}")

    @property
    def labels(self) -> dict[int, str]:
        """Instance id -> ScanNet raw_category of every annotated object, the room's pieces included."""
        return {o.object_id: o.label for o in self.objects if o.object_id > 0}

    @property
    def furniture(self) -> tuple[SimObject, ...]:
        """The annotated objects that are not the room itself: what one would ask for."""
        return tuple(o for o in self.objects if o.object_id > 0 and o.kind)

    def carried_by(self, object_id: int) -> set[int]:
        """Ids of ``object_id`` and of everything that rests on it, directly or not."""
        carried = {object_id}
        while True:
            more = {o.object_id for o in self.objects if o.rests_on in carried} - carried
            if not more:
                return carried
            carried |= more

    def with_moved(self, object_id: int, T_world_object: np.ndarray) -> SimScene:
        """The same scene with an object, and all that rests on it, carried to another pose (4x4)."""
        motion = np.asarray(T_world_object) @ inverse(self.object(object_id).T_world_object)
        carried = self.carried_by(object_id)
        objects = tuple(
            replace(o, T_world_object=motion @ o.T_world_object) if o.object_id in carried else o for o in self.objects
        )
        return replace(self, objects=objects)

    def without(self, object_id: int) -> SimScene:
        """The same scene with an object, and all that rests on it, taken away."""
        self.object(object_id)
        carried = self.carried_by(object_id)
        return replace(self, objects=tuple(o for o in self.objects if o.object_id not in carried))

    @cached_property
    def geometry(self) -> Geometry:
        """All triangles, meshed on first use."""
        return build_geometry(self.objects, self.edge)

    def mesh(self) -> Mesh:
        """The scene's mesh with each vertex in its material's colour (unlit)."""
        g = self.geometry
        colors = np.empty((len(g.vertices), 3))
        paint(g.materials, g.vertex_material, g.local, colors)
        return Mesh(g.vertices, g.faces, np.round(colors * 255).astype(np.uint8))

    def instances(self) -> Instances:
        """Instance id of each vertex of ``mesh()``, and the labels."""
        return Instances(self.geometry.vertex_object, self.labels)


def build_geometry(objects: tuple[SimObject, ...], edge: float) -> Geometry:
    """Mesh all parts of ``objects`` with edges of about ``edge`` [m]."""
    surfaces, normals, local, counts = [], [], [], []
    materials: dict[Material, int] = {}
    owners, rows = [], []
    for o in objects:
        for part in o.parts:
            surface = _meshed(part.solid, edge)
            T = o.T_world_object @ part.T_object_part
            surfaces.append(replace(surface, vertices=transform(T, surface.vertices)))
            normals.append(surface.normals @ T[:3, :3].T)
            local.append(surface.vertices)
            counts.append(len(surface.vertices))
            owners.append(o.object_id)
            rows.append(materials.setdefault(part.material, len(materials)))
    whole = join(surfaces)
    face_counts = np.array([len(s.faces) for s in surfaces])
    starts = _cluster_starts(face_counts)
    vertex_part = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    owner = np.array(owners, dtype=np.int32)
    return Geometry(
        vertices=whole.vertices.astype(np.float32),
        normals=np.concatenate(normals).astype(np.float32),
        local=np.concatenate(local).astype(np.float32),
        faces=whole.faces.astype(np.int32),
        face_object=np.repeat(owner, face_counts),
        vertex_object=owner[vertex_part],
        vertex_part=vertex_part,
        vertex_material=np.array(rows, dtype=np.int32)[vertex_part],
        materials=np.stack([m.row() for m in materials]),
        starts=starts,
        spheres=_spheres(whole.vertices.astype(np.float32), whole.faces, starts),
    )


def face_count(objects: tuple[SimObject, ...], edge: float) -> int:
    """How many triangles ``build_geometry`` would make."""
    return sum(len(_meshed(part.solid, edge).faces) for o in objects for part in o.parts)


@lru_cache(maxsize=2048)
def _meshed(solid: Solid, edge: float) -> Surface:
    """A solid's triangles in clusters. Kept: a scene is meshed again and again, with a thing moved, gone or alone."""
    surface = solid.mesh(edge)
    surface = replace(surface, faces=_clustered(surface))
    for array in (surface.vertices, surface.normals, surface.faces):
        array.setflags(write=False)
    return surface


def _clustered(surface: Surface) -> np.ndarray:
    """The faces of a part ordered so that runs of CLUSTER faces are compact: by cell along its longest axes."""
    faces = surface.faces
    if len(faces) <= CLUSTER:
        return faces
    order = [np.arange(len(faces))]
    middle = surface.vertices[faces].mean(axis=1)
    while any(len(o) > CLUSTER for o in order):
        halves = []
        for o in order:
            if len(o) <= CLUSTER:
                halves.append(o)
                continue
            axis = int(np.argmax(np.ptp(middle[o], axis=0)))
            o = o[np.argsort(middle[o, axis], kind="stable")]
            # Cutting at a multiple of CLUSTER keeps every cluster but the last of a part full.
            cut = max(1, round(len(o) / CLUSTER / 2)) * CLUSTER
            halves += [o[:cut], o[cut:]]
        order = halves
    return faces[np.concatenate(order)]


def _cluster_starts(face_counts: np.ndarray) -> np.ndarray:
    ends = np.cumsum(face_counts)
    starts = [np.arange(end - count, end, CLUSTER) for end, count in zip(ends, face_counts, strict=True)]
    return np.concatenate([*starts, ends[-1:]]).astype(np.int64)


def _spheres(vertices: np.ndarray, faces: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """(C, 4) a sphere about each run of faces; not the smallest."""
    points = vertices[faces.ravel()].astype(np.float64)
    first = 3 * starts[:-1]
    centres = (np.minimum.reduceat(points, first) + np.maximum.reduceat(points, first)) / 2
    away = points - np.repeat(centres, 3 * np.diff(starts), axis=0)
    # Slack for the rounding of float32 vertices.
    radii = np.sqrt(np.maximum.reduceat((away**2).sum(axis=1), first)) + 1e-6
    return np.column_stack([centres, radii])
