from __future__ import annotations

import numpy as np
from roboref_core.geometry.camera import Camera
from roboref_core.scene import Instances, Mesh

from offline.data_engine.seeing.surface import Surface
from offline.data_engine.seeing.zbuffer import Projection
from offline.data_engine.tasks.free_space import level_pixels, vacant

CAMERA = Camera(160, 120, 120.0, 120.0, 79.5, 59.5)


def scene() -> Surface:
    """A table top at 0.7 m, left, a shelf below it at 0.3 m that reaches farther right, and the wall behind."""
    corners = []
    for x0, x1, z in ((-0.6, 0.0, 0.7), (-0.6, 0.6, 0.3)):
        corners.append([(x0, 1.0, z), (x1, 1.0, z), (x1, 2.0, z), (x0, 2.0, z)])
    corners.append([(-2, 2.2, -1), (2, 2.2, -1), (2, 2.2, 2), (-2, 2.2, 2)])
    faces = [(4 * k + a, 4 * k + b, 4 * k + c) for k in range(3) for a, b, c in ((0, 1, 2), (0, 2, 3))]
    ids = np.repeat([1, 1, 2], 4).astype(np.int32)
    mesh = Mesh(np.array(corners, np.float32).reshape(-1, 3), np.array(faces, np.int32))
    return Surface.build(mesh, Instances(ids, {1: "table", 2: "wall"}))


def looking_down() -> np.ndarray:
    """T_world_camera 1.3 m above the ground, towards +y, 25 degrees down."""
    pitch = np.deg2rad(25)
    T = np.eye(4)
    T[:3, 2] = 0, np.cos(pitch), -np.sin(pitch)
    T[:3, 0] = 1, 0, 0
    T[:3, 1] = np.cross(T[:3, 2], T[:3, 0])
    T[2, 3] = 1.3
    return T


def test_level_surface_is_found_and_only_as_high_as_asked_for():
    T, whole = looking_down(), (0, 0, CAMERA.width - 1, CAMERA.height - 1)
    buffer = Projection(scene(), CAMERA, T).render()
    v, u = np.nonzero(buffer.depth)
    height = np.full(buffer.depth.shape, np.nan)
    height[v, u] = (CAMERA.unproject(np.stack([u, v], axis=1), buffer.depth[v, u]) @ T[:3, :3].T + T[:3, 3])[:, 2]
    level = level_pixels(buffer.depth, CAMERA, T, whole)
    # Where two surfaces meet in the picture, a few pixels are level by chance.
    assert np.isin(np.round(height[level], 3), (0.3, 0.7)).mean() > 0.98
    assert {0.3, 0.7} <= set(np.round(height[level], 3).tolist())
    assert level[buffer.ids == 2].mean() < 0.01 < level[buffer.ids == 1].mean()
    top = level_pixels(buffer.depth, CAMERA, T, whole, above=0.6)
    assert top.any() and (top == level & (height > 0.6)).all()
    box = (40, 60, 70, 90)
    inside = np.zeros_like(level)
    inside[62:89, 42:69] = True
    assert (level_pixels(buffer.depth, CAMERA, T, box)[inside] == level[inside]).all()


def test_vacant_places_keep_clear_of_edges_and_of_what_was_not_measured():
    mask = np.zeros((60, 80), dtype=bool)
    mask[10:50, 10:70] = True
    level, confirmed = np.ones_like(mask), mask.copy()
    confirmed[:, :30] = False
    found = vacant(mask, level, confirmed, 4)
    v, u = np.nonzero(found)
    assert u.min() >= 34 and u.max() <= 65 and v.min() >= 14 and v.max() <= 45
    assert not vacant(mask, np.zeros_like(mask), confirmed, 4).any()
