"""What wheels say of a robot's way: it drifts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from roboref_core.geometry.pose import inverse, pose

from sim.rooms.design import about


@dataclass(frozen=True)
class OdometryError:
    """How odometry is wrong; all zero: it is exact.

    Attributes:
        scale: the wheels count this share too much [1].
        turn_scale: the same of turns [1].
        slip: standard deviation of the way measured over one metre [m/sqrt(m)].
        drift: standard deviation of the heading over one metre [rad/sqrt(m)].
        turn_drift: standard deviation of the heading over a turn of one radian [rad/sqrt(rad)].
    """

    scale: float = 0.0
    turn_scale: float = 0.0
    slip: float = 0.0
    drift: float = 0.0
    turn_drift: float = 0.0


class Odometry:
    """Adds up a robot's motion as its wheels measure it.

    Attributes:
        T_odom_base: 4x4, the identity at the start.
        factor: on all errors from now on, 1 at first.

    Args:
        rng: decides everything random.
    """

    def __init__(self, error: OdometryError, T_room_base: np.ndarray, rng: np.random.Generator):
        self._error, self._rng = error, rng
        self._last = T_room_base
        self.T_odom_base = np.eye(4)
        self.factor = 1.0

    def update(self, T_room_base: np.ndarray) -> np.ndarray:
        """Go on to the robot's true pose (4x4) -> T_odom_base."""
        error, factor = self._error, self.factor
        step = inverse(self._last) @ T_room_base
        self._last = T_room_base
        way = float(np.linalg.norm(step[:3, 3]))
        turn = float(np.arctan2(step[1, 0], step[0, 0]))
        noise = self._rng.standard_normal(3)
        shift = step[:3, 3] * (1 + factor * error.scale)
        if way > 0:
            shift = shift + step[:3, 3] / way * factor * error.slip * np.sqrt(way) * noise[0]
        wrong = turn * error.turn_scale + error.drift * np.sqrt(way) * noise[1]
        wrong += error.turn_drift * np.sqrt(abs(turn)) * noise[2]
        rotation = about("z", np.degrees(factor * wrong)) @ step[:3, :3]
        self.T_odom_base = self.T_odom_base @ pose(rotation, shift.tolist())
        return self.T_odom_base
