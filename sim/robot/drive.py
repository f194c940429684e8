"""How a robot moves: a differential drive on the floor, or a camera that flies; collisions stop it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from roboref_core.geometry.pose import pose

from sim.robot.obstacles import Obstacles
from sim.rooms.design import about

_STEP_S = 0.025


@dataclass(frozen=True)
class Velocity:
    """A command in the robot's frame: forward, left and up [m/s], turn to the left [rad/s], nose up [rad/s].

    A differential drive takes forward and turn only.
    """

    forward: float = 0.0
    left: float = 0.0
    up: float = 0.0
    turn: float = 0.0
    nod: float = 0.0


@dataclass(frozen=True)
class RobotState:
    """Where the robot is in the room: x, y, z of its base [m], yaw and pitch [rad]."""

    x: float
    y: float
    z: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0

    @property
    def T_room_base(self) -> np.ndarray:
        """4x4; x forward, y left, z up."""
        rotation = about("z", np.degrees(self.yaw)) @ about("y", -np.degrees(self.pitch))
        return pose(rotation, (self.x, self.y, self.z))


@dataclass(frozen=True)
class Drive:
    """Limits of a robot and how it moves.

    Attributes:
        mode: "differential" on the floor, "flying" freely.
        radius: radius of the robot, which is a cylinder or, flying, a ball [m].
        max_speed: faster commands are cut to this [m/s].
        max_turn: faster turns are cut to this [rad/s].
        acceleration: largest change of speed [m/s^2].
        turn_acceleration: largest change of the turning speed [rad/s^2].
    """

    mode: Literal["differential", "flying"] = "differential"
    radius: float = 0.18
    max_speed: float = 0.5
    max_turn: float = 1.5
    acceleration: float = 1.0
    turn_acceleration: float = 4.0

    def __post_init__(self) -> None:
        if min(self.radius, self.max_speed, self.max_turn, self.acceleration, self.turn_acceleration) <= 0:
            raise ValueError("radius, speeds and accelerations of a robot must be positive")

    def limited(self, wanted: Velocity, now: Velocity, seconds: float) -> Velocity:
        """The velocity that the robot reaches within ``seconds``; NaN and infinite commands count as 0."""
        flying = self.mode == "flying"

        def reach(name: str, limit: float, acceleration: float, possible: bool = True) -> float:
            value, before = getattr(wanted, name), getattr(now, name)
            value = float(np.clip(value, -limit, limit)) if possible and np.isfinite(value) else 0.0
            return float(np.clip(value, before - acceleration * seconds, before + acceleration * seconds))

        return Velocity(
            reach("forward", self.max_speed, self.acceleration),
            reach("left", self.max_speed, self.acceleration, flying),
            reach("up", self.max_speed, self.acceleration, flying),
            reach("turn", self.max_turn, self.turn_acceleration),
            reach("nod", self.max_turn, self.turn_acceleration, flying),
        )

    def move(
        self, state: RobotState, velocity: Velocity, wanted: Velocity, seconds: float, obstacles: Obstacles
    ) -> tuple[RobotState, Velocity, bool]:
        """Drive for ``seconds`` -> state, velocity, and whether an obstacle stopped the robot.

        Stopped, it stands where it last was free, and may turn.
        """
        collided = False
        steps = max(1, round(seconds / _STEP_S))
        for _ in range(steps):
            velocity = self.limited(wanted, velocity, seconds / steps)
            moved = _moved(state, velocity, seconds / steps)
            after = self._clearance(moved, obstacles)
            # Something put down on the robot must not hold it for ever: it may leave, not go deeper.
            if after >= 0 or after > self._clearance(state, obstacles):
                state = moved
                continue
            collided = True
            velocity = replace(velocity, forward=0.0, left=0.0, up=0.0)
            state = replace(state, yaw=moved.yaw, pitch=moved.pitch)
        return state, velocity, collided

    def _clearance(self, state: RobotState, obstacles: Obstacles) -> float:
        height = state.z if self.mode == "flying" else None
        return obstacles.distance(np.array((state.x, state.y)), height) - self.radius


def _moved(state: RobotState, velocity: Velocity, seconds: float) -> RobotState:
    """Constant velocity for a short while: an arc, taken at its middle heading."""
    turn = velocity.turn * seconds
    heading = state.yaw + turn / 2
    c, s = np.cos(heading), np.sin(heading)
    return RobotState(
        float(state.x + (velocity.forward * c - velocity.left * s) * seconds),
        float(state.y + (velocity.forward * s + velocity.left * c) * seconds),
        state.z + velocity.up * seconds,
        float((state.yaw + turn + np.pi) % (2 * np.pi) - np.pi),
        float(np.clip(state.pitch + velocity.nod * seconds, -1.4, 1.4)),
    )
