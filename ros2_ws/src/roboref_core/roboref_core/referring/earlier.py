"""Was that surface there before? Views of a marked thing in its place, compared with what a model points at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from roboref_core.errors import ReferError
from roboref_core.geometry.pose import inverse, transform
from roboref_core.models.mark_surface import surface_of_mark
from roboref_core.models.pointing_model import BoxMark, Mark, Place, PointMark, PositionMark
from roboref_core.referring.frames import FrameLookup
from roboref_core.referring.marks import mark_for_view
from roboref_core.referring.registered import Registering, bring
from roboref_core.views.locate import DepthSource, LocateConfig, locate
from roboref_core.views.registration import Change
from roboref_core.views.view import ImageError, View
from roboref_core.views.view_buffer import ViewBuffer

_MOST_VIEWS = 5
"""Views that are compared: each may have to be registered."""
_BORDER = 0.05
"""A place must lie this share of the picture inside its border, so that there is a surface to compare."""


def before_mark(
    marks: tuple[Mark, ...],
    view: View,
    buffer: ViewBuffer,
    registering: Registering,
    config: LocateConfig,
    frames: FrameLookup | None,
) -> Callable[[tuple[float, float]], Change] | None:
    """What a pixel of ``view`` showed while the marked thing was in its place; None without a mark made in a view."""
    mark = marks[0] if len(marks) == 1 else None
    if mark is None or isinstance(mark, PositionMark):
        return None
    return EarlierViews(view, mark, buffer, registering, config, frames).at


@dataclass(frozen=True)
class EarlierViews:
    """Views of when a marked thing was in its place, asked about surfaces of the searched view.

    Attributes:
        view: the searched one.
        mark: in its own view.
    """

    view: View
    mark: PointMark | BoxMark
    buffer: ViewBuffer
    registering: Registering
    locate: LocateConfig
    frames: FrameLookup | None = None

    def at(self, pixel: tuple[float, float]) -> Change:
        """What a pixel of the searched view shows, back then.

        UNCHANGED: the same surface was there already, so nothing moved there since; GONE: there was
        nothing; CHANGED: something of another colour; HIDDEN and NOT_CHECKED: no view tells.

        Where there was nothing in any view, the surface came since. That it was there already tells only of views that
        were taken before the mark, or that show the marked thing in its place.
        """
        place = locate(self.view, pixel, None, self.locate)
        if place.source is DepthSource.NONE or not place.in_world or place.point is None or place.covariance is None:
            return Change.NOT_CHECKED
        mark = PointMark(self.view, pixel, Place(place.point, place.covariance, self.view.world_frame))
        looked = 0
        for view in self._views():
            if looked == _MOST_VIEWS:
                break
            try:
                there = mark_for_view(mark, view, self.frames)
                if there.place is None or not _shows(view, there.place.position):
                    continue
                looked += 1
                change = self._change(there, view)
                same = change in (Change.UNCHANGED, Change.CHANGED)
                if change is Change.GONE or (same and self._in_place(view)):
                    return change
            except (ReferError, ImageError):
                continue
        return Change.HIDDEN if looked else Change.NOT_CHECKED

    def _views(self) -> list[View]:
        """From before the mark, the newest first, then those after it, the oldest first."""
        marked_ns = self.mark.view.stamp_ns
        views = [v for v in self.buffer.views() if v.T_world_camera is not None and v.images is not self.view.images]
        before = [view for view in views if view.stamp_ns <= marked_ns]
        return before + [view for view in reversed(views) if view.stamp_ns > marked_ns]

    def _in_place(self, view: View) -> bool:
        """Whether the marked thing is known to have been in its place when a view was taken."""
        if view.stamp_ns <= self.mark.view.stamp_ns:
            return True
        return self._change(mark_for_view(self.mark, view, self.frames), view) is Change.UNCHANGED

    def _change(self, mark: Mark, view: View) -> Change:
        """What a view says of the surface of a mark."""
        brought = bring((mark,), view, self.registering, self.locate, in_world=False)
        return surface_of_mark(brought.marks, brought.view).change


def _shows(view: View, position: np.ndarray) -> bool:
    """Whether a place in the view's world lies well inside its picture."""
    assert view.T_world_camera is not None
    u, v = view.camera.project(transform(inverse(view.T_world_camera), position))[0]
    border = _BORDER * view.camera.width
    return bool(border <= u < view.camera.width - border and border <= v < view.camera.height - border)
