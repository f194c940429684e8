"""A robot with an RGB-D camera in a simulated room: what it does with a command and what it sees. No ROS."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import inverse, look_at

from sim.robot.drive import Drive, RobotState, Velocity
from sim.robot.navigator import Goal, Navigator, NoWay
from sim.robot.obstacles import CELL, Obstacles
from sim.robot.odometry import Odometry, OdometryError
from sim.robot.room_changes import changed_scene, free_id
from sim.robot.walker import Walker
from sim.rooms.design import seeded
from sim.rooms.noise import DepthNoise
from sim.rooms.renderer import Renderer, Rendering
from sim.rooms.scene import SimScene

# 0 is "no time" in ROS.
FIRST_STAMP_NS = 10**9
# A robot that follows a goal waits for a person who is nearer than this before it [m].
_PERSON_AHEAD = 0.75
# Height of the laser scanner above the floor [m].
SCAN_HEIGHT = 0.2


@dataclass(frozen=True)
class RobotConfig:
    """The robot, its camera and how the simulation is wrong on purpose."""

    drive: Drive = field(default_factory=Drive)
    """The robot's size, limits and kind of drive."""
    odometry: OdometryError = field(default_factory=lambda: OdometryError(0.01, 0.01, 0.01, 0.01, 0.005))
    """How its odometry drifts."""
    start: tuple[float, float, float] | None = None
    """x y [m] and yaw [rad] in the room; default: a free place drawn from the seed."""
    rate: float = 12.0
    """Frames per second."""
    width: int = 640
    """Columns of the images; rows are three quarters of it."""
    camera_height: float = 1.2
    """Of the camera above the robot's base [m]; on a flying one it sits at the base."""
    camera_tilt: float = 0.58
    """How far it looks down [rad]: it sees the floor from 0.81 m before the robot on, and a table's top up to 2.4 m."""
    exact_depth: bool = False
    """Depth without a sensor's noise and holes."""
    command_timeout: float = 0.5
    """Without a new velocity for so long [s] the robot stops."""
    seed: int = 0
    """Of everything random."""

    def __post_init__(self) -> None:
        if not 0.1 <= self.rate <= 60 or not 32 <= self.width <= 1920 or self.width % 4:
            raise ValueError(
                f"the rate must lie in 0.1..60 Hz and the width be a multiple of 4 in 32..1920, found {self.rate} and "
                f"{self.width}"
            )


@dataclass(frozen=True)
class Observation:
    """One frame.

    Attributes:
        stamp_ns: simulated time.
        color: (H, W, 3) uint8.
        depth_mm: (H, W) uint16 [mm], 0 = no measurement.
        T_room_camera, T_room_base, T_odom_base: 4x4, the first two exact.
        collided: whether something has stopped the robot since the last frame.
        ids: (H, W) int32, which object each pixel shows, 0 = none: the truth, which no message carries.
    """

    stamp_ns: int
    color: np.ndarray
    depth_mm: np.ndarray
    T_room_camera: np.ndarray
    T_room_base: np.ndarray
    T_odom_base: np.ndarray
    collided: bool
    ids: np.ndarray


class Simulation:
    """Advances frame by frame; a pure function of room, configuration and the commands between frames.

    Attributes:
        scene: the room as it is now, without the person who walks through.
        walker: the person who walks through, None without one.
        state, velocity: of the robot.
        stamp_ns: simulated time.
        collisions: how often an obstacle stopped the robot.
        camera: of colour and depth.

    Raises ValueError if the start is not free, or the room has no free place.
    """

    def __init__(self, scene: SimScene, config: RobotConfig | None = None):
        self.config = config or RobotConfig()
        drive, flying = self.config.drive, self.config.drive.mode == "flying"
        self.walker: Walker | None = None
        self._set_scene(scene)
        self.camera = _camera(self.config.width)
        tilt = self.config.camera_tilt
        height = 0.0 if flying else self.config.camera_height
        self.T_base_camera = look_at((0, 0, height), (np.cos(tilt), 0, height - np.sin(tilt)))
        x, y, yaw = self.config.start or _free_start(self.obstacles, drive.radius, self.config.seed)
        self.state = RobotState(x, y, self.config.camera_height if flying else 0.0, yaw)
        if self.obstacles.distance(np.array((x, y)), self.state.z if flying else None) < drive.radius:
            raise ValueError(
                f"{scene.scene_id}: a robot of {drive.radius:g} m radius has no room at ({x:.2f}, {y:.2f})"
            )
        self.velocity = Velocity()
        self.navigator = Navigator(drive.radius, speed=0.8 * drive.max_speed, turn=0.8 * drive.max_turn)
        self.stamp_ns = FIRST_STAMP_NS
        self.collisions = 0
        self._frame = 0
        self._exposure = 1.0
        self._wanted, self._wanted_until = Velocity(), 0
        self._touching = False
        rng = seeded("odometry", scene.scene_id, self.config.seed)
        self._odometry = Odometry(self.config.odometry, self.state.T_room_base, rng)
        self._noise = None if self.config.exact_depth else DepthNoise()

    def command(self, velocity: Velocity) -> None:
        """Drive so until the command timeout; a goal is given up."""
        self.navigator.cancel()
        self._wanted = velocity
        self._wanted_until = self.stamp_ns + round(self.config.command_timeout * 1e9)

    def go_to(self, goal: Goal) -> None:
        """Drive to a place in the room. Raises NoWay; a flying camera has no navigator."""
        if self.config.drive.mode == "flying":
            raise NoWay("a flying camera is steered by velocities only")
        self.navigator.go_to(self.state, goal, self.obstacles)

    def change(self, change: dict[str, Any]) -> None:
        """Change the room, see ``parse_change``; the path to the goal is replanned. Raises ValueError if refused."""
        scene = changed_scene(self.scene, change)
        self._exposure = float(change.get("exposure", self._exposure))
        self._odometry.factor = float(change.get("odometry_noise", self._odometry.factor))
        if "depth_noise" in change:
            self._noise = _depth_noise(float(change["depth_noise"]))
        if "walk" in change:
            self._let_walk(int(change["walk"]))
        if scene is not self.scene:
            self._set_scene(scene)
            self.navigator.replan(self.state, self.obstacles)
            if self.walker is not None:
                self.walker.replan(self._place, self.obstacles)

    def advance(self) -> None:
        """Go on by one frame's time."""
        drive = self.config.drive
        step = round(1e9 / self.config.rate)
        pieces = max(1, round(step / 5e7))
        touching = False
        for _ in range(pieces):
            self._walk(step / pieces / 1e9)
            if self.navigator.busy:
                wanted = Velocity() if self._person_ahead() else self.navigator.velocity(self.state)
            else:
                wanted = self._wanted if self.stamp_ns < self._wanted_until else Velocity()
            self.state, self.velocity, collided = drive.move(
                self.state, self.velocity, wanted, step / pieces / 1e9, self._around
            )
            self._odometry.update(self.state.T_room_base)
            touching |= collided
        # One that stays against a wall collides once.
        self.collisions += touching and not self._touching
        self._touching = touching
        self.stamp_ns += step
        self._frame += 1

    def observe(self) -> Observation:
        """What the camera sees now."""
        T_room_base = self.state.T_room_base
        T_room_camera = T_room_base @ self.T_base_camera
        rendering = self._render(self.scene.T_world_room @ T_room_camera)
        assert rendering.color is not None, "rendered with colour"
        color, depth = rendering.color, rendering.depth
        if self._exposure != 1.0:
            color = np.clip(color * self._exposure, 0, 255).astype(np.uint8)
        if self._noise is not None:
            depth = self._noise(depth, self.camera, seeded("depth", self.scene.scene_id, self.config.seed, self._frame))
        return Observation(
            self.stamp_ns,
            color,
            np.rint(depth * 1000).astype(np.uint16),
            T_room_camera,
            T_room_base,
            self._odometry.T_odom_base,
            self._touching,
            rendering.ids,
        )

    @property
    def T_room_odom(self) -> np.ndarray:
        """4x4: where odometry's origin would have to be for it to be right now."""
        return self.state.T_room_base @ inverse(self._odometry.T_odom_base)

    def scan(self, bearings: np.ndarray) -> np.ndarray:
        """Ranges of a level laser scanner in the middle of the robot -> (N,) [m], exact.

        Args:
            bearings: (N,) in the robot's frame [rad].
        """
        return self._around.ranges(self._place, self.state.yaw + bearings, SCAN_HEIGHT)

    def occupied(self) -> np.ndarray:
        """(X, Y) bool cells of ``CELL`` that something lower than a person stands in."""
        return ~self.obstacles.free(CELL / 2)

    def objects(self) -> list[dict[str, Any]]:
        """What stands in the room: id, label, colour, and place of its foot in the room's frame [m].

        A person who walks through is not among them.
        """
        T_room_world = inverse(self.scene.T_world_room)
        return [
            {
                "id": o.object_id,
                "label": o.label,
                "color": o.color,
                "position": (T_room_world @ o.T_world_object)[:3, 3].round(3).tolist(),
            }
            for o in self.scene.furniture
        ]

    @property
    def _place(self) -> np.ndarray:
        return np.array((self.state.x, self.state.y))

    def _let_walk(self, seed: int) -> None:
        if self.walker is not None:
            raise ValueError(f"{self.scene.scene_id}: somebody walks through already")
        self._walker_id = free_id(self.scene)
        self.walker = Walker(self.scene, self.obstacles, seed, self._place, self.config.drive.radius)
        self._walk(0.0)

    def _walk(self, seconds: float) -> None:
        walker = self.walker
        if walker is None:
            return
        walker.advance(seconds, self._place, self.obstacles)
        if walker.gone:
            self.walker, self._around = None, self.obstacles
        else:
            self._around = self.obstacles.with_thing(walker.thing(self.scene, self._walker_id))

    def _person_ahead(self) -> bool:
        if self.walker is None:
            return False
        away = np.array((self.walker.x, self.walker.y)) - self._place
        ahead = away @ (np.cos(self.state.yaw), np.sin(self.state.yaw))
        return bool(np.linalg.norm(away) < _PERSON_AHEAD and ahead > 0)

    def _render(self, T_world_camera: np.ndarray) -> Rendering:
        """A person who walks casts no shadow, so the room's light stays as it was computed."""
        room = self._renderer.render(self.camera, T_world_camera)
        if self.walker is None:
            return room
        alone = replace(self.scene, objects=(self.walker.thing(self.scene, self._walker_id),))
        person = Renderer(alone, shadows=False).render(self.camera, T_world_camera)
        assert room.color is not None and person.color is not None, "rendered with colour"
        nearer = (person.depth > 0) & ((room.depth == 0) | (person.depth < room.depth))
        return Rendering(
            np.where(nearer[..., None], person.color, room.color),
            np.where(nearer, person.depth, room.depth),
            np.where(nearer, person.ids, room.ids),
        )

    def _set_scene(self, scene: SimScene) -> None:
        self.scene = scene
        obstacles = Obstacles(scene)
        self.obstacles, self._around = obstacles, obstacles
        self._renderer = Renderer(scene)


def _depth_noise(factor: float) -> DepthNoise | None:
    """A Kinect's noise times a factor; None for 0: exact."""
    return replace(DepthNoise(), axial=factor, lateral=0.5 * factor) if factor > 0 else None


def _camera(width: int) -> Camera:
    """The simulated scans' camera at another size; pixel centres are at integers."""
    height, f = width * 3 // 4, 577.8706 * width / 640
    return Camera(width, height, f, f, (width - 1) / 2, (height - 1) / 2)


def _free_start(obstacles: Obstacles, radius: float, seed: int) -> tuple[float, float, float]:
    rng = seeded("start", seed)
    for margin in (0.2, 0.1, 0.03):
        cells = np.argwhere(obstacles.free(radius + margin))
        if len(cells):
            x, y = (cells[int(rng.integers(len(cells)))] + 0.5) * CELL
            return float(x), float(y), float(rng.uniform(-np.pi, np.pi))
    raise ValueError(f"the room has no free place for a robot of {radius:g} m radius")
