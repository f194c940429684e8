"""The 3D scene: points of reference views, camera frusta, targets with their ellipsoids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from nicegui import ui
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import transform

from page.pictures import FOUND, REMEMBERED
from page.robot import ViewPictures, ViewSummary

_POINTS_PER_VIEW = 4000
_FRUSTUM_DEPTH = 0.25
# Pictures a second of the scene; it is drawn by the browser's own processor where that has no graphics card.
IDLE_FPS, _TOUCHED_FPS = 2, 20
# Standard deviations on each side that hold 95 % of a 3D normal distribution.
_SIGMAS_95 = 2.8
_WAY_HEIGHT = 0.02
ROBOT = "#4ade80"
# So that an exact point can be seen too [m].
_MIN_RADIUS = 0.015


def view_points(view: ViewPictures) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3) points [m] in the view's world frame and their (N, 3) colours in [0, 1]; none without depth or pose."""
    T = view.summary.T_world_camera
    if T is None or view.depth is None:
        return np.zeros((0, 3)), np.zeros((0, 3))
    height, width = view.depth.shape
    step = max(1, int(np.sqrt(height * width / _POINTS_PER_VIEW)))
    v, u = np.mgrid[step // 2 : height : step, step // 2 : width : step].reshape(2, -1)
    z = view.depth[v, u]
    known = np.isfinite(z) & (z > 0)
    u, v, z = u[known], v[known], z[known]
    # Depth is registered to colour but may differ in size: pixel centres scale about the corner of the image.
    scale = np.array([view.summary.camera.width / width, view.summary.camera.height / height])
    pixels = (np.stack([u, v], axis=1) + 0.5) * scale - 0.5
    points = transform(T, view.summary.camera.rays(pixels) * z[:, None])
    row, column = pixels.round().astype(int).T[::-1]
    inside = (
        np.clip(row, 0, view.color.shape[0] - 1),
        np.clip(column, 0, view.color.shape[1] - 1),
    )
    return points, view.color[inside] / 255.0


def frustum(camera: Camera, T_world_camera: np.ndarray) -> np.ndarray:
    """(8, 2, 3) line segments [m] of a camera's pyramid."""
    w, h = camera.width - 1, camera.height - 1
    corners = transform(T_world_camera, _FRUSTUM_DEPTH * camera.rays(np.array([(0, 0), (w, 0), (w, h), (0, h)], float)))
    apex = T_world_camera[:3, 3]
    sides = [(apex, corner) for corner in corners]
    return np.array(sides + [(corners[i], corners[(i + 1) % 4]) for i in range(4)])


class Space:
    """Keeps the drawn objects in step with what is known."""

    def __init__(self, scene: ui.scene):
        self._scene = scene
        for event, fps in (("mouseenter", _TOUCHED_FPS), ("touchstart", _TOUCHED_FPS), ("mouseleave", IDLE_FPS)):
            scene.on(event, lambda _, fps=fps: self._draw_at(fps), args=[])
        self._views: dict[str, list] = {}
        self._targets: list = []
        self._robot: Any = None
        self._way: list[Any] = []
        self._drawn_way = 0

    def _draw_at(self, fps: int) -> None:
        self._scene.props["fps"] = fps
        self._scene.update()

    def add_view(self, view: ViewPictures) -> None:
        if view.summary.view_id in self._views or view.summary.T_world_camera is None:
            return
        points, colors = view_points(view)
        if not self._views and len(points):
            self.look_at(np.median(points, axis=0))
        with self._scene:
            drawn: list = [
                self._scene.line(list(map(float, a)), list(map(float, b))).material("#7fb2ff")
                for a, b in frustum(view.summary.camera, view.summary.T_world_camera)
            ]
            if len(points):
                drawn.append(
                    self._scene.point_cloud(points.round(3).tolist(), colors.round(2).tolist(), point_size=0.02)
                )
        self._views[view.summary.view_id] = drawn

    def keep_only(self, views: Sequence[ViewSummary]) -> None:
        """Remove what is drawn of views that the node no longer has."""
        known = {view.view_id for view in views}
        for view_id in [view_id for view_id in self._views if view_id not in known]:
            for item in self._views.pop(view_id):
                item.delete()

    def show_targets(self, located: Sequence[tuple[np.ndarray, np.ndarray | None, bool]]) -> None:
        """Args: located: position (3,) [m], covariance (3, 3) [m^2] or None, and whether it is only remembered."""
        for item in self._targets:
            item.delete()
        self._targets = []
        with self._scene:
            for position, covariance, remembered in located:
                axes, radii = np.eye(3), np.full(3, 2 * _MIN_RADIUS)
                if covariance is not None and np.isfinite(covariance).all():
                    variances, axes = np.linalg.eigh(covariance)
                    axes = axes * np.sign(np.linalg.det(axes))
                    radii = np.maximum(_SIGMAS_95 * np.sqrt(np.maximum(variances, 0)), _MIN_RADIUS)
                sphere = self._scene.sphere(1.0).material(REMEMBERED if remembered else FOUND, 0.6)
                sphere.scale(*map(float, radii)).rotate_R(axes.tolist()).move(*map(float, position))
                self._targets.append(sphere)

    def show_robot(self, T_world_base: np.ndarray, way: Sequence[np.ndarray]) -> None:
        """The robot as a disc with a nose, and the way that it drove.

        Args:
            T_world_base: 4x4, x forward, z up.
            way: (2,) places [m], to which later calls add.
        """
        with self._scene:
            if self._robot is None:
                with self._scene.group() as self._robot:
                    self._scene.cylinder(0.18, 0.18, 0.1).rotate(np.pi / 2, 0, 0).move(z=0.05).material(ROBOT, 0.9)
                    self._scene.box(0.18, 0.05, 0.05).move(x=0.18, z=0.08).material(ROBOT)
            if len(way) < self._drawn_way:
                for piece in self._way:
                    piece.delete()
                self._way, self._drawn_way = [], 0
            for a, b in zip(way[max(0, self._drawn_way - 1) :], way[max(1, self._drawn_way) :], strict=False):
                line = self._scene.line([*map(float, a), _WAY_HEIGHT], [*map(float, b), _WAY_HEIGHT])
                self._way.append(line.material(ROBOT))
            self._drawn_way = len(way)
        x, y, _ = map(float, T_world_base[:3, 3])
        self._robot.move(x, y, 0.0).rotate_R(T_world_base[:3, :3].tolist())

    def look_at(self, point: np.ndarray, eye: np.ndarray | None = None) -> None:
        """Turn to a point (3,) [m], from above ``eye`` (2,), or from aside."""
        x, y, z = map(float, point)
        away = np.array((-1.5, -1.5)) if eye is None else np.asarray(eye, dtype=float) - point[:2]
        ahead, left = away / max(float(np.linalg.norm(away)), 1e-6) * max(float(np.linalg.norm(away)), 1.2)
        self._scene.move_camera(x=x + ahead, y=y + left, z=z + 1.5, look_at_x=x, look_at_y=y, look_at_z=z)
