"""Who drives: the robot's own decisions over answers of several kinds, and those that ask nobody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from roboref_core.approach import Eye, OccupancyMap, facing
from roboref_core.errors import ErrorCode, ReferError
from roboref_core.geometry.pose import inverse, transform
from roboref_core.models.pointing_model import PointingModel
from roboref_core.pursuit import Decision, End, Pursuit, Step
from roboref_core.referring.answer import Answer, GeometricCheck, LastKnown, Status, Target
from roboref_core.referring.pose_residual import pose_residual
from roboref_core.referring.query import MarkedPoint, Query
from roboref_core.referring.refer import ReferConfig, answer
from roboref_core.seeds import rng_of
from roboref_core.views.locate import DepthSource, LocateConfig
from roboref_core.views.registration import RegistrationMode
from roboref_core.views.view import View
from roboref_core.views.view_buffer import ViewBuffer, ViewBufferConfig
from roboref_core.views.visibility import Visibility

from offline.eval.drive.episodes import Episode
from offline.eval.drive.settings import Condition, DriveSettings
from offline.eval.drive.tour import MAP, ODOM, Tour
from sim.robot.obstacles import CELL

# Newest keyframes by which the node judges odometry, see roboref_ros.
_COMPARED = 8
_LEGS = 4


@dataclass(frozen=True, eq=False)
class Moment:
    """Attributes:
    view: what the robot sees, in its own poses.
    T_map_base: 4x4 where it is, as localisation says.
    T_map_odom: 4x4 of the odometry's frame at this time; the identity where views are posed in the map.
    ids: (H, W) which thing each pixel shows, for the oracle alone.
    """

    view: View
    T_map_base: np.ndarray
    T_map_odom: np.ndarray
    ids: np.ndarray

    @property
    def eye(self) -> Eye:
        return Eye(self.view.camera, inverse(self.T_map_base) @ self.T_map_odom @ _posed(self.view))


class Agent(Protocol):
    """Drives one episode.

    Attributes:
        answer: the newest, None before the first or where nobody is asked.
    """

    answer: Answer | None

    def decide(self, now: Moment) -> Decision: ...


class Asking:
    """What go_to does: asks, and decides by the answers.

    Args:
        ask: answers a query about the newest of the moments.
        grid: of the floor.
    """

    def __init__(
        self,
        ask: Callable[[Moment], Answer],
        settings: DriveSettings,
        grid: OccupancyMap,
    ):
        self._ask, self._grid = ask, grid
        self._pursuit = Pursuit(settings.go_to)
        self.answer: Answer | None = None

    def decide(self, now: Moment) -> Decision:
        self.answer = self._ask(now)
        return self._pursuit.on_answer(self.answer, now.T_map_base, self._grid, now.eye)


class NeverMoves:
    """Says at once that it has arrived."""

    answer: Answer | None = None

    def decide(self, now: Moment) -> Decision:
        return Decision(Step.ARRIVED, text="it never moves", end=End.ARRIVED)


class RandomWalk:
    """Drives to a few free places and says that it has arrived."""

    answer: Answer | None = None

    def __init__(self, episode: Episode, settings: DriveSettings, grid: OccupancyMap):
        rows, columns = np.nonzero(grid.free)
        rng = rng_of("random walk", settings.seed, episode.key)
        chosen = rng.integers(len(rows), size=_LEGS)
        self._places = np.column_stack([columns[chosen], rows[chosen]]) * grid.resolution + grid.resolution / 2
        self._left, self._since, self._standing = list(self._places), 0, 0
        self._before: np.ndarray | None = None

    def decide(self, now: Moment) -> Decision:
        place = now.T_map_base[:2, 3]
        still = self._before is not None and np.linalg.norm(place - self._before) < 0.02
        self._standing = self._standing + 1 if still else 0
        self._before = place
        if self._left and (self._since == 0 or self._standing >= 2):
            goal, self._since, self._standing = self._left.pop(0), 1, 0
            return Decision(Step.GO, facing(goal, goal + goal - place), "a random place")
        if not self._left and self._standing >= 2:
            return Decision(Step.ARRIVED, text="tired", end=End.ARRIVED)
        return Decision(Step.WAIT, text="walking")


class Oracle:
    """Perfect eyes and a perfect memory: the true place of the marked point, found where any of the thing is in view,
    remembered elsewhere; of what was taken away, that it is not visible."""

    def __init__(self, episode: Episode, settings: DriveSettings):
        self._episode, self._least = episode, settings.in_view

    def __call__(self, now: Moment) -> Answer:
        episode, point = self._episode, self._episode.marked_point
        if episode.place is None:
            return Answer(Status.NOT_VISIBLE, model="oracle")
        T_map_camera = now.T_map_odom @ _posed(now.view)
        pixel = now.view.camera.project(transform(inverse(T_map_camera), point))[0]
        target = Target(
            (float(pixel[0]), float(pixel[1])), MAP, now.view.stamp_ns, point, np.eye(3) * 1e-6, DepthSource.SENSOR
        )
        if float((now.ids == episode.goal_id).mean()) >= self._least:
            return Answer(Status.FOUND, targets=(target,), view=now.view, model="oracle")
        known = LastKnown("", target, GeometricCheck(visibility=Visibility.OCCLUDED))
        return Answer(Status.NOT_VISIBLE, last_known=(known,), view=now.view, model="oracle")


def _posed(view: View) -> np.ndarray:
    assert view.T_world_camera is not None, "views of a drive have poses"
    return view.T_world_camera


class Localisation:
    """The odometry's frame in the map over the last seconds; a FrameLookup as tf2 is one on a robot."""

    _KEPT_NS = 10 * 10**9

    def __init__(self) -> None:
        self._known: dict[int, np.ndarray] = {}

    def add(self, stamp_ns: int, T_map_odom: np.ndarray) -> None:
        self._known[stamp_ns] = T_map_odom
        for old in [stamp for stamp in self._known if stamp < stamp_ns - self._KEPT_NS]:
            del self._known[old]

    def lookup(self, target_frame: str, source_frame: str, stamp_ns: int | None) -> np.ndarray:
        if (target_frame, source_frame) != (MAP, ODOM) or not self._known:
            raise ReferError(ErrorCode.TF_ERROR, f"no transform from {source_frame!r} to {target_frame!r}")
        newest = max(self._known)
        return self._known[newest if stamp_ns is None or stamp_ns not in self._known else stamp_ns]


class Core:
    """Answers as the node does: the same buffer, model, registration and frames, without its topics.

    Args:
        registration: when views are registered to one another.
    """

    def __init__(
        self,
        episode: Episode,
        tour: Tour,
        model: PointingModel,
        registration: RegistrationMode,
        settings: DriveSettings,
    ):
        drifts = episode.condition is Condition.DRIFTING
        views = tour.remembered(drifts)
        self._model, self._frames = model, Localisation()
        # The tour took views where a keyframe is due; of the later ones each question's is one.
        self._buffer = ViewBuffer(ViewBufferConfig(min_interval=0.0, sharpness_window=1))
        for view in views:
            self._buffer.add(view)
            if view is views[episode.marked_view]:
                self._buffer.pin(view.view_id)
        locate = LocateConfig()
        if drifts:
            translation, rotation = settings.pose_sigma
            locate = replace(locate, pose_translation_sigma=translation, pose_rotation_sigma=rotation)
        self._config = ReferConfig(target_frame=MAP, locate=locate, registration=registration)
        mark = MarkedPoint(episode.mark, views[episode.marked_view].view_id)
        regions = (mark,) if settings.ask == "marks" else ()
        self._query = Query(episode.text, regions=regions, target_frame=MAP, search_memory=True)
        self._poses_disagree, self._judged = False, ""

    def __call__(self, now: Moment) -> Answer:
        self._frames.add(now.view.stamp_ns, now.T_map_odom)
        self._buffer.add(now.view)
        return answer(
            self._query,
            self._buffer,
            self._model,
            self._config,
            frames=self._frames,
            poses_disagree=self._disagree(),
        )

    def _disagree(self) -> bool:
        if self._config.registration is RegistrationMode.OFF:
            return False
        keyframes = self._buffer.keyframes()[:_COMPARED]
        if keyframes and keyframes[0].view_id != self._judged:
            self._judged = keyframes[0].view_id
            self._poses_disagree = pose_residual(keyframes).poses_disagree
        return self._poses_disagree


def grid_of(occupied: np.ndarray) -> OccupancyMap:
    """The map of a simulated room. Args: occupied: (X, Y) bool."""
    return OccupancyMap(np.where(occupied.T, 100, 0).astype(np.int8), CELL, (0.0, 0.0))


MODELS = ("reprojection", "registration", "nano", "fused")
NAMES = ("oracle", *MODELS, "never-moves", "random-walk")
_REGISTRATION = {
    "reprojection": RegistrationMode.OFF,
    "nano": RegistrationMode.OFF,
    "registration": RegistrationMode.AUTO,
    "fused": RegistrationMode.AUTO,
}


def make_agent(
    name: str,
    episode: Episode,
    tour: Tour,
    settings: DriveSettings,
    occupied: np.ndarray,
    model: PointingModel | None,
) -> Agent:
    """An agent of ``NAMES`` for one episode.

    Args:
        occupied: (X, Y) bool cells of the room as it is.
        model: of those in ``MODELS``.
    """
    grid = grid_of(occupied)
    if name == "never-moves":
        return NeverMoves()
    if name == "random-walk":
        return RandomWalk(episode, settings, grid)
    if name == "oracle":
        return Asking(Oracle(episode, settings), settings, grid)
    assert model is not None
    return Asking(Core(episode, tour, model, _REGISTRATION[name], settings), settings, grid)
