"""From answers to goals: when to drive, when a better look corrects the goal, when it is there, when it is lost."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from roboref_core.approach import OccupancyMap, approach
from roboref_msgs.msg import ReferAnswer, ReferredTarget


@dataclass(frozen=True)
class GoToConfig:
    """How a target is approached.

    Attributes:
        distance: to stop before the target [m].
        radius: of the robot [m].
        arrived: this near to the standing place is there [m].
        correction: a target that moves further than this gets a new goal [m].
        lost_after: questions in a row without the target, after which it is lost.
        ask_every: time between questions on the way [s].
        timeout: longest way [s].
    """

    distance: float = 0.8
    radius: float = 0.25
    arrived: float = 0.25
    correction: float = 0.15
    lost_after: int = 5
    ask_every: float = 1.0
    timeout: float = 120.0


class Step(Enum):
    """What to do after an answer."""

    GO = "go"
    WAIT = "wait"
    ARRIVED = "arrived"
    FAILED = "failed"


@dataclass(frozen=True, eq=False)
class Decision:
    """Attributes:
    step: what to do.
    T_map_goal: 4x4 of the base, with GO.
    text: why, for a person.
    """

    step: Step
    T_map_goal: np.ndarray | None = None
    text: str = ""


class Pursuit:
    """Decides from answer to answer; knows nothing of topics."""

    def __init__(self, config: GoToConfig):
        self._config = config
        self._target: np.ndarray | None = None
        self._goal: np.ndarray | None = None
        self._missed = 0
        self.corrections = 0

    def on_answer(self, answer: ReferAnswer, place: np.ndarray, grid: OccupancyMap | None) -> Decision:
        """Args: place: (2,) of the robot in the answer's frame [m]."""
        seen = _best(answer)
        remembered = None if seen is not None or not answer.last_known else _located(answer.last_known[0].target)
        position, covariance = seen or remembered or (None, None)
        if position is None:
            self._missed += 1
            if self._missed >= self._config.lost_after:
                reason = answer.error_msg or "it is not visible, and was not seen before"
                return Decision(Step.FAILED, text=f"lost after {self._missed} questions: {reason}")
            return Decision(Step.WAIT, text="not found")
        if seen is not None:
            self._missed = 0
        elif self._goal is not None and self._progress(place).step is Step.ARRIVED:
            # There, but the thing is not: a place from memory is where to look, never where it is.
            self._missed += 1
            if self._missed >= self._config.lost_after:
                return Decision(Step.FAILED, text="lost: it is not seen where it was seen last")
            return Decision(Step.WAIT, text="not seen where it was seen last")
        moved = self._target is None or np.linalg.norm(position[:2] - self._target[:2]) > self._config.correction
        if self._goal is not None and not moved:
            return self._progress(place)
        found = approach(position, covariance, place, self._config.distance, self._config.radius, grid)
        if found.T_map_base is None:
            assert found.failure is not None
            return Decision(Step.FAILED, text=found.failure.value)
        self.corrections += self._goal is not None
        self._target, self._goal = position, found.T_map_base
        if np.linalg.norm(place - self._goal[:2, 3]) <= self._config.arrived:
            return self._progress(place)
        what = "corrected" if self.corrections else "seen" if seen else "seen before"
        return Decision(Step.GO, self._goal, f"{what} at ({position[0]:.2f}, {position[1]:.2f})")

    def _progress(self, place: np.ndarray) -> Decision:
        assert self._goal is not None
        left = float(np.linalg.norm(place - self._goal[:2, 3]))
        if left <= self._config.arrived:
            return Decision(Step.ARRIVED, text=f"{left:.2f} m from the standing place")
        return Decision(Step.WAIT, text=f"{left:.2f} m to go")


def _best(answer: ReferAnswer) -> tuple[np.ndarray, np.ndarray | None] | None:
    return _located(answer.targets[0]) if answer.status == answer.STATUS_FOUND and answer.targets else None


def _located(target: ReferredTarget) -> tuple[np.ndarray, np.ndarray | None] | None:
    position = np.array([target.position.x, target.position.y, target.position.z])
    if target.depth_source == target.DEPTH_NONE or not np.isfinite(position).all():
        return None
    full = target.covariance_type == target.COVARIANCE_FULL
    return position, np.array(target.position_covariance).reshape(3, 3) if full else None
