"""Where an object of a scene is, and how large it is: ground truth."""

from __future__ import annotations

import numpy as np
from roboref_core.geometry.pose import inverse, transform

from sim.rooms.renderer import Renderer


def object_box(renderer: Renderer, object_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Oriented bounding box of an object -> T_world_box (4x4, at its middle, axes of the object) and (3,) size [m]."""
    lone = renderer.alone(object_id).scene
    T_world_object = lone.object(object_id).T_world_object
    points = transform(inverse(T_world_object), lone.geometry.vertices.astype(np.float64))
    low, high = points.min(axis=0), points.max(axis=0)
    T = T_world_object.copy()
    T[:3, 3] = transform(T_world_object, (low + high) / 2)
    return T, high - low
