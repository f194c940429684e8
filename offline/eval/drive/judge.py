"""How an episode ended: success, what went wrong, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from roboref_core.pursuit import Decision, End, Step
from roboref_core.referring.answer import Status

from offline.eval.drive.episodes import Episode
from offline.eval.drive.settings import DriveSettings
from offline.eval.drive.truth import surface_of
from sim.robot.drive import RobotState
from sim.robot.simulation import Observation

LOST_ENDS = (End.LOST, End.GONE)
"""Ends that say that the thing is not to be found."""


@dataclass(frozen=True, eq=False)
class Stop:
    """One question on the way, or one decision of an agent that does not ask.

    Attributes:
        seconds: since the start, simulated.
        state: of the robot.
        status: of the answer; None without a question.
        target, pixel: (3,) answered place in the map [m], and its pixel in the present view.
        remembered: the place is known from an older view only.
        step, text: the decision.
        problem: what the answer says went wrong.
        seen: what the robot saw.
    """

    seconds: float
    state: RobotState
    status: Status | None
    target: np.ndarray | None
    pixel: tuple[float, float] | None
    remembered: bool
    step: Step
    text: str
    problem: str
    seen: Observation


@dataclass(frozen=True, eq=False)
class Driven:
    """An episode that was driven.

    Attributes:
        stops: in turn; after an arrival the last is of the final view, where questions are asked.
        path: of the robot, ten times a second.
        decision: the one that ended it.
        collisions: how often something stopped the robot.
        final: what it saw at the end.
    """

    stops: list[Stop]
    path: list[RobotState]
    decision: Decision
    collisions: int
    final: Observation


def judged(episode: Episode, driven: Driven, settings: DriveSettings) -> dict:
    """Figures of an episode, JSON-ready; lengths in metres, None where a figure has no meaning.

    Success: arrived with the robot's centre within the success distance of the thing's surface (over the floor), the
    thing in view, and the last answered place on it rather than on another of its kind. Of a thing that was taken
    away: it says that it is lost or gone. A wrong stop is an arrival without success.
    """
    ends = driven.decision.end
    arrived, said_lost = ends is End.ARRIVED, ends in LOST_ENDS
    last = driven.stops[-1]
    figures: dict = {
        "end": str(ends.value if ends else ""),
        "said": driven.decision.text,
        "path": _length(driven.path),
        "seconds": driven.stops[-1].seconds if not arrived else max(s.seconds for s in driven.stops),
        "collisions": driven.collisions,
        "questions": sum(stop.status is not None for stop in driven.stops),
        "answered": last.target is not None,
    }
    if episode.place is None:
        figures |= {"success": said_lost, "wrong_stop": arrived, "lost_rightly": said_lost, "lost_wrongly": False}
        unknown = ("distance", "start_distance", "in_view", "right_one", "spl", "soft_spl")
        return _rounded(figures | dict.fromkeys((*unknown, "lateral", "off", "off_mark")))
    surface = episode.place.surface
    end = np.array((driven.path[-1].x, driven.path[-1].y))
    distance = surface.distance_over_floor(end)
    before = surface.distance_over_floor(np.array((episode.start.x, episode.start.y)))
    share = float((driven.final.ids == episode.goal_id).mean())
    right = _right_one(episode, end if last.target is None else last.target)
    near = distance <= settings.success_distance
    success = arrived and near and share >= settings.in_view and right
    assert episode.shortest is not None
    cost = episode.shortest / max(episode.shortest, figures["path"], 1e-9)
    progress = max(0.0, 1.0 - max(0.0, distance - settings.success_distance) / before)
    figures |= {
        "success": success,
        "wrong_stop": arrived and not success,
        "lost_rightly": False,
        "lost_wrongly": said_lost,
        "distance": distance,
        "start_distance": before,
        "in_view": share,
        "right_one": right,
        "spl": cost * success,
        "soft_spl": cost * progress,
        "lateral": None,
        "off": None,
        "off_mark": None,
    }
    if arrived and last.target is not None and last.status is Status.FOUND:
        camera = driven.final.T_room_camera[:3, 3]
        lateral = surface.distance_from_ray(camera, last.target - camera)
        # Infinite where the thing lies behind the camera: nothing that JSON could hold, and no answer that hits.
        figures["lateral"] = lateral if np.isfinite(lateral) else None
        figures["off"] = surface.distance(last.target)
        figures["off_mark"] = float(np.linalg.norm(last.target - episode.marked_point))
    return _rounded(figures)


def _right_one(episode: Episode, place: np.ndarray) -> bool:
    """Whether a place, (3,) or (2,) on the floor, is nearer to the thing than to any other of its kind."""

    def gap(surface) -> float:
        return surface.distance(place) if len(place) == 3 else surface.distance_over_floor(place)

    assert episode.place is not None
    own = gap(episode.place.surface)
    return all(own < gap(surface_of(episode.scene, other)) for other in episode.alike)


def _length(path: list[RobotState]) -> float:
    places = np.array([(state.x, state.y) for state in path])
    return float(np.linalg.norm(np.diff(places, axis=0), axis=1).sum())


def _rounded(figures: dict) -> dict:
    return {
        name: round(float(value), 6) if isinstance(value, float | np.floating) else value
        for name, value in figures.items()
    }


def stop_to_json(stop: Stop) -> dict:
    return {
        "seconds": round(stop.seconds, 3),
        "pose": [round(v, 4) for v in (stop.state.x, stop.state.y, stop.state.yaw)],
        "status": None if stop.status is None else stop.status.name,
        "target": None if stop.target is None else [round(float(v), 4) for v in stop.target],
        "pixel": None if stop.pixel is None else [round(float(v), 1) for v in stop.pixel],
        "remembered": stop.remembered,
        "step": stop.step.value,
        "text": stop.text,
        "problem": stop.problem[:200],
    }
