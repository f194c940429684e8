"""A person who walks through a room by themselves: in at one free place, out at another."""

from __future__ import annotations

import numpy as np
from roboref_core.geometry.pose import pose

from sim.robot.navigator import plan
from sim.robot.obstacles import CELL, Obstacles
from sim.rooms.design import about, seeded
from sim.rooms.person import person
from sim.rooms.scene import SimObject, SimScene

# Half of a person's width and some air; what they keep from a robot besides that [m].
_CLEARANCE, _FROM_ROBOT = 0.28, 0.15
_SPEED = 0.8
# Longest wait for a robot that stands in the way, before they go around it or turn back [s].
_PATIENCE = 2.0
# Share of the longest way of the room that theirs has at least [1].
_LONG = 0.6


class Walker:
    """Walks a path; a pure function of room, seed and where the robot is from step to step.

    Attributes:
        x, y, yaw: in the room's frame [m], [rad].
        gone: has walked out.

    Args:
        seed: picks who it is and the path.
        robot: (2,) where the robot stands; they come in away from it.

    Raises ValueError if the room has no way that is wide enough.
    """

    def __init__(self, scene: SimScene, obstacles: Obstacles, seed: int, robot: np.ndarray, robot_radius: float):
        rng = seeded("walker", scene.scene_id, seed)
        self._design = person(rng)
        self._keep = robot_radius + _CLEARANCE + _FROM_ROBOT
        free = obstacles.free(_CLEARANCE) & self._clear_of(obstacles.free(_CLEARANCE).shape, robot)
        cells = np.argwhere(free)
        ways = [
            way
            for first, last in rng.integers(len(cells), size=(12, 2))
            if len(cells)
            if (way := plan(free, _place(cells[first]), _place(cells[last]), CELL)) is not None
        ]
        ways = [way for way in ways if len(way) > 1]
        if not ways:
            raise ValueError(f"{scene.scene_id}: there is no way for a person to walk")
        longest = max(map(len, ways))
        self._follow(next(way for way in ways if len(way) >= _LONG * longest))
        self._entrance = self._way[0]
        self.x, self.y = self._way[0].tolist()
        self.yaw = float(np.arctan2(*(self._way[1] - self._way[0])[::-1]))
        self.gone = False
        self._waited = 0.0

    def advance(self, seconds: float, robot: np.ndarray, obstacles: Obstacles) -> None:
        """Walk on. They wait for a robot in their way, then go around it or turn back.

        Args:
            robot: (2,) where it is [m].
            obstacles: of the room, without the person.
        """
        ahead = self._at(self._walked + _SPEED * seconds)
        here = np.array((self.x, self.y))
        nearer = np.linalg.norm(ahead - robot) < np.linalg.norm(here - robot)
        if nearer and np.linalg.norm(ahead - robot) < self._keep:
            self._waited += seconds
            if self._waited > _PATIENCE:
                self._waited = 0.0
                self.replan(robot, obstacles)
            return
        self._waited = 0.0
        self._walked += _SPEED * seconds
        if np.linalg.norm(ahead - here) > 1e-9:
            self.yaw = float(np.arctan2(*(ahead - here)[::-1]))
        self.x, self.y = ahead.tolist()
        self.gone = self._walked >= self._lengths[-1]

    def replan(self, robot: np.ndarray, obstacles: Obstacles) -> None:
        """A way around the robot to where they wanted to go, else back to where they came in, else they wait."""
        free = obstacles.free(_CLEARANCE)
        free = free & self._clear_of(free.shape, robot)
        for goal in (self._way[-1], self._entrance):
            way = plan(free, (self.x, self.y), tuple(goal.tolist()), 3 * CELL)
            if way is not None and len(way) > 1:
                self._follow(np.vstack([(self.x, self.y), way]))
                return

    def thing(self, scene: SimScene, object_id: int) -> SimObject:
        """The person as an object of the room."""
        T_world_object = scene.T_world_room @ pose(about("z", np.degrees(self.yaw)), (self.x, self.y, 0.0))
        design = self._design
        return SimObject(object_id, design.kind, design.label, design.color, design.parts, T_world_object)

    def _follow(self, way: np.ndarray) -> None:
        self._way, self._walked = way, 0.0
        self._lengths = np.concatenate([[0.0], np.linalg.norm(np.diff(way, axis=0), axis=1).cumsum()])

    def _at(self, walked: float) -> np.ndarray:
        return np.array([np.interp(walked, self._lengths, self._way[:, k]) for k in range(2)])

    def _clear_of(self, shape: tuple[int, ...], robot: np.ndarray) -> np.ndarray:
        """(X, Y) bool cells that are not too near to the robot."""
        x, y = ((np.arange(n) + 0.5) * CELL for n in shape)
        return np.hypot(x[:, None] - robot[0], y[None] - robot[1]) > self._keep


def _place(cell: np.ndarray) -> tuple[float, float]:
    x, y = ((cell + 0.5) * CELL).tolist()
    return x, y
