"""One picture of an episode: the room from above with the way, beside what the robot saw and was answered."""

from __future__ import annotations

import cv2
import numpy as np
from roboref_core.geometry.pose import inverse, transform
from roboref_core.scene import Mesh

from offline.eval.drive.episodes import Episode
from offline.eval.drive.judge import Driven, Stop
from offline.eval.drive.tour import Tour
from offline.eval.drive.truth import surface_of
from offline.eval.replay.closed_loop.floor_plan import FloorPlan
from offline.eval.replay.scoring.pictures import query_picture, reference_picture
from sim.rooms.scene import SimScene

_VIEW, _COLUMNS, _ROWS, _GAP, _TEXT = (240, 180), 3, 3, 6, 16


def plan_of(scene: SimScene) -> FloorPlan:
    """The room from above, in its own frame."""
    mesh = scene.mesh()
    vertices = transform(inverse(scene.T_world_room), mesh.vertices.astype(np.float64))
    return FloorPlan(Mesh(vertices, mesh.faces, mesh.colors), float(scene.room[1, 2]) - 0.1)


def picture_of(episode: Episode, tour: Tour, driven: Driven, plan: FloorPlan) -> np.ndarray:
    """(H, W, 3) uint8 RGB."""
    asked = [stop.seen.T_room_camera for stop in driven.stops]
    # Of a thing that was taken away: where it was.
    surface = surface_of(tour.scene if episode.place is None else episode.scene, episode.goal_id).points
    above = plan.draw(
        np.array([seen.T_room_camera for seen in tour.views]),
        surface,
        asked,
        asked,
        [stop.target for stop in driven.stops],
        path=np.array([(state.x, state.y) for state in driven.path]),
    )
    marked = tour.views[episode.marked_view]
    tiles = [_tile(reference_picture(marked.color, episode.mark), f"marked on the tour: {episode.label}")]
    chosen = np.unique(np.linspace(0, len(driven.stops) - 1, _COLUMNS * _ROWS - 1).round().astype(int))
    tiles += [_tile(_answered(episode, driven.stops[n]), f"{n}: {_said(driven.stops[n])}") for n in chosen]
    rows = [tiles[i : i + _COLUMNS] for i in range(0, len(tiles), _COLUMNS)]
    views = np.vstack([np.hstack(row + [np.full_like(tiles[0], 255)] * (_COLUMNS - len(row))) for row in rows])
    height = _ROWS * tiles[0].shape[0]
    scale = height / above.shape[0]
    above = cv2.resize(above, (round(above.shape[1] * scale), height), interpolation=cv2.INTER_AREA)
    page = np.full((height, above.shape[1] + views.shape[1], 3), 255, np.uint8)
    page[:, : above.shape[1]] = above
    page[: views.shape[0], above.shape[1] :] = views
    return page


def _answered(episode: Episode, stop: Stop) -> np.ndarray:
    return query_picture(stop.seen.color, None, stop.pixel, stop.seen.ids == episode.goal_id)


def _said(stop: Stop) -> str:
    if stop.status is None:
        return stop.text
    return stop.status.name + (", remembered" if stop.remembered else "") + f" -> {stop.step.value}"


def _tile(picture: np.ndarray, text: str) -> np.ndarray:
    tile = np.full((_VIEW[1] + _TEXT + _GAP, _VIEW[0] + _GAP, 3), 255, np.uint8)
    tile[: _VIEW[1], _GAP:] = cv2.resize(picture, _VIEW, interpolation=cv2.INTER_AREA)
    cv2.putText(tile, text[:44], (_GAP, _VIEW[1] + 12), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (40, 40, 40), 1, cv2.LINE_AA)
    return tile
