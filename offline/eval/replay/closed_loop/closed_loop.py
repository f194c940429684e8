"""The log-indexed closed loop: a virtual robot asks, goes towards the answer, and sees what was recorded there.

Closed, because each view depends on the answer before it; log-indexed, because views are not rendered but looked up
among those of a recording, so that it works with a real one. What the recording does not cover cannot be tried, and
how often that happened is part of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from roboref_core.geometry.pose import look_at, pose

from offline.eval.records.node_answer import NodeAnswer
from offline.eval.replay.truth.surface import ObjectSurface

End = Literal["arrived", "not covered", "steps used up"]
_SLACK = 0.1
_DETOURS = (0.0, 45.0, -45.0, 90.0, -90.0)


@dataclass(frozen=True)
class LoopConfig:
    """How the virtual robot moves."""

    step: float = 0.4
    """Length of a step towards the answer, over the floor [m]."""
    reach: float = 1.0
    """It stops when the answered place is this near, over the floor [m]."""
    max_steps: int = 20
    """It gives up after so many."""
    turn: float = 45.0
    """How far it turns on the spot while it has no place to go to [degrees]."""
    rotation_weight: float = 0.5
    """Distance of two poses: metres between the cameras plus this times the angle between them [m/rad]."""
    tolerance: float = 0.6
    """A wanted pose without a recorded one within this distance is not covered [m]."""

    def __post_init__(self):
        for name in ("step", "reach", "max_steps", "turn", "tolerance"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, found {getattr(self, name)}")
        if self.rotation_weight < 0:
            raise ValueError(f"rotation_weight must not be negative, found {self.rotation_weight}")


@dataclass(frozen=True)
class Stop:
    """One place on the way.

    Attributes:
        T_world_robot: (4, 4) where the robot's camera is, or would be if it were not virtual.
        position: position of the nearest recorded view, which it got instead.
        miss: distance of that view's pose from the robot's [m, see LoopConfig].
        answer: about it.
        target: (3,) answered place in the world [m], None without one.
    """

    T_world_robot: np.ndarray
    position: int
    miss: float
    answer: NodeAnswer
    target: np.ndarray | None


@dataclass(frozen=True)
class Drive:
    """A whole way.

    Attributes:
        stops: at least one: it starts in a recorded view.
        end: why it ended.
        uncovered: places (4, 4) where it wanted to go and had no recorded view near enough, and how far the nearest
            one was [m].
    """

    stops: list[Stop]
    end: End
    uncovered: list[tuple[np.ndarray, float]]


def drive(ask: Callable[[int], NodeAnswer], poses: np.ndarray, start: int, config: LoopConfig) -> Drive:
    """Go from the recorded view at ``start`` to where the answers say.

    A step leads straight towards the answered place; where nothing is recorded there, which is how a recording shows
    what stands in the way, 45 or 90 degrees to one side, but not back to where the robot was. Without an answered
    place it keeps to the last one, and turns on the spot as long as it never had one.

    Args:
        ask: position of a recorded view -> answer about it.
        poses: (N, 4, 4) T_world_camera of the recorded views as the robot knows them; NaN where it does not.
    """
    last: np.ndarray | None = None
    stops: list[Stop] = []
    uncovered: list[tuple[np.ndarray, float]] = []
    wanted = [poses[start]]
    while True:
        for robot in wanted:
            distances = np.nan_to_num(pose_distances(poses, robot, config.rotation_weight), nan=np.inf)
            position = int(np.argmin(distances))
            miss = float(distances[position])
            if miss <= config.tolerance:
                break
            uncovered.append((robot, miss))
        else:
            return Drive(stops, "not covered", uncovered)
        answer = ask(position)
        target = None if answer.in_world is None else answer.in_world.position
        last = target if target is not None else last
        stops.append(Stop(robot, position, miss, answer, target))
        if last is not None and over_floor(robot[:3, 3], last) <= config.reach:
            return Drive(stops, "arrived", uncovered)
        if len(stops) > config.max_steps:
            return Drive(stops, "steps used up", uncovered)
        if last is None:
            wanted = [_turned(robot, np.radians(config.turn))]
        else:
            steps = [_stepped(robot, last, config.step, np.radians(detour)) for detour in _DETOURS]
            been = [stop.T_world_robot[:3, 3] for stop in stops]
            wanted = [T for T in steps if all(over_floor(T[:3, 3], place) > config.step / 2 for place in been)]


def pose_distances(poses: np.ndarray, wanted: np.ndarray, rotation_weight: float) -> np.ndarray:
    """(N,) distance of (N, 4, 4) poses from a 4x4 one: metres between them plus ``rotation_weight`` [m/rad] times the
    angle of the rotation between them; NaN where a pose is."""
    apart = np.linalg.norm(poses[:, :3, 3] - wanted[:3, 3], axis=1)
    cosine = (np.einsum("nij,ij->n", poses[:, :3, :3], wanted[:3, :3]) - 1.0) / 2.0
    return apart + rotation_weight * np.arccos(np.clip(cosine, -1.0, 1.0))


def over_floor(a: np.ndarray, b: np.ndarray) -> float:
    """Distance of two points over the floor, heights left out [m]."""
    return float(np.hypot(*(a - b)[:2]))


def _stepped(T: np.ndarray, target: np.ndarray, step: float, detour: float) -> np.ndarray:
    """A step over the floor, ``detour`` to the left of the direction of ``target`` [rad], which it then looks at."""
    eye = T[:3, 3].copy()
    away = (target - eye)[:2]
    c, s = np.cos(detour), np.sin(detour)
    eye[:2] += np.array([[c, -s], [s, c]]) @ away * min(step / np.linalg.norm(away), 1.0)
    return look_at(eye.tolist(), target.tolist())


def _turned(T: np.ndarray, angle: float) -> np.ndarray:
    """The same place, turned about the world's vertical axis."""
    c, s = np.cos(angle), np.sin(angle)
    turned = pose(np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]), (0, 0, 0)) @ T
    turned[:3, 3] = T[:3, 3]
    return turned


def summary(way: Drive, surface: ObjectSurface, config: LoopConfig) -> dict:
    """One way as figures, JSON-ready.

    Returns:
        "success": it arrived, and the true object is within reach over the floor, give or take ``_SLACK``;
        "answer_error": distance of each answered place from the true surface [m], None without one; "start_distance",
        "final_distance": of the robot from the true surface, over the floor [m]; "wanted", "covered": places it went
        to, and those of them with a recorded view near enough; "misses": how far the nearest ones were [m];
        "views": how many different ones it saw.
    """
    distances = [surface.distance_over_floor(stop.T_world_robot[:3, 3]) for stop in way.stops]
    misses = [stop.miss for stop in way.stops[1:]] + [miss for _, miss in way.uncovered]
    return {
        "end": way.end,
        "success": way.end == "arrived" and distances[-1] <= config.reach + _SLACK,
        "steps": len(way.stops) - 1,
        "views": len({stop.position for stop in way.stops}),
        "answer_error": [None if stop.target is None else surface.distance(stop.target) for stop in way.stops],
        "start_distance": distances[0],
        "final_distance": distances[-1],
        "wanted": len(misses),
        "covered": len(way.stops) - 1,
        "misses": misses,
    }


def pooled(summaries: Sequence[dict]) -> dict:
    """Figures of many ways, JSON-ready; counts, and medians [m] of the first and last answer of each way."""
    known = [[error for error in one["answer_error"] if error is not None] for one in summaries]
    known = [errors for errors in known if len(errors) > 1]
    ends = [one["end"] for one in summaries]
    return {
        "ways": len(summaries),
        "ends": {end: ends.count(end) for end in ("arrived", "not covered", "steps used up")},
        "success": sum(one["success"] for one in summaries),
        "final_distance": _median([one["final_distance"] for one in summaries]),
        "wanted": sum(one["wanted"] for one in summaries),
        "covered": sum(one["covered"] for one in summaries),
        "miss": _median([miss for one in summaries for miss in one["misses"]]),
        "answers": {
            "ways": len(known),
            "first": _median([errors[0] for errors in known]),
            "last": _median([errors[-1] for errors in known]),
            "nearer": sum(errors[-1] < errors[0] for errors in known),
            "farther": sum(errors[-1] > errors[0] for errors in known),
        },
    }


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if len(values) else None
