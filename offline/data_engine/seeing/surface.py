"""A scene's mesh arranged for visibility: faces and sample points sorted, so that each object is one range."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from roboref_core.scene import Instances, Mesh

_SPACING = 0.1
"""Faces with longer edges get extra sample points this far apart [m]: vertices alone would miss a wall of two faces."""
_MAX_STEPS = 64
CLUSTER = 128
"""Most points of a cluster: what is tested against the view frustum as a whole."""


@dataclass(frozen=True)
class Surface:
    """Mesh and objects of one scene, in the world frame.

    Attributes:
        vertices: (V, 3) float32 [m].
        faces: (F, 3) int32, sorted by object.
        face_ids: (F,) int32 object of each face, 0 = none: the id of at least two of its vertices, else the first's.
        points: (P, 3) float32 samples of the surface (vertices, and points inside large faces), sorted by object and
            within it along a Morton curve, so that neighbours are near.
        object_ids: (O,) int32, ascending; the first may be 0 (unannotated surface).
        face_starts, point_starts: (O + 1,) int64 offsets: object ``object_ids[k]`` owns [starts[k], starts[k + 1]).
        lower, upper: (O, 3) float64 bounding boxes [m].
        cluster_starts: (C + 1,) int64 offsets of runs of up to 128 points, none of which holds points of two objects.
        cluster_objects: (C,) int64 row of the object that each belongs to.
        boxes: (C, 6) float32 centre and half the size of each cluster's bounding box [m].
    """

    vertices: np.ndarray
    faces: np.ndarray
    face_ids: np.ndarray
    points: np.ndarray
    object_ids: np.ndarray
    face_starts: np.ndarray
    point_starts: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    cluster_starts: np.ndarray
    cluster_objects: np.ndarray
    boxes: np.ndarray

    @classmethod
    def build(cls, mesh: Mesh, instances: Instances | None = None) -> Surface:
        """Arrange ``mesh``; without ``instances`` it is one unannotated object.

        Raises ValueError if ids and vertices do not belong together (segments of the other mesh) or a
        face names a vertex that does not exist.
        """
        vertices = np.ascontiguousarray(mesh.vertices, dtype=np.float32)
        faces = np.ascontiguousarray(mesh.faces, dtype=np.int32).reshape(-1, 3)
        if len(vertices) == 0:
            raise ValueError("mesh has no vertices")
        if not np.isfinite(vertices).all():
            raise ValueError("mesh has vertices that are not finite")
        if len(faces) and (faces.min() < 0 or faces.max() >= len(vertices)):
            raise ValueError(f"mesh has {len(vertices)} vertices, but its faces name {faces.min()} to {faces.max()}")
        ids = np.zeros(len(vertices), np.int32) if instances is None else np.asarray(instances.vertex_ids, np.int32)
        if ids.shape != (len(vertices),):
            raise ValueError(
                f"expected one instance id for each of the mesh's {len(vertices)} vertices, found {ids.shape}: "
                "segments of another mesh?"
            )
        corner = ids[faces]
        face_ids = np.where(corner[:, 1] == corner[:, 2], corner[:, 1], corner[:, 0])
        order = np.argsort(face_ids, kind="stable")
        faces, face_ids = np.ascontiguousarray(faces[order]), np.ascontiguousarray(face_ids[order])

        extra, source = _fill_faces(vertices, faces, np.float32(_SPACING), _MAX_STEPS)
        points = np.concatenate([vertices, extra])
        point_ids = np.concatenate([ids, face_ids[source]])
        order = np.lexsort((_morton(points), point_ids))
        points, point_ids = np.ascontiguousarray(points[order]), point_ids[order]

        object_ids = np.unique(point_ids).astype(np.int32)
        point_starts = np.append(np.searchsorted(point_ids, object_ids), len(points)).astype(np.int64)
        face_starts = np.append(np.searchsorted(face_ids, object_ids), len(faces)).astype(np.int64)
        lower = np.minimum.reduceat(points, point_starts[:-1], axis=0).astype(np.float64)
        upper = np.maximum.reduceat(points, point_starts[:-1], axis=0).astype(np.float64)
        clusters = _clusters(points, point_starts)
        return cls(vertices, faces, face_ids, points, object_ids, face_starts, point_starts, lower, upper, *clusters)

    def index(self, object_id: int) -> int:
        """Row of ``object_id`` in the per-object arrays. Raises KeyError if the mesh has no such object."""
        k = int(np.searchsorted(self.object_ids, object_id))
        if k == len(self.object_ids) or self.object_ids[k] != object_id:
            raise KeyError(f"object {object_id} has no vertex in the mesh")
        return k

    def object_faces(self, object_id: int) -> slice:
        k = self.index(object_id)
        return slice(int(self.face_starts[k]), int(self.face_starts[k + 1]))

    def object_points(self, object_id: int) -> np.ndarray:
        """(n, 3) float32 sample points of one object [m]."""
        k = self.index(object_id)
        return self.points[self.point_starts[k] : self.point_starts[k + 1]]

    def centre(self, object_id: int) -> np.ndarray:
        """(3,) middle of the object's bounding box [m]."""
        k = self.index(object_id)
        return (self.lower[k] + self.upper[k]) / 2


def _morton(points: np.ndarray) -> np.ndarray:
    """(P,) uint64 place of each point along a Z-order curve (Morton 1966) of 2 cm cells."""
    cells = np.floor((points - points.min(axis=0)) / np.float32(0.02)).astype(np.uint64).clip(0, 2**21 - 1)
    code = np.zeros(len(points), np.uint64)
    for axis in range(3):
        x = cells[:, axis]
        # Spread 21 bits so that two free ones follow each.
        for shift, mask in (
            (32, 0x1F00000000FFFF),
            (16, 0x1F0000FF0000FF),
            (8, 0x100F00F00F00F00F),
            (4, 0x10C30C30C30C30C3),
            (2, 0x1249249249249249),
        ):
            x = (x | (x << np.uint64(shift))) & np.uint64(mask)
        code |= x << np.uint64(axis)
    return code


def _clusters(points: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offsets, object rows and bounding boxes of runs of points."""
    sizes = np.diff(starts)
    counts = -(-sizes // CLUSTER)
    objects = np.repeat(np.arange(len(sizes)), counts)
    within = np.arange(len(objects)) - np.repeat(np.cumsum(counts) - counts, counts)
    begins = starts[objects] + within * CLUSTER
    offsets = np.append(begins, len(points)).astype(np.int64)
    lower, upper = np.minimum.reduceat(points, begins), np.maximum.reduceat(points, begins)
    return offsets, objects, np.column_stack([(lower + upper) / 2, (upper - lower) / 2])


@numba.njit(cache=True)
def _fill_faces(vertices, faces, spacing, max_steps):
    """Points inside faces with an edge longer than ``spacing``: (n, 3) float32 and the face of each, (n,) int64.

    In rows from the longest edge up, so that a sliver gets no more than its length calls for.
    """
    rows, base = np.zeros(len(faces), np.int64), np.zeros(len(faces), np.int64)
    steps = np.zeros(len(faces), np.float32)
    total = 0
    for f in range(len(faces)):
        longest = np.float32(0.0)
        for k in range(3):
            edge = vertices[faces[f, (k + 1) % 3]] - vertices[faces[f, k]]
            length = np.sqrt(edge[0] * edge[0] + edge[1] * edge[1] + edge[2] * edge[2])
            if length > longest:
                longest, base[f] = length, k
        if longest > spacing:
            a, b, c = vertices[faces[f, 0]], vertices[faces[f, 1]], vertices[faces[f, 2]]
            normal = np.cross(b - a, c - a)
            height = np.sqrt(normal[0] * normal[0] + normal[1] * normal[1] + normal[2] * normal[2]) / longest
            rows[f] = max(1, min(np.int64(np.ceil(height / spacing)), max_steps))
            steps[f] = longest / spacing
            for row in range(rows[f]):
                total += _columns(row, rows[f], steps[f], max_steps)
    points, source = np.empty((total, 3), np.float32), np.empty(total, np.int64)
    at = 0
    for f in range(len(faces)):
        a, b, c = faces[f, base[f]], faces[f, (base[f] + 1) % 3], faces[f, (base[f] + 2) % 3]
        for row in range(rows[f]):
            up = np.float32(row / rows[f])
            n = _columns(row, rows[f], steps[f], max_steps)
            for column in range(n):
                along = np.float32((column + 0.5) / n)
                for axis in range(3):
                    start, end = vertices[a, axis], vertices[b, axis]
                    foot = start + along * (end - start)
                    points[at, axis] = foot + up * (vertices[c, axis] - foot)
                source[at] = f
                at += 1
    return points, source


@numba.njit(cache=True)
def _columns(row, rows, steps, max_steps):
    """Points of a row: as many as its length, ``steps`` at the longest edge, calls for."""
    return max(1, min(np.int64(np.ceil(steps * (1.0 - row / rows))), max_steps))
