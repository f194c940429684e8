"""Is an object certainly not to be seen in a picture? The rules of border and margin.

Poses, registration and mesh are off by a little, so what just hides an object may not hide it. A negative holds only if
it also holds for a picture displaced by a margin: nothing of the object just beyond the border, and everything
around its silhouette clearly in front of it, in the mesh and for the sensor.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from roboref_core.geometry.camera import Camera
from roboref_core.views.visibility import DepthTolerance

from offline.data_engine.seeing.zbuffer import ZBuffer


@dataclass(frozen=True)
class Scenery:
    """What may stand in front of an object, twice: as the mesh has it and as the sensor measured it.

    Attributes:
        camera: of the picture.
        mesh: (H, W) float32 rendered depth [m], infinite where there is no surface: an object would be seen there.
        sensor: (h, w) float32 measured depth [m], 0 = no measurement.
        to_sensor: (su, ou, sv, ov): pixel (u, v) of the picture is (su * u + ou, sv * v + ov) of the sensor.
        tolerance: depths that differ less are one surface.
    """

    camera: Camera
    mesh: np.ndarray
    sensor: np.ndarray
    to_sensor: tuple[float, float, float, float]
    tolerance: DepthTolerance


def certainly_hidden(silhouette: ZBuffer, scenery: Scenery, margin: int) -> bool:
    """Is the object of a silhouette (drawn alone, beyond the border too) hidden wherever ``margin`` pixels shift it?"""
    w, h = scenery.camera.width, scenery.camera.height
    inside = silhouette_inside(silhouette, w, h)
    drawn = np.count_nonzero(inside)
    if np.count_nonzero(silhouette_inside(silhouette, w, h, margin)) > drawn:
        return False
    if drawn == 0:
        return True
    v, u = np.nonzero(inside)
    z = inside[v, u]
    v, u = v + max(0, silhouette.origin[1]), u + max(0, silhouette.origin[0])
    nearest_allowed = z - scenery.tolerance.at(z)
    if not (_farthest(scenery.mesh, u, v, margin) < nearest_allowed).all():
        return False
    su, ou, sv, ov = scenery.to_sensor
    rows, columns = scenery.sensor.shape
    column = np.rint(su * u + ou).astype(np.int64).clip(0, columns - 1)
    row = np.rint(sv * v + ov).astype(np.int64).clip(0, rows - 1)
    return bool((_farthest(scenery.sensor, column, row, int(np.ceil(margin * su))) < nearest_allowed).all())


def silhouette_inside(silhouette: ZBuffer, width: int, height: int, margin: int = 0) -> np.ndarray:
    """The part of a window that lies in a picture enlarged by ``margin`` on every side; may be empty."""
    u0, v0 = silhouette.origin
    rows = slice(max(0, -margin - v0), max(0, height + margin - v0))
    return silhouette.depth[rows, max(0, -margin - u0) : max(0, width + margin - u0)]


def touches_picture(points: np.ndarray, camera: Camera, T_world_camera: np.ndarray) -> bool:
    """Is any of (n, 3) world points in the picture? Finds surface that is too small to cover a pixel's centre."""
    seen = (points.astype(np.float64) - T_world_camera[:3, 3]) @ T_world_camera[:3, :3]
    return bool(camera.contains(camera.project(seen)).any())


def _farthest(depth: np.ndarray, u: np.ndarray, v: np.ndarray, radius: int) -> np.ndarray:
    """(n,) largest value of an image within ``radius`` (a square) of each pixel."""
    v0, v1, u0, u1 = v.min() - radius, v.max() + radius + 1, u.min() - radius, u.max() + radius + 1
    v0, u0 = max(0, v0), max(0, u0)
    part = cv2.dilate(depth[v0:v1, u0:u1], np.ones((2 * radius + 1, 2 * radius + 1), np.uint8))
    return part[v - v0, u - u0]
