"""Colour, depth and instance ids of a scene from any pose, with any camera."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import inverse, pose, transform

from sim.rooms.raster import clusters_in_view, rasterise, to_camera
from sim.rooms.rays import ray_table
from sim.rooms.scene import Geometry, SimScene
from sim.rooms.shading import resolve, shade_pixels

_SHADOW_SIZE = 1024
_SHADOW_FOV = np.radians(150)


@dataclass(frozen=True)
class Rendering:
    """One rendered view.

    Attributes:
        color: (H, W, 3) uint8 RGB; None if not asked for.
        depth: (H, W) float32 along the optical axis [m], exact; 0 where nothing is seen.
        ids: (H, W) int32 instance id, 0 = nothing or unannotated.
    """

    color: np.ndarray | None
    depth: np.ndarray
    ids: np.ndarray


@dataclass(frozen=True)
class _Lens:
    """What the rasteriser needs to know of a camera.

    Attributes:
        ray_x, ray_y: (H, W) viewing directions with z = 1.
        half_angle: half the opening angle of the cone about the optical axis that holds all rays [rad].
        intrinsics: fx, fy, cx, cy.
        bulge: see ``rasterise``, pad.
    """

    ray_x: np.ndarray
    ray_y: np.ndarray
    half_angle: float
    intrinsics: tuple[float, float, float, float]
    bulge: float


def _make_lens(camera: Camera) -> _Lens:
    ray_x, ray_y = ray_table(camera)
    return _Lens(
        ray_x,
        ray_y,
        float(np.arctan(np.nanmax(np.hypot(ray_x, ray_y)))) + 1e-6,
        (camera.fx, camera.fy, camera.cx, camera.cy),
        0.0 if camera.distortion_model == "none" else 0.1,
    )


_lens = lru_cache(maxsize=16)(_make_lens)


class Renderer:
    """Renders one scene. Thread-safe; the work is done outside the GIL, so threads render in parallel.

    Args:
        scene: what to draw.
        shadows: whether the lamp casts shadows; costs one render from the lamp when colour is first asked for.
    """

    def __init__(self, scene: SimScene, *, shadows: bool = True):
        self.scene = scene
        self._shadows = shadows
        self._alone: dict[int, Renderer] = {}

    def render(self, camera: Camera, T_world_camera: np.ndarray, *, color: bool = True) -> Rendering:
        """The whole scene from a pose (4x4). ``color=False`` gives depth and ids only, in half the time."""
        geometry = self.scene.geometry
        inverse_depth, face_index = draw(geometry, camera, T_world_camera)
        depth = np.empty(inverse_depth.shape, dtype=np.float32)
        ids = np.empty(inverse_depth.shape, dtype=np.int32)
        resolve(inverse_depth, face_index, geometry.face_object, depth, ids)
        image = self._shade(camera, T_world_camera, inverse_depth, face_index) if color else None
        return Rendering(image, depth, ids)

    def alone(self, object_id: int) -> Renderer:
        """A renderer of the same scene with one object only. Raises ValueError if there is no such object."""
        if object_id not in self._alone:
            lone = replace(self.scene, objects=(self.scene.object(object_id),))
            self._alone[object_id] = Renderer(lone, shadows=False)
        return self._alone[object_id]

    def surface(self, camera: Camera, T_world_camera: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What (N, 2) pixels show, between pixel centres too -> (N, 3) world points [m], NaN if nothing, (N,) ids."""
        geometry = self.scene.geometry
        pixels = np.asarray(pixels, dtype=np.float64).reshape(-1, 2)
        points, ids = np.full((len(pixels), 3), np.nan), np.zeros(len(pixels), dtype=np.int32)
        for n, (u, v) in enumerate(pixels):
            if not np.isfinite((u, v)).all():
                continue
            one = replace(camera, width=1, height=1, cx=camera.cx - u, cy=camera.cy - v)
            inverse_depth, face_index = draw(geometry, one, T_world_camera, _make_lens(one))
            if face_index[0, 0] >= 0:
                points[n] = transform(T_world_camera, one.unproject(np.zeros((1, 2)), 1.0 / inverse_depth[:1, 0])[0])
                ids[n] = geometry.face_object[face_index[0, 0]]
        return points, ids

    def _shade(self, camera, T_world_camera, inverse_depth, face_index) -> np.ndarray:
        g, lens, T = self.scene.geometry, _lens(camera), np.asarray(T_world_camera, dtype=np.float64)
        light, shadow, T_map_world, map_lens = self._lamp
        image = np.empty((*inverse_depth.shape, 3), dtype=np.uint8)
        shade_pixels(
            inverse_depth,
            face_index,
            lens.ray_x,
            lens.ray_y,
            T[:3, 3].copy(),
            T[:3, :3].copy(),
            g.vertices,
            g.normals,
            g.local,
            g.faces,
            g.vertex_material,
            g.materials,
            light,
            self.scene.lamp,
            shadow,
            T_map_world,
            map_lens,
            image,
        )
        return image

    @cached_property
    def _lamp(self):
        """Lamp position, what it sees (inverse depth), its pose and intrinsics."""
        light = transform(self.scene.T_world_room, self.scene.light)
        T_world_lamp = pose(np.diag((1.0, -1.0, -1.0)), light.tolist())
        size = _SHADOW_SIZE if self._shadows else 2
        f = size / 2 / np.tan(_SHADOW_FOV / 2)
        camera = Camera(size, size, f, f, (size - 1) / 2, (size - 1) / 2)
        shadow = draw(self.scene.geometry, camera, T_world_lamp)[0] if self._shadows else np.zeros((size, size))
        return light, shadow, inverse(T_world_lamp), (f, f, camera.cx, camera.cy)


def draw(
    geometry: Geometry, camera: Camera, T_world_camera: np.ndarray, lens: _Lens | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Rasterise -> inverse depth (H, W) float64 [1/m], 0 = nothing, and face index (H, W) int32, -1 = nothing."""
    lens = lens or _lens(camera)
    T = inverse(np.asarray(T_world_camera, dtype=np.float64))
    points = np.empty((len(geometry.vertices), 3))
    pixels = np.empty((len(geometry.vertices), 2))
    to_camera(geometry.vertices, T, lens.intrinsics, points, pixels)
    if lens.bulge:
        pixels = camera.project(points)
    inverse_depth = np.zeros((camera.height, camera.width))
    face_index = np.full((camera.height, camera.width), -1, dtype=np.int32)
    clusters = clusters_in_view(geometry.spheres, T, lens.half_angle)
    rasterise(
        points,
        pixels,
        geometry.faces,
        geometry.starts,
        clusters,
        lens.intrinsics,
        lens.bulge,
        lens.ray_x,
        lens.ray_y,
        inverse_depth,
        face_index,
    )
    return inverse_depth, face_index
