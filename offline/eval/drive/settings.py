"""What the result of an episode depends on, besides its room, number, condition and agent."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Literal

from roboref_core.pursuit import GoToConfig

from offline.files import json_bytes
from sim.robot.odometry import OdometryError
from sim.robot.simulation import RobotConfig


class Condition(StrEnum):
    """What is made difficult."""

    EXACT = "exact"
    """Nothing: exact camera poses, and the room stays as it is."""
    DRIFTING = "drifting"
    """Camera poses are what odometry says since the tour began; localisation tells the odometry's frame in the map."""
    MOVED = "moved"
    """The thing was put elsewhere after the tour."""
    REMOVED = "removed"
    """The thing was taken away after the tour; right is to say that it is not there."""
    OCCLUDED = "occluded"
    """The robot starts facing the thing, and something hides all of it."""
    DUPLICATES = "duplicates"
    """The room has another thing of the same kind; one is brought after the tour where there is none."""


@dataclass(frozen=True)
class DriveSettings:
    """The robot, its rooms and its ways."""

    ask: Literal["marks", "words"] = "marks"
    """By a mark in a view of the tour and the thing's name, or in words alone that fit nothing else in the room."""
    seed: int = 0
    """Of tours, goals, starts, changes and noise; the rooms' own seeds are their numbers."""
    width: int = 320
    """Columns of the camera's pictures; rows are three quarters of it."""
    triangles: int = 60_000
    """About how many triangles a room is drawn with."""
    camera_height: float = RobotConfig.camera_height
    """Of the camera above the floor [m]."""
    camera_tilt: float = RobotConfig.camera_tilt
    """How far the camera looks down [rad]."""
    waypoints: int = 4
    """Places of the tour at which the robot turns once around."""
    success_distance: float = 1.0
    """Largest distance of the robot's centre from the thing's surface, over the floor, that is there [m]."""
    in_view: float = 0.001
    """Least share of the picture that the thing must fill to be in view."""
    start_distance: float = 1.0
    """Shortest way from a start to a place before the thing [m]."""
    odometry: OdometryError = field(default_factory=lambda: OdometryError(0.01, 0.003, 0.01, 0.01, 0.005))
    """How odometry drifts where it does; turns as well as wheels and a gyroscope together measure them."""
    pose_sigma: tuple[float, float] = (0.1, 0.035)
    """Error of a camera pose that the robot declares where odometry drifts [m], [rad]."""
    go_to: GoToConfig = field(default_factory=lambda: GoToConfig(distance=0.65, radius=0.2))
    """How it asks, approaches and gives up: the configuration of go_to. Its furthest standing place, half as far again
    as its distance, is within the success distance."""

    def __post_init__(self) -> None:
        for name in ("waypoints", "success_distance", "in_view", "start_distance"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, found {getattr(self, name)}")
        self.robot()

    def robot(self, **changes: object) -> RobotConfig:
        """The simulated robot. Raises ValueError for what it cannot be."""
        config = RobotConfig(
            odometry=self.odometry,
            rate=10.0,
            width=self.width,
            camera_height=self.camera_height,
            camera_tilt=self.camera_tilt,
            seed=self.seed,
        )
        return replace(config, **changes)  # type: ignore[arg-type]

    @property
    def digest(self) -> str:
        return hashlib.sha256(json_bytes(asdict(self))).hexdigest()[:16]
