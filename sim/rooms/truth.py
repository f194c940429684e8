"""Ground truth by rendering: what of an object a view shows, and what a pixel is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import inverse, transform

from sim.rooms.renderer import Renderer


@dataclass(frozen=True)
class ObjectView:
    """One object in one view.

    Attributes:
        mask: (H, W) bool, pixels where it is seen.
        alone: (H, W) bool, pixels it would cover if nothing else were there.
        in_frame: share of its vertices that project into the picture, in [0, 1].
    """

    mask: np.ndarray
    alone: np.ndarray
    in_frame: float

    @property
    def pixels(self) -> int:
        """How many pixels show it."""
        return int(self.mask.sum())

    @property
    def fraction(self) -> float:
        """Pixels that show it / pixels it would cover alone; 0 if it is out of the picture."""
        return self.pixels / max(int(self.alone.sum()), 1)

    @property
    def box(self) -> tuple[int, int, int, int] | None:
        """Bounding box (u0, v0, u1, v1) of ``mask``, inclusive [pixel]; None if it is not seen."""
        if not self.mask.any():
            return None
        rows, columns = np.flatnonzero(self.mask.any(axis=1)), np.flatnonzero(self.mask.any(axis=0))
        return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def object_view(
    renderer: Renderer, camera: Camera, T_world_camera: np.ndarray, object_id: int, ids: np.ndarray | None = None
) -> ObjectView:
    """What a camera at a pose (4x4) sees of an object.

    Args:
        ids: (H, W) instance ids of this view, if they were rendered already.

    Raises ValueError if the scene has no such object.
    """
    lone = renderer.alone(object_id)
    if ids is None:
        ids = renderer.render(camera, T_world_camera, color=False).ids
    alone = lone.render(camera, T_world_camera, color=False).ids > 0
    points = transform(inverse(T_world_camera), lone.scene.geometry.vertices.astype(np.float64))
    return ObjectView(ids == object_id, alone, float(camera.contains(camera.project(points)).mean()))


def object_box(renderer: Renderer, object_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Oriented bounding box of an object -> T_world_box (4x4, at its middle, axes of the object) and (3,) size [m]."""
    lone = renderer.alone(object_id).scene
    T_world_object = lone.object(object_id).T_world_object
    points = transform(inverse(T_world_object), lone.geometry.vertices.astype(np.float64))
    low, high = points.min(axis=0), points.max(axis=0)
    T = T_world_object.copy()
    T[:3, 3] = transform(T_world_object, (low + high) / 2)
    return T, high - low
