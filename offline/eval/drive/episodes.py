"""Episodes: where the robot starts, what it is asked for, and what has changed since its tour."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from roboref_core.geometry.pose import inverse, transform
from roboref_core.seeds import rng_of

from offline.data_engine.sources.labels import structural_family
from offline.data_engine.tasks.ground_truth import ground_truth_pixel
from offline.eval.drive.settings import Condition, DriveSettings
from offline.eval.drive.tour import Tour
from offline.eval.drive.truth import Place
from sim.robot.drive import RobotState
from sim.robot.obstacles import CELL
from sim.robot.room_changes import changed_scene, parse_change
from sim.rooms.scene import SimScene

# Least share of a tour's picture that a marked thing fills, and distance of a mark from its outline [pixel].
_MARKED_SHARE, _MARK_MARGIN = 0.002, 2.0
_START_CLEARANCE, _START_TRIES, _PLACE_TRIES = 0.12, 40, 60
# A place nearer than this to the old one might be taken for it [m].
_ELSEWHERE = 1.0
# Nothing wider than this is carried about [m].
_PORTABLE = 1.2


@dataclass(frozen=True, eq=False)
class Episode:
    """One task. Positions are in the map, which is the room's frame.

    Attributes:
        number: within its room and condition.
        scene: the room as it is when the robot starts.
        goal_id, label: the thing, and what it is called.
        alike: ids of the other things with that label.
        text: the question's words; without a mark they fit nothing else in the room.
        marked_view: of the tour, in which the thing is marked at ``mark`` (u, v).
        marked_point: (3,) of the thing's surface that is marked, where it is now, or was if it is gone [m].
        start: of the robot.
        shortest: way from there to a place before the thing [m]; None if it is gone.
        place: the thing where it is; None if it is gone.
    """

    room: int
    condition: Condition
    number: int
    scene: SimScene
    goal_id: int
    label: str
    alike: tuple[int, ...]
    text: str
    marked_view: int
    mark: tuple[float, float]
    marked_point: np.ndarray
    start: RobotState
    shortest: float | None
    place: Place | None

    @property
    def key(self) -> str:
        return f"room{self.room}-{self.condition}-{self.number:02d}"


class NoEpisode(ValueError):
    """A room does not give another episode of a condition. The text says why."""


def make_episode(tour: Tour, room: int, condition: Condition, number: int, settings: DriveSettings) -> Episode:
    """The ``number``-th episode of a room and condition; a pure function of its arguments.

    Things take turns, so that the first episodes of a room are about different ones.

    Raises NoEpisode if nothing in the room allows it.
    """
    rng = rng_of("episode", settings.seed, room, str(condition), number)
    marks = _marks(tour)
    goals = _in_turn(tour, sorted(marks), condition, number, settings)
    for goal_id in goals:
        episode = _with_goal(tour, room, condition, number, goal_id, marks[goal_id], settings, rng)
        if episode is not None:
            return episode
    raise NoEpisode(
        f"room {room}: none of its {len(goals)} things that the tour shows allows an episode of {condition!s}"
    )


def _marks(tour: Tour) -> dict[int, list[int]]:
    """Id of each thing that may be marked -> the tour's views that show it well, the largest first."""
    shares: dict[int, dict[int, float]] = {}
    things = {o.object_id for o in tour.scene.furniture if structural_family(o.label) is None}
    for i, seen in enumerate(tour.views):
        ids, counts = np.unique(seen.ids, return_counts=True)
        for object_id, count in zip(ids.tolist(), counts.tolist(), strict=True):
            if object_id in things and count / seen.ids.size >= _MARKED_SHARE:
                shares.setdefault(object_id, {})[i] = count / seen.ids.size
    return {object_id: sorted(views, key=lambda i: (-views[i], i)) for object_id, views in shares.items()}


def _in_turn(tour: Tour, things: list[int], condition: Condition, number: int, settings: DriveSettings) -> list[int]:
    """The things in the order in which they are tried."""
    order = rng_of("goals", settings.seed, tour.scene.scene_id).permutation(len(things))
    turned = [things[k] for k in np.roll(order, -number)]
    if condition is Condition.DUPLICATES:
        labels = [tour.scene.object(i).label for i in things]
        turned.sort(key=lambda i: labels.count(tour.scene.object(i).label) < 2)
        twins = sum(labels.count(label) > 1 for label in labels)
        turned = turned[number % twins : twins] + turned[: number % twins] + turned[twins:] if twins else turned
    return turned


def _with_goal(
    tour: Tour,
    room: int,
    condition: Condition,
    number: int,
    goal_id: int,
    views: list[int],
    settings: DriveSettings,
    rng: np.random.Generator,
) -> Episode | None:
    """None if this thing does not allow it."""
    thing, radius = tour.scene.object(goal_id), settings.robot().drive.radius
    # Not always the best view: the larger half of them.
    marked = views[int(rng.integers(1 + len(views) // 2))]
    found = _mark(tour, marked, goal_id, settings)
    if found is None:
        return None
    mark, point = found
    before = Place(tour.scene, goal_id, settings, tour.camera, radius)
    point = before.surface.nearest(point)  # without the sensor's noise
    scene = tour.scene
    if condition is Condition.MOVED:
        scene = _moved(scene, before, rng) or scene
        if scene is tour.scene:
            return None
        motion = scene.object(goal_id).T_world_object @ inverse(thing.T_world_object)
        point = transform(inverse(scene.T_world_room) @ motion @ scene.T_world_room, point)
    elif condition is Condition.REMOVED:
        if thing.label in {other.label for other in scene.furniture if other.object_id != goal_id}:
            return None  # Words and looks would fit what is still there.
        scene = scene.without(goal_id)
    alike = tuple(o.object_id for o in scene.furniture if o.label == thing.label and o.object_id != goal_id)
    if condition is Condition.DUPLICATES and not alike:
        scene = _with_twin(scene, before, thing.kind, rng) or scene
        alike = tuple(o.object_id for o in scene.furniture if o.label == thing.label and o.object_id != goal_id)
        if not alike:
            return None
    text = _question(tour.scene if condition is Condition.REMOVED else scene, goal_id, settings)
    if text is None:
        return None
    place = None if condition is Condition.REMOVED else Place(scene, goal_id, settings, tour.camera, radius)
    reachable = before if place is None else place
    if not len(reachable.viewpoints):
        return None
    start = _start(tour, reachable, condition is Condition.OCCLUDED, settings, rng)
    if start is None:
        return None
    return Episode(
        room,
        condition,
        number,
        scene,
        goal_id,
        thing.label,
        alike,
        text,
        marked,
        mark,
        point,
        start,
        None if place is None else place.way((start.x, start.y)),
        place,
    )


def _question(scene: SimScene, goal_id: int, settings: DriveSettings) -> str | None:
    """What the robot is asked for; None if no words tell the thing from all others."""
    thing = scene.object(goal_id)
    alike = [o for o in scene.furniture if o.label == thing.label and o is not thing]
    if settings.ask == "marks" or not alike:
        return f"the {thing.label}"
    return None if thing.color in {o.color for o in alike} else f"the {thing.color} {thing.label}"


def _mark(
    tour: Tour, view: int, goal_id: int, settings: DriveSettings
) -> tuple[tuple[float, float], np.ndarray] | None:
    """Pixel (u, v) of a mark in a view of the tour, and the point (3,) that it shows; None on a hole of the sensor."""
    seen = tour.views[view]
    u, v = ground_truth_pixel(
        seen.ids == goal_id, settings.seed, tour.scene.scene_id, goal_id, view, margin=_MARK_MARGIN
    )
    depth = float(seen.depth_mm[v, u]) / 1000
    if depth <= 0:
        return None
    point = transform(seen.T_room_camera, tour.camera.unproject(np.array([[u, v]], dtype=float), np.array([depth])))[0]
    return (float(u), float(v)), point


def _moved(scene: SimScene, before: Place, rng: np.random.Generator) -> SimScene | None:
    """The thing on the floor, at least a metre from where it was; None if nowhere is room for it."""
    extent = np.ptp(before.surface.points[:, :2], axis=0)
    if extent.max() > _PORTABLE:
        return None
    for change in _somewhere(before, rng):
        try:
            return changed_scene(scene, {"move": before.object_id, **change})
        except ValueError:
            continue
    return None


def _with_twin(scene: SimScene, before: Place, kind: str, rng: np.random.Generator) -> SimScene | None:
    """Another thing of the kind, at least a metre from the first; None if it cannot be brought."""
    looks = int(rng.integers(1000))
    for change in _somewhere(before, rng):
        brought = {"bring": kind, "seed": looks, **change}
        try:
            return changed_scene(scene, parse_change(json.dumps(brought)))
        except ValueError:
            continue
    return None


def _somewhere(before: Place, rng: np.random.Generator) -> Iterator[dict[str, float]]:
    size = before.obstacles.size
    for _ in range(_PLACE_TRIES):
        x, y, yaw = rng.uniform(0.2, size[0] - 0.2), rng.uniform(0.2, size[1] - 0.2), rng.uniform(-np.pi, np.pi)
        if np.hypot(x - before.middle[0], y - before.middle[1]) >= _ELSEWHERE:
            yield {"x": float(x), "y": float(y), "yaw": float(yaw)}


def _start(
    tour: Tour, place: Place, occluded: bool, settings: DriveSettings, rng: np.random.Generator
) -> RobotState | None:
    """A free place with a way to the thing, and another from the tour's end; None if there is none."""
    cells = np.argwhere(place.obstacles.free(settings.robot().drive.radius + _START_CLEARANCE))
    tried = 0
    for k in rng.permutation(len(cells)):
        x, y = ((cells[k] + 0.5) * CELL).tolist()
        if place.surface.distance_over_floor(np.array((x, y))) <= settings.success_distance + 0.1:
            continue
        tried += 1
        if tried > _START_TRIES:
            return None
        state = place.facing(np.array((x, y)))
        if occluded:
            if place.share(state) > 0 or place.share_alone(state) < settings.in_view:
                continue
        else:
            state = replace(state, yaw=float(rng.uniform(-np.pi, np.pi)))
        if settings.start_distance <= place.way((x, y)) < np.inf and np.isfinite(place.way((tour.end.x, tour.end.y))):
            return state
    return None
