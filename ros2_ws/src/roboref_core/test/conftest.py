"""An analytic world for the geometry tests: exact depth of a room with spheres, from any pose."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import look_at, transform
from roboref_core.views.view import View

# On a robot the learned models' packages may be absent: their tests are left out, and the header says so.
NEEDED = {"backends": "transformers", "roborefer": "transformers", "serve": "uvicorn"}
collect_ignore = [folder for folder, package in NEEDED.items() if find_spec(package) is None]


def pytest_report_header():
    return [f"without {NEEDED[folder]}: {folder} is not tested" for folder in collect_ignore]


class AnalyticRoom:
    """A 6 x 5 x 3 m box seen from inside, with spheres ((x, y, z), radius) in it. Depth is exact."""

    low, high = np.array([-3.0, -2.5, 0.0]), np.array([3.0, 2.5, 3.0])

    def __init__(self, spheres=(((0.0, 0.0, 0.5), 0.5), ((1.5, 1.0, 0.4), 0.4))):
        self.spheres = [(np.array(c, dtype=float), r) for c, r in spheres]

    def distances(self, origin, directions):
        """(N,) distance along (N, 3) directions from inside the room, in multiples of the direction."""
        with np.errstate(divide="ignore"):
            t = np.maximum((self.low - origin) / directions, (self.high - origin) / directions).min(axis=1)
        for centre, radius in self.spheres:
            a = (directions**2).sum(axis=1)
            b = directions @ (origin - centre)
            c = ((origin - centre) ** 2).sum() - radius**2
            root = b * b - a * c
            hit = (-b - np.sqrt(np.maximum(root, 0))) / a
            t = np.where((root > 0) & (hit > 0) & (hit < t), hit, t)
        return t

    def depth(self, camera: Camera, T_world_camera: np.ndarray) -> np.ndarray:
        pixels = np.stack(np.meshgrid(np.arange(camera.width), np.arange(camera.height)), axis=-1).reshape(-1, 2)
        directions = camera.rays(pixels) @ T_world_camera[:3, :3].T
        return self.distances(T_world_camera[:3, 3], directions).reshape(camera.height, camera.width)

    def sees(self, T_world_camera: np.ndarray, point: np.ndarray) -> float:
        """How far the first surface towards ``point`` lies in front of it [m]; 0: the point is seen."""
        origin = T_world_camera[:3, 3]
        direction = (point - origin)[None]
        return float((1 - self.distances(origin, direction)[0]) * np.linalg.norm(direction))

    def point(self, view: View, pixel) -> np.ndarray:
        """The exact world point at ``pixel`` of a view."""
        direction = view.camera.rays(np.array([pixel]))[0]
        T = view.T_world_camera
        return transform(T, direction * self.distances(T[:3, 3], (T[:3, :3] @ direction)[None])[0])

    def view(self, T_world_camera, camera=None, depth_camera=None, view_id="view", stamp_ns=0, **changes) -> View:
        camera = camera or Camera(160, 120, 140.0, 140.0, 79.5, 59.5)
        depth_camera = depth_camera or camera
        fields = {
            "view_id": view_id,
            "stamp_ns": stamp_ns,
            "color": np.zeros((camera.height, camera.width, 3), np.uint8),
            "camera": camera,
            "depth": self.depth(depth_camera, T_world_camera).astype(np.float32),
            "depth_camera": depth_camera,
            "T_world_camera": T_world_camera,
        }
        return View(**(fields | changes))

    def textured(self, T_world_camera, camera=None, depth_camera=None, view_id="view", **fields) -> View:
        """A view in which the surfaces carry a pattern that is fixed to the world."""
        camera = camera or Camera(320, 240, 280.0, 280.0, 159.5, 119.5)
        pixels = np.stack(np.meshgrid(np.arange(camera.width), np.arange(camera.height)), axis=-1).reshape(-1, 2)
        directions = camera.rays(pixels) @ T_world_camera[:3, :3].T
        points = T_world_camera[:3, 3] + directions * self.distances(T_world_camera[:3, 3], directions)[:, None]
        rng = np.random.default_rng(0)
        waves, phases = rng.normal(0, 9.0, (24, 3)), rng.uniform(0, 2 * np.pi, 24)
        grey = np.sin(points @ waves.T + phases).sum(axis=1) * 22 + 128
        color = np.repeat(grey.clip(0, 255).astype(np.uint8).reshape(camera.height, camera.width, 1), 3, axis=2)
        return self.view(T_world_camera, camera, depth_camera, view_id, **({"color": color} | fields))


@pytest.fixture(scope="session")
def room() -> AnalyticRoom:
    return AnalyticRoom()


@pytest.fixture(scope="session")
def poses() -> list[np.ndarray]:
    """Eight camera poses around the room's first sphere, and one that looks away."""
    around = [look_at((2.2 * np.cos(a), 1.9 * np.sin(a), 1.4), (0.0, 0.0, 0.5)) for a in np.arange(8) * (2 * np.pi / 8)]
    return [*around, look_at((-2.0, -1.5, 1.4), (-3.0, -2.0, 1.0))]
