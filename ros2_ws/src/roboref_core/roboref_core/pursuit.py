"""From answers to goals: when to drive, when a better look corrects the goal, when it is there, when it is lost."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from roboref_core.approach import Approach, Eye, OccupancyMap, approach, largest_sigma, too_uncertain
from roboref_core.geometry.pose import pose
from roboref_core.lookouts import SeenFloor
from roboref_core.referring.answer import Answer, Status, Target
from roboref_core.views.locate import DepthSource
from roboref_core.views.visibility import Visibility

_UNSEEN = (Visibility.OCCLUDED, Visibility.OUT_OF_FRUSTUM)
# A robot that is turned away from its goal's heading by less faces it [rad].
_FACING = 0.2
# A robot this near to its goal is at it [m].
_AT_GOAL = 0.1
# Between two answers a robot that drives moves more than this [m], [rad].
_STANDING = 0.01
# How much further than a standing place a place may be from which to look at where the target may be.
_LOOKOUTS = (1.5, 2.25)
# Sightings that came to nothing from near by, after which a sighting at that place is not followed any more.
_MOST_VAIN = 2
# Sightings from a goal's place, after which a look at rest that misses it does not count.
_ENOUGH = 2


@dataclass(frozen=True)
class GoToConfig:
    """How a target is approached.

    Attributes:
        distance: to stop before the target [m].
        radius: of the robot [m].
        arrived: a robot that comes to rest this near to the standing place is there [m].
        correction: a target that moves further than this gets a new goal [m].
        lost_after: questions in a row without the target, after which it is lost.
        sides: how often a place that is hidden is looked at from another side.
        look_around: turns on the spot, evenly spread over the circle, before it is given up; 0: none.
        searches: looks at floor that was not in sight on this way, after that; 0: none. They need a map and the camera.
        ask_every: time between questions on the way [s].
        timeout: longest way [s].
    """

    distance: float = 0.8
    radius: float = 0.25
    arrived: float = 0.25
    correction: float = 0.15
    lost_after: int = 5
    sides: int = 3
    look_around: int = 6
    searches: int = 6
    ask_every: float = 1.0
    timeout: float = 120.0


class Step(Enum):
    """What to do after an answer."""

    GO = "go"
    WAIT = "wait"
    ARRIVED = "arrived"
    FAILED = "failed"


class End(Enum):
    """How a pursuit ended."""

    ARRIVED = "arrived"
    LOST = "lost"
    """It was not found, and nobody knows a place where it was seen before."""
    GONE = "gone"
    """It is not there any more: the place where it was seen last is in sight, and it is not."""
    UNCERTAIN = "uncertain"
    """It is seen, and its place is not known well enough to stand before it."""
    NO_PLACE_TO_STAND = "no place to stand"
    """Its place is known, and there is no free and reachable place before it."""
    NO_ANSWER = "no answer"
    """Nobody answered the questions."""
    NOT_DRIVEN = "not driven"
    """The navigation refused or gave up the goal, or the frames of poses and goals differ."""
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, eq=False)
class Decision:
    """Attributes:
    step: what to do.
    T_map_goal: 4x4 of the base, with GO.
    text: why, for a person.
    end: why it is over, with ARRIVED and FAILED.
    """

    step: Step
    T_map_goal: np.ndarray | None = None
    text: str = ""
    end: End | None = None

    @classmethod
    def failed(cls, end: End, text: str) -> Decision:
        return cls(Step.FAILED, text=text, end=end)


class Pursuit:
    """Decides from answer to answer; a function of the answers, the robot's poses and the map alone.

    Attributes:
        corrections: how often a better look gave a new goal.
    """

    def __init__(self, config: GoToConfig):
        self._config = config
        self._target: np.ndarray | None = None
        self._goal: np.ndarray | None = None
        self._tried: list[np.ndarray] = []
        self._seen_from: list[np.ndarray] = []
        self._missed = 0
        self._turns = 0
        self._floor = SeenFloor()
        self._searches = 0
        self._searching = False
        self._visited = False
        self._before: np.ndarray | None = None
        self._still = 0
        self._near = 0
        self._seen_near = 0
        self._lookout = False
        self._sighting: np.ndarray | None = None
        self._in_vain: list[np.ndarray] = []
        self.corrections = 0

    def on_answer(
        self, answer: Answer, T_map_base: np.ndarray, grid: OccupancyMap | None, eye: Eye | None = None
    ) -> Decision:
        """Args:
        answer: with targets in the map's frame.
        T_map_base: 4x4 of the robot now.
        grid: of the floor in the map's frame; None: everything is free.
        eye: the camera, so that the target is in its picture from the standing place; None: it is from anywhere.
        """
        seen = _seen(answer)
        if seen is not None and self._times_in_vain(*seen) >= _MOST_VAIN:
            seen = None
        where = seen or self._where_to_look(answer)
        self._follow(T_map_base)
        if grid is not None and eye is not None:
            self._floor.look(grid, T_map_base, eye)
        if where is None:
            reason = answer.error_msg or "it is not visible, and was not seen before"
            return self._without_it(T_map_base, grid, eye, End.LOST, reason)
        position, covariance = where
        apart = self._apart(covariance)
        vague = too_uncertain(covariance, self._config.distance)
        uncertain = vague and seen is not None
        if vague:
            # A nearer look may know it. Though vague, what was seen now is newer than memory.
            self._sighting = position if uncertain else self._sighting
            covariance, seen = None, None
        moved = self._target is None or bool(np.linalg.norm(position[:2] - self._target[:2]) > apart)
        if moved and seen is None and not uncertain and self._times_in_vain(position, covariance):
            return self._without_it(T_map_base, grid, eye, End.GONE, "it is not seen where it was seen last")
        moved = moved or (seen is not None and self._lookout)
        if moved:
            self._tried, self._seen_from = [], []
        if seen is not None:
            self._missed = 0
            if grid is None or eye is None:
                self._turns = 0  # With both it looks where it has not looked yet, see SeenFloor.
            self._sighting = position
            self._seen_from.append((T_map_base if eye is None else T_map_base @ eye.T_base_camera)[:2, 3])
        if self._goal is not None and not moved and self._left(T_map_base) <= self._config.arrived:
            at_rest = self._at_rest(T_map_base)
            self._seen_near += seen is not None
            if at_rest and (seen is not None or self._seen_near >= _ENOUGH):
                return self._arrived(T_map_base)
            if seen is not None:
                return Decision(Step.WAIT, text="coming to rest before it")
            # There, but the thing is not: a place from memory is where to look, never where it is.
            if not at_rest and not self._visited and self._missed + 1 < self._config.lost_after:
                self._missed += 1
                return Decision(Step.WAIT, text="turning to where it was seen last")
            if self._sighting is None:
                other = self._other_side(answer, position, covariance, T_map_base, grid, eye)
                if other is not None:
                    return other
            if not self._visited:
                self._in_vain.append(position)
                self._visited, self._sighting = True, None
            if uncertain:
                reason = "it is seen, and its place is not known well enough"
                return self._without_it(T_map_base, grid, eye, End.UNCERTAIN, reason, look_around=False)
            return self._without_it(T_map_base, grid, eye, End.GONE, "it is not seen where it was seen last")
        if self._goal is not None and not moved:
            if self._still < self._config.lost_after:
                return Decision(Step.WAIT, text=f"{self._left(T_map_base):.2f} m to go")
            # Nothing moves: the way is blocked, or the navigation took another place for the goal.
            self._tried.append(self._goal[:2, 3])
        found, lookout = self._place_before(position, covariance, T_map_base, grid, eye), False
        if found.T_map_base is None and seen is None:
            lookout = True
            for factor in _LOOKOUTS:
                if found.T_map_base is None:
                    found = self._place_before(position, covariance, T_map_base, grid, eye, factor)
        if found.T_map_base is None:
            assert found.failure is not None
            if self._tried:
                return Decision.failed(End.NOT_DRIVEN, f"the robot does not get to {len(self._tried)} places before it")
            if seen is None:
                return self._without_it(T_map_base, grid, eye, End.NO_PLACE_TO_STAND, found.failure.value)
            return Decision.failed(End.NO_PLACE_TO_STAND, found.failure.value)
        before = self._goal
        self.corrections += before is not None
        self._target, self._goal, self._near, self._lookout = position, found.T_map_base, 0, lookout
        self._seen_near, self._visited, self._searching = 0, False, False
        # A robot that is on its way to somewhere else has to be told that this is the place.
        stays = before is None or np.linalg.norm(before[:2, 3] - self._goal[:2, 3]) <= _AT_GOAL
        if seen is not None and stays and self._at_goal(T_map_base):
            return self._arrived(T_map_base)
        what = "corrected" if self.corrections else "seen" if seen else "seen before"
        return Decision(Step.GO, self._goal, f"{what} at ({position[0]:.2f}, {position[1]:.2f})")

    def _where_to_look(self, answer: Answer) -> tuple[np.ndarray, np.ndarray | None] | None:
        """The better one of two rival places, or where it was seen before.

        What this way has shown is newer than such a place, which would take the robot back from a thing that was moved.
        """
        if answer.status is Status.AMBIGUOUS and answer.targets:
            place = _located(answer.targets[0])
        else:
            place = _located(answer.last_known[0].target) if answer.last_known else None
        if place is None or self._sighting is None:
            return place
        elsewhere = np.linalg.norm(place[0][:2] - self._sighting[:2]) > self._config.correction
        return (self._sighting, None) if elsewhere else place

    def _apart(self, covariance: np.ndarray | None) -> float:
        """How far two places lie apart that are not one [m]: what is pointed at is anywhere on a thing."""
        config = self._config
        return max(config.correction, min(largest_sigma(covariance), config.distance / 2))

    def _times_in_vain(self, position: np.ndarray, covariance: np.ndarray | None) -> int:
        """How often the robot stood before this place and did not see it there."""
        apart = self._apart(covariance)
        return sum(bool(np.linalg.norm(position[:2] - old[:2]) <= apart) for old in self._in_vain)

    def _place_before(
        self,
        position: np.ndarray,
        covariance: np.ndarray | None,
        T_map_base: np.ndarray,
        grid: OccupancyMap | None,
        eye: Eye | None,
        factor: float = 1.0,
    ) -> Approach:
        config = self._config
        return approach(
            position,
            covariance,
            T_map_base[:2, 3],
            factor * config.distance,
            config.radius,
            grid,
            self._tried,
            eye,
            self._seen_from,
        )

    def _follow(self, T_map_base: np.ndarray) -> None:
        """Count for how many answers in a row the robot has not moved, and has been near its goal."""
        before, self._before = self._before, T_map_base
        still = before is not None and np.allclose(before, T_map_base, rtol=0.0, atol=_STANDING)
        self._still = self._still + 1 if still else 0
        near = self._goal is not None and self._left(T_map_base) <= self._config.arrived
        self._near = self._near + 1 if near else 0

    def _left(self, T_map_base: np.ndarray) -> float:
        assert self._goal is not None
        return float(np.linalg.norm(T_map_base[:2, 3] - self._goal[:2, 3]))

    def _at_goal(self, T_map_base: np.ndarray) -> bool:
        assert self._goal is not None
        return self._left(T_map_base) <= _AT_GOAL and _faces(T_map_base, self._goal)

    def _at_rest(self, T_map_base: np.ndarray) -> bool:
        """Whether a robot near its goal drives no further: what it sees now is what it sees from there."""
        assert self._goal is not None
        enough = 1 if _faces(T_map_base, self._goal) else 2
        return self._at_goal(T_map_base) or self._still >= enough or self._near > self._config.lost_after

    def _arrived(self, T_map_base: np.ndarray) -> Decision:
        return Decision(Step.ARRIVED, text=f"{self._left(T_map_base):.2f} m from the standing place", end=End.ARRIVED)

    def _other_side(
        self,
        answer: Answer,
        position: np.ndarray,
        covariance: np.ndarray | None,
        T_map_base: np.ndarray,
        grid: OccupancyMap | None,
        eye: Eye | None,
    ) -> Decision | None:
        """Where something hides its place, or the picture ends before it, it may be seen from another side."""
        hidden = answer.last_known and answer.last_known[0].check.visibility in _UNSEEN
        if not hidden or self._visited or len(self._tried) >= self._config.sides:
            return None
        self._tried.append(T_map_base[:2, 3])
        found = self._place_before(position, covariance, T_map_base, grid, eye)
        if found.T_map_base is None:
            return None
        self._goal, self._missed, self._near = found.T_map_base, 0, 0
        return Decision(Step.GO, self._goal, f"hidden from here; looking from another side, {len(self._tried)}")

    def _without_it(
        self,
        T_map_base: np.ndarray,
        grid: OccupancyMap | None,
        eye: Eye | None,
        end: End,
        reason: str,
        look_around: bool = True,
    ) -> Decision:
        """It may come into sight again on the way; then it may be to the side or behind, then where it was not looked
        yet; then it is given up."""
        self._missed += 1
        under_way = self._goal is not None and self._left(T_map_base) > self._config.arrived
        patient = self._missed < self._config.lost_after
        if self._searching and self._still < self._config.lost_after and (under_way or not self._at_rest(T_map_base)):
            return Decision(Step.WAIT, text="on the way to where it was not looked yet")
        if look_around and self._turns < self._config.look_around and not (under_way and patient):
            if under_way:
                self._goal = self._target = None
            self._turns += 1
            # One turn more would end where the first began.
            T_map_goal = T_map_base @ _turn(2 * np.pi / (self._config.look_around + 1))
            return Decision(Step.GO, T_map_goal, f"not found; looking around, turn {self._turns}")
        if patient:
            return Decision(Step.WAIT, text="not found")
        if grid is not None and eye is not None and self._searches < self._config.searches:
            T_map_goal = self._floor.next_look(grid, T_map_base, eye, self._config.radius)
            if T_map_goal is not None:
                # Once is enough, whether the robot gets there or not.
                self._floor.look(grid, T_map_goal, eye)
                self._searches += 1
                self._goal, self._target, self._near, self._still, self._searching = T_map_goal, None, 0, 0, True
                return Decision(
                    Step.GO, T_map_goal, f"not found; looking where it was not looked yet, {self._searches}"
                )
        return Decision.failed(end, f"{end.value} after {self._missed} questions: {reason}")


def _seen(answer: Answer) -> tuple[np.ndarray, np.ndarray | None] | None:
    return _located(answer.targets[0]) if answer.status is Status.FOUND and answer.targets else None


def _located(target: Target) -> tuple[np.ndarray, np.ndarray | None] | None:
    position = target.position
    if position is None or target.depth_source is DepthSource.NONE or not np.isfinite(position).all():
        return None
    return position, target.covariance


def _faces(T_map_base: np.ndarray, T_map_goal: np.ndarray) -> bool:
    return float(T_map_base[:2, 0] @ T_map_goal[:2, 0]) >= np.cos(_FACING)


def _turn(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return pose(np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]), (0.0, 0.0, 0.0))
