"""One episode from start to end: look, ask, decide, drive a second, and again; then how it ended is judged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from roboref_core.geometry.pose import inverse
from roboref_core.models.pointing_model import PointingModel
from roboref_core.pursuit import Decision, End, Step
from roboref_core.referring.answer import Answer, Status
from roboref_core.seeds import rng_of

from offline.eval.drive.agents import Agent, Moment, make_agent
from offline.eval.drive.episodes import Episode
from offline.eval.drive.judge import Driven, Stop
from offline.eval.drive.settings import Condition, DriveSettings
from offline.eval.drive.tour import MAP, ODOM, Tour, as_view
from sim.robot.drive import RobotState
from sim.robot.navigator import Goal, NoWay
from sim.robot.simulation import Observation, Simulation

# Until the robot has turned to what it has arrived at, and until it has come from the tour's end to its start [s].
_SETTLE, _TRANSFER = 6.0, 120.0


class Robot:
    """The simulated robot of an episode, at its start, with what it believes of its pose.

    Attributes:
        simulation: in the episode's room.
        drifts: whether its camera poses are the odometry's.
    """

    def __init__(self, episode: Episode, tour: Tour, settings: DriveSettings):
        self.drifts = episode.condition is Condition.DRIFTING
        seed = int(rng_of("noise", settings.seed, episode.key).integers(2**31))
        begin = tour.end if self.drifts else episode.start
        config = settings.robot(start=(begin.x, begin.y, begin.yaw), seed=seed)
        self.simulation = Simulation(episode.scene, config)
        self.simulation.stamp_ns = tour.stamp_ns
        self._T_odom_begin = tour.T_odom_end
        if self.drifts:
            # From the tour's end it drives to its start, with its eyes closed and its wheels counting.
            start = episode.start
            self.go_to(Goal(start.x, start.y, start.yaw))
            self._until_standing(_TRANSFER)
        self.simulation.collisions = 0

    def go_to(self, goal: Goal) -> str:
        """Why it cannot be driven to; empty if it can."""
        try:
            self.simulation.go_to(goal)
        except NoWay as error:
            return str(error)
        return ""

    def advance(self, seconds: float) -> list[RobotState]:
        """Drive on -> where it was, frame by frame."""
        states = []
        for _ in range(max(1, round(seconds * self.simulation.config.rate))):
            self.simulation.advance()
            states.append(self.simulation.state)
        return states

    def settle(self) -> list[RobotState]:
        """Finish the way to the goal."""
        return self._until_standing(_SETTLE)

    def look(self, view_id: str) -> tuple[Moment, Observation]:
        seen = self.simulation.observe()
        T_odom_base = self._T_odom_begin @ seen.T_odom_base
        T_map_odom = seen.T_room_base @ inverse(T_odom_base) if self.drifts else np.eye(4)
        T_world_camera = inverse(T_map_odom) @ seen.T_room_camera
        view = as_view(view_id, seen, self.simulation.camera, T_world_camera, ODOM if self.drifts else MAP)
        return Moment(view, seen.T_room_base, T_map_odom, seen.ids), seen

    def _until_standing(self, longest: float) -> list[RobotState]:
        states: list[RobotState] = []
        while self.simulation.navigator.busy and len(states) < longest * self.simulation.config.rate:
            states += self.advance(1.0 / self.simulation.config.rate)
        return states


def drive(
    episode: Episode, tour: Tour, agent_name: str, settings: DriveSettings, model: PointingModel | None
) -> Driven:
    """Run an episode; a pure function of its arguments."""
    robot = Robot(episode, tour, settings)
    agent = make_agent(agent_name, episode, tour, settings, robot.simulation.occupied(), model)
    path = [robot.simulation.state]
    stops: list[Stop] = []
    decision, began = Decision(Step.WAIT), robot.simulation.stamp_ns
    limit = began + round(settings.go_to.timeout * 1e9)
    while True:
        moment, seen = robot.look(f"drive-{len(stops):03d}")
        decision = agent.decide(moment)
        stops.append(_stop(agent, decision, robot, (seen.stamp_ns - began) / 1e9, seen))
        if decision.step is Step.GO and decision.T_map_goal is not None:
            T = decision.T_map_goal
            problem = robot.go_to(Goal(float(T[0, 3]), float(T[1, 3]), float(np.arctan2(T[1, 0], T[0, 0]))))
            if problem:
                decision = Decision.failed(End.NOT_DRIVEN, problem)
        if decision.end is not None:
            break
        if robot.simulation.stamp_ns >= limit:
            decision = Decision.failed(End.TIMEOUT, f"not there after {settings.go_to.timeout:g} s")
            break
        path += robot.advance(settings.go_to.ask_every)
    if decision.end is End.ARRIVED:
        path += robot.settle()
        # The last answer is of the final view, as a grasp's would be.
        moment, seen = robot.look("final")
        if stops[-1].status is not None:
            agent.decide(moment)
            stops.append(_stop(agent, replace(decision, text="final view"), robot, 0.0, seen))
    return Driven(stops, path, decision, robot.simulation.collisions, seen)


def _stop(agent: Agent, decision: Decision, robot: Robot, seconds: float, seen: Observation) -> Stop:
    answer = agent.answer
    target, pixel, remembered = _place(answer)
    return Stop(
        seconds,
        robot.simulation.state,
        None if answer is None else answer.status,
        target,
        pixel,
        remembered,
        decision.step,
        decision.text,
        "" if answer is None else answer.error_msg,
        seen,
    )


def _place(answer: Answer | None) -> tuple[np.ndarray | None, tuple[float, float] | None, bool]:
    """The answered place (3,) and pixel, and whether an older view only knows it."""
    if answer is None:
        return None, None, False
    if answer.targets and answer.status in (Status.FOUND, Status.AMBIGUOUS, Status.FOUND_WITHOUT_POSITION):
        return answer.targets[0].position, answer.targets[0].pixel, False
    if answer.last_known:
        return answer.last_known[0].target.position, None, True
    return None, None, False
