"""What a robot has seen before it is asked: a tour of a room, rendered once for all its episodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import inverse, rotation_angle
from roboref_core.seeds import rng_of
from roboref_core.views.view import View

from offline.eval.drive.floor import nearest_free, ways
from offline.eval.drive.settings import DriveSettings
from sim.robot.drive import RobotState
from sim.robot.navigator import Goal, NoWay
from sim.robot.obstacles import CELL
from sim.robot.simulation import Observation, Simulation
from sim.rooms.rooms import make_scene
from sim.rooms.scene import SimScene

MAP, ODOM = "map", "odom"
# The camera's motion between two views of the tour [m], [rad].
_STEP, _TURN = 0.25, np.radians(24.0)
_CLEARANCES = (0.2, 0.1, 0.05)
_LONGEST_NS = 300 * 10**9


@dataclass(frozen=True, eq=False)
class Tour:
    """Attributes:
    scene: the room.
    camera: of all views.
    views: what was seen, in turn.
    start, end: where the robot was.
    T_odom_end: 4x4, where the robot is at the end as its odometry says, whose frame is the map's at the start.
    stamp_ns: of the end.
    """

    scene: SimScene
    camera: Camera
    views: tuple[Observation, ...]
    start: RobotState
    end: RobotState
    T_odom_end: np.ndarray
    stamp_ns: int

    def remembered(self, drifts: bool) -> tuple[View, ...]:
        """New views of the tour, for one episode: registrations and features are kept with a view, and those of an
        earlier episode would make results depend on the order.

        Args:
            drifts: in the poses that odometry says, in its frame; else in their true poses, in the map.
        """
        return tuple(
            as_view(
                f"tour-{i:03d}",
                seen,
                self.camera,
                self._odometric(seen) if drifts else seen.T_room_camera,
                ODOM if drifts else MAP,
            )
            for i, seen in enumerate(self.views)
        )

    def _odometric(self, seen: Observation) -> np.ndarray:
        """4x4 T_odom_camera, by way of the base."""
        return self.start.T_room_base @ seen.T_odom_base @ inverse(seen.T_room_base) @ seen.T_room_camera


def as_view(view_id: str, seen: Observation, camera: Camera, T_world_camera: np.ndarray, frame: str) -> View:
    return View(
        view_id=view_id,
        stamp_ns=seen.stamp_ns,
        color=seen.color,
        camera=camera,
        depth=seen.depth_mm.astype(np.float32) / 1000,
        T_world_camera=T_world_camera,
        world_frame=frame,
    )


def make_tour(room: int, settings: DriveSettings) -> Tour:
    """Drive through the room of a seed, from place to place, turning once around at each; a pure function.

    Raises ValueError if the room has no free place for the robot.
    """
    scene = make_scene(room, triangles=settings.triangles)
    simulation = Simulation(scene, settings.robot(seed=settings.seed * 10_000 + room))
    start = simulation.state
    views: list[Observation] = [simulation.observe()]
    for n, (x, y) in enumerate(_waypoints(simulation, settings)):
        # Left and right in turn, as somebody does who does not want to drill himself into the floor.
        side = 1 if n % 2 else -1
        for k in range(4):
            yaw = None if k == 0 else simulation.state.yaw + side * 2 * np.pi / 3
            try:
                simulation.go_to(Goal(x, y, yaw))
            except NoWay:
                break
            while simulation.navigator.busy and simulation.stamp_ns < _LONGEST_NS:
                simulation.advance()
                if _moved(simulation, views[-1]):
                    views.append(simulation.observe())
    last = simulation.observe()
    return Tour(
        scene,
        simulation.camera,
        tuple(views),
        start,
        simulation.state,
        start.T_room_base @ last.T_odom_base,
        simulation.stamp_ns,
    )


def _moved(simulation: Simulation, before: Observation) -> bool:
    motion = inverse(before.T_room_base) @ simulation.state.T_room_base
    return bool(np.linalg.norm(motion[:3, 3]) >= _STEP or rotation_angle(motion) >= _TURN)


def _waypoints(simulation: Simulation, settings: DriveSettings) -> list[tuple[float, float]]:
    """Free places far from one another, the first where the robot stands, in the order of a short way."""
    here = (simulation.state.x, simulation.state.y)
    for clearance in _CLEARANCES:
        free = simulation.obstacles.free(simulation.config.drive.radius + clearance)
        cells = np.argwhere(free)
        rng = rng_of("waypoints", settings.seed, simulation.scene.scene_id)
        cells = cells[rng.permutation(len(cells))[:200]]
        reachable = ways(free, nearest_free(free, here))
        places = (cells[np.isfinite(reachable[tuple(cells.T)])] + 0.5) * CELL
        if len(places) >= settings.waypoints or (clearance == _CLEARANCES[-1] and len(places)):
            break
    else:
        return [here]
    chosen = [np.array(here)]
    while len(chosen) < min(settings.waypoints, len(places)):
        gaps = np.min([np.linalg.norm(places - other, axis=1) for other in chosen], axis=0)
        chosen.append(places[int(gaps.argmax())])
    ordered = [chosen.pop(0)]
    while chosen:
        ordered.append(chosen.pop(int(np.argmin([np.linalg.norm(p - ordered[-1]) for p in chosen]))))
    return [(float(x), float(y)) for x, y in ordered]
