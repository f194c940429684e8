"""A small navigator for machines without Nav2: a shortest way on a grid (A*), followed by pure pursuit."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sim.robot.drive import RobotState, Velocity
from sim.robot.obstacles import CELL, Obstacles
from sim.rooms.path import shortest_way

_LOOKAHEAD = 0.3
_MARGINS = (0.12, 0.06, 0.02)
# A way that ends this near to the goal leads to it [m].
_AT_GOAL = 0.08


class NoWay(ValueError):
    """There is no way to a goal. The text says from where to where."""


@dataclass(frozen=True)
class Goal:
    """A place on the floor [m], and a heading [rad] if that matters."""

    x: float
    y: float
    yaw: float | None = None


class Navigator:
    """Drives to one goal after another.

    Attributes:
        way: (N, 2) what is left of the planned way [m], empty without a goal.

    Args:
        radius: of the robot [m].
        speed, turn: largest velocities [m/s], [rad/s].
        reached: how near to a goal is there [m].
    """

    def __init__(self, radius: float, speed: float = 0.4, turn: float = 1.2, reached: float = 0.05):
        self._radius, self._speed, self._turn, self._reached = radius, speed, turn, reached
        self._goal: Goal | None = None
        self.way = np.zeros((0, 2))

    @property
    def busy(self) -> bool:
        return self._goal is not None

    def cancel(self) -> None:
        self._goal, self.way = None, np.zeros((0, 2))

    def go_to(self, state: RobotState, goal: Goal, obstacles: Obstacles, near: float = 0.5) -> None:
        """Plan a way. A goal that is not free becomes the nearest free place, at most ``near`` away [m].

        Raises NoWay, and keeps no goal then.
        """
        self.cancel()
        if not np.isfinite((goal.x, goal.y)).all():
            raise NoWay(f"the goal ({goal.x}, {goal.y}) is not a place")
        # The goal itself close by an obstacle is better than a place beside it that is clear of it.
        for gap in (min(near, _AT_GOAL), near):
            for margin in _MARGINS:
                way = plan(obstacles.free(self._radius + margin), (state.x, state.y), (goal.x, goal.y), gap)
                if way is not None:
                    end = way[-1]
                    self._goal, self.way = replace(goal, x=float(end[0]), y=float(end[1])), way
                    return
        raise NoWay(
            f"no way from ({state.x:.2f}, {state.y:.2f}) to within {near:g} m of ({goal.x:.2f}, {goal.y:.2f}) for a "
            f"robot of {self._radius:g} m radius"
        )

    def replan(self, state: RobotState, obstacles: Obstacles) -> None:
        """Replan to the present goal; without a way to it any more, the goal is given up."""
        if self._goal is not None:
            try:
                self.go_to(state, self._goal, obstacles)
            except NoWay:
                self.cancel()

    def velocity(self, state: RobotState) -> Velocity:
        """What to drive now; standing once the goal is reached, which ends it."""
        goal = self._goal
        if goal is None:
            return Velocity()
        here = np.array((state.x, state.y))
        left = float(np.linalg.norm(self.way[-1] - here))
        if left <= self._reached or (len(self.way) == 1 and left < 2 * self._reached):
            error = 0.0 if goal.yaw is None else _wrapped(goal.yaw - state.yaw)
            if abs(error) < 0.03:
                self.cancel()
                return Velocity()
            return Velocity(turn=float(np.clip(2.5 * error, -self._turn, self._turn)))
        nearest = int(np.linalg.norm(self.way - here, axis=1).argmin())
        self.way = self.way[nearest:]
        ahead = np.linalg.norm(self.way - here, axis=1) >= _LOOKAHEAD
        target = self.way[int(ahead.argmax())] if ahead.any() else self.way[-1]
        bearing = _wrapped(np.arctan2(*(target - here)[::-1]) - state.yaw)
        turn = float(np.clip(2.5 * bearing, -self._turn, self._turn))
        if abs(bearing) > 0.6:
            return Velocity(turn=turn)
        return Velocity(forward=min(self._speed, max(0.05, left)) * float(np.cos(bearing)) ** 2, turn=turn)


def plan(free: np.ndarray, start: tuple[float, float], goal: tuple[float, float], near: float) -> np.ndarray | None:
    """A shortest way over free cells -> (N, 2) middles of cells [m], or None.

    Args:
        free: (X, Y) bool cells of ``CELL``.
        start, goal: where they are not free, the nearest free cells stand for them.
        near: how far a free cell may be from the goal, and from the start [m].
    """
    first = _nearest(free, start, near)
    if first is None:
        return None
    reachable = _reachable(free, first)
    last = _nearest(reachable, goal, near)
    if last is None:
        return None
    return (np.array(shortest_way(reachable, first, last)) + 0.5) * CELL


def _nearest(free: np.ndarray, place: tuple[float, float], near: float) -> tuple[int, int] | None:
    cells = np.argwhere(free)
    if not len(cells):
        return None
    gaps = np.linalg.norm((cells + 0.5) * CELL - np.array(place), axis=1)
    best = int(gaps.argmin())
    return (int(cells[best, 0]), int(cells[best, 1])) if gaps[best] <= near else None


def _reachable(free: np.ndarray, start: tuple[int, int]) -> np.ndarray:
    """(X, Y) bool: cells that a way over free neighbours leads to."""
    reached = np.zeros_like(free)
    reached[start] = True
    open_ = [start]
    while open_:
        x, y = open_.pop()
        for near in ((x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)):
            inside = 0 <= near[0] < free.shape[0] and 0 <= near[1] < free.shape[1]
            if inside and free[near] and not reached[near]:
                reached[near] = True
                open_.append(near)
    return reached


def _wrapped(angle: float) -> float:
    return float((angle + np.pi) % (2 * np.pi) - np.pi)
