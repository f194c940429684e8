"""Where the surface of an object truly is: how far a robot or an answer is from it."""

from __future__ import annotations

import numpy as np
from roboref_core.scene import Instances, Mesh
from scipy.spatial import cKDTree

_SAMPLES = 20_000


class ObjectSurface:
    """Distances from the true surface of one object, by points spread over its triangles.

    Raises ValueError naming the object if the mesh has no triangle of it.
    """

    def __init__(self, mesh: Mesh, instances: Instances, object_id: int):
        faces = mesh.faces[(instances.vertex_ids[mesh.faces] == object_id).all(axis=1)]
        if not len(faces):
            raise ValueError(f"object {object_id} ({instances.labels.get(object_id)}) has no triangle in the mesh")
        corners = mesh.vertices[faces].astype(np.float64)
        edges = corners[:, 1:] - corners[:, :1]
        areas = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
        rng = np.random.default_rng(object_id)
        chosen = rng.choice(len(faces), _SAMPLES, p=areas / areas.sum())
        a, b = rng.random((2, _SAMPLES, 1))
        a, b = np.where(a + b > 1, (1 - a, 1 - b), (a, b))
        self.points = corners[chosen, 0] + a * edges[chosen, 0] + b * edges[chosen, 1]
        self._points, self._on_floor = cKDTree(self.points), cKDTree(self.points[:, :2])

    def distance(self, point: np.ndarray) -> float:
        """From a point (3,) in the world [m]."""
        return float(self._points.query(point)[0])

    def nearest(self, point: np.ndarray) -> np.ndarray:
        """(3,) of the surface's points the one nearest to a point (3,)."""
        return np.asarray(self.points[self._points.query(point)[1]])

    def distance_over_floor(self, point: np.ndarray) -> float:
        """The same with heights left out [m]."""
        return float(self._on_floor.query(point[:2])[0])

    def distance_from_ray(self, origin: np.ndarray, direction: np.ndarray) -> float:
        """From a ray that starts at ``origin`` (3,) and has a ``direction`` (3,) of any length [m]; infinite if all of
        the surface lies behind the origin."""
        away = self.points - origin
        along = away @ (direction / np.linalg.norm(direction))
        beside = np.sqrt(np.maximum((away**2).sum(axis=1) - along**2, 0.0))
        return float(np.where(along > 0, beside, np.inf).min())
