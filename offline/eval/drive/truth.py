"""The truth about a thing in a room: its surface, from where it is in view, and how far that is to drive."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import inverse, look_at, transform

from offline.eval.drive.floor import at, ways
from offline.eval.drive.settings import DriveSettings
from offline.eval.replay.truth.surface import ObjectSurface
from sim.robot.drive import RobotState
from sim.robot.obstacles import CELL, Obstacles
from sim.rooms.renderer import Renderer
from sim.rooms.scene import SimScene

# Of the robot from obstacles, beyond its radius, where the navigator still drives [m].
_MARGIN = 0.06
_VIEWPOINTS, _GLANCE_WIDTH = 24, 80


class Place:
    """A thing where it is. Positions are in the map, which is the room's frame.

    Args:
        radius: of the robot [m].

    Attributes:
        surface: the thing's.
        middle: (3,) of it [m].
    """

    def __init__(self, scene: SimScene, object_id: int, settings: DriveSettings, camera: Camera, radius: float):
        self.scene, self.object_id, self._settings, self._radius = scene, object_id, settings, radius
        scale = camera.width / _GLANCE_WIDTH
        self._camera = replace(
            camera,
            width=_GLANCE_WIDTH,
            height=round(camera.height / scale),
            fx=camera.fx / scale,
            fy=camera.fy / scale,
            cx=(camera.cx + 0.5) / scale - 0.5,
            cy=(camera.cy + 0.5) / scale - 0.5,
        )
        self._renderer = Renderer(scene, shadows=False)
        self.surface = surface_of(scene, object_id)
        self.middle = (self.surface.points.min(axis=0) + self.surface.points.max(axis=0)) / 2

    @cached_property
    def obstacles(self) -> Obstacles:
        return Obstacles(self.scene)

    @cached_property
    def free(self) -> np.ndarray:
        """(X, Y) bool cells in which the robot may be."""
        return self.obstacles.free(self._radius + _MARGIN)

    @cached_property
    def viewpoints(self) -> np.ndarray:
        """(N, 2) some free places within the success distance of the thing from which it is well in view [m]."""
        cells = np.argwhere(self.free)
        places = (cells + 0.5) * CELL
        if not len(places):
            return places
        distances = np.array([self.surface.distance_over_floor(place) for place in places])
        near = places[distances <= self._settings.success_distance - 0.05]
        bearings = np.arctan2(*(near - self.middle[:2]).T[::-1])
        near = near[np.argsort(bearings, kind="stable")]
        some = near[np.unique(np.linspace(0, len(near) - 1, _VIEWPOINTS).round().astype(int))] if len(near) else near
        seen = [self.share(self.facing(place)) >= 2 * self._settings.in_view for place in some]
        return some[np.array(seen, dtype=bool)]

    def facing(self, place: np.ndarray) -> RobotState:
        """The robot at (2,) ``place``, turned to the thing."""
        away = self.middle[:2] - place
        return RobotState(float(place[0]), float(place[1]), 0.0, float(np.arctan2(away[1], away[0])))

    def share(self, state: RobotState) -> float:
        """Of the picture that the thing fills, in [0, 1]."""
        return float((self._ids(self._renderer, state) == self.object_id).mean())

    def share_alone(self, state: RobotState) -> float:
        """The same if nothing else were in the room."""
        return float((self._ids(self._renderer.alone(self.object_id), state) > 0).mean())

    def way(self, start: tuple[float, float]) -> float:
        """Length of the shortest way from a place to one of the viewpoints [m]; infinite without one."""
        return at(self._ways, start)

    @cached_property
    def _ways(self) -> np.ndarray:
        return ways(self.free, self.viewpoints)

    def _ids(self, renderer: Renderer, state: RobotState) -> np.ndarray:
        height, tilt = self._settings.camera_height, self._settings.camera_tilt
        T_base_camera = look_at((0, 0, height), (np.cos(tilt), 0, height - np.sin(tilt)))
        T_world_camera = self.scene.T_world_room @ state.T_room_base @ T_base_camera
        return renderer.render(self._camera, T_world_camera, color=False).ids


def surface_of(scene: SimScene, object_id: int) -> ObjectSurface:
    """Of an object, in the room's frame. Raises ValueError if there is none."""
    lone = replace(scene, objects=(scene.object(object_id),))
    mesh = lone.mesh()
    vertices = transform(inverse(scene.T_world_room), mesh.vertices.astype(np.float64))
    return ObjectSurface(replace(mesh, vertices=vertices), lone.instances(), object_id)
