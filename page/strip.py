"""The strip of reference views: which of the node's views are shown, as thumbnails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence

import numpy as np
from nicegui import ui
from roboref_core.geometry.pose import inverse

from page.pictures import data_url, jpeg
from page.robot import Robot, ViewPictures, ViewSummary

_THUMBNAIL = 160
# Views nearer to one another than all of these show the same [m], [rad], [s].
_SHIFT, _TURN, _SECONDS = 0.15, np.radians(8), 30.0


def distinct(views: Sequence[ViewSummary], shown: Collection[str] = ()) -> list[ViewSummary]:
    """Views without those that look from the same place in the same direction at nearly the same time.

    The node keeps its newest views besides its keyframes, so that of a robot that stands still it has many. Pinned
    views stay, views that are ``shown`` stay before others, and others in their order.
    """
    kept: list[ViewSummary] = []
    for view in sorted(views, key=lambda v: (not v.pinned, v.view_id not in shown)):
        if view.pinned or not any(_same(view, other) for other in kept):
            kept.append(view)
    chosen = {view.view_id for view in kept}
    return [view for view in views if view.view_id in chosen]


def _same(a: ViewSummary, b: ViewSummary) -> bool:
    if abs(a.stamp - b.stamp) >= _SECONDS or a.frame != b.frame:
        return False
    if a.T_world_camera is None or b.T_world_camera is None:
        return a.T_world_camera is b.T_world_camera and abs(a.stamp - b.stamp) < 2.0
    between = inverse(a.T_world_camera) @ b.T_world_camera
    turn = np.arccos(np.clip((np.trace(between[:3, :3]) - 1) / 2, -1, 1))
    return bool(np.linalg.norm(between[:3, 3]) < _SHIFT and turn < _TURN)


class Strip:
    """Thumbnails in a row, kept in step with the node's views; one that stays is not drawn again.

    Args:
        choose: called with the id of the view that was clicked.
    """

    def __init__(self, robot: Robot, choose: Callable[[str], Awaitable[None]]):
        self._robot, self._choose = robot, choose
        self._row = ui.row().classes("w-full no-wrap overflow-x-auto gap-2 py-2").props("data-testid=strip")
        self._drawn: dict[str, ui.image] = {}

    async def show(self, views: Sequence[ViewSummary]) -> list[ViewPictures]:
        """Draw ``views`` -> the pictures of those that were not drawn before."""
        for gone in self._drawn.keys() - {view.view_id for view in views}:
            self._drawn.pop(gone).delete()
        fresh = []
        for place, view in enumerate(views):
            if view.view_id in self._drawn:
                self._mark(self._drawn[view.view_id], view)
                continue
            try:
                picture = await self._robot.pictures(view.view_id)
            except (ValueError, TimeoutError):
                continue  # the node dropped it between the list and now
            fresh.append(picture)
            self._draw(picture, view, place)
        return fresh

    @property
    def shown(self) -> Collection[str]:
        """Ids of the views that are drawn."""
        return self._drawn.keys()

    def _draw(self, picture: ViewPictures, view: ViewSummary, place: int) -> None:
        with self._row:
            thumbnail = ui.image(data_url(jpeg(picture.color, _THUMBNAIL))).classes("rounded cursor-pointer")
        thumbnail.style(f"width: {_THUMBNAIL}px; flex: none").props("no-spinner no-transition")
        thumbnail.props(f'data-view="{view.view_id}"')
        thumbnail.on("click", lambda _, view_id=view.view_id: self._choose(view_id))
        thumbnail.tooltip(f"{view.view_id}{' (pinned)' if view.pinned else ''}")
        thumbnail.move(target_index=min(place, len(self._drawn)))
        self._drawn[view.view_id] = thumbnail
        self._mark(thumbnail, view)

    @staticmethod
    def _mark(thumbnail: ui.image, view: ViewSummary) -> None:
        thumbnail.classes(**{"add" if view.pinned else "remove": "outline outline-2 outline-yellow-400"})
