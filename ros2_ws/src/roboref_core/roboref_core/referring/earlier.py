"""Was that surface there before? Views from before a mark was made, compared with what a model points at now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from roboref_core.errors import ReferError
from roboref_core.geometry.pose import inverse, transform
from roboref_core.models.mark_surface import surface_of_mark
from roboref_core.models.pointing_model import Mark, Place, PointMark, PositionMark
from roboref_core.referring.frames import FrameLookup
from roboref_core.referring.marks import mark_for_view
from roboref_core.referring.registered import Registering, bring
from roboref_core.views.locate import DepthSource, LocateConfig, locate
from roboref_core.views.registration import Change
from roboref_core.views.view import ImageError, View
from roboref_core.views.view_buffer import ViewBuffer

_MOST_VIEWS = 3
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
    """What a pixel of ``view`` showed before the one mark was made; None without one that was made in a view."""
    mark = marks[0] if len(marks) == 1 else None
    if mark is None or isinstance(mark, PositionMark):
        return None
    return EarlierViews(view, mark.view.stamp_ns, buffer, registering, config, frames).at


@dataclass(frozen=True)
class EarlierViews:
    """Views from before a mark was made, asked about surfaces of the searched view.

    Attributes:
        view: the searched one.
        before_ns: capture time of the mark's view.
    """

    view: View
    before_ns: int
    buffer: ViewBuffer
    registering: Registering
    locate: LocateConfig
    frames: FrameLookup | None = None

    def at(self, pixel: tuple[float, float]) -> Change:
        """What a pixel of the searched view shows, back then.

        UNCHANGED: the same surface was there already, so it is no thing that moved there since; GONE: there was
        nothing; CHANGED: something of another colour; HIDDEN and NOT_CHECKED: no view tells.
        """
        place = locate(self.view, pixel, None, self.locate)
        if place.source is DepthSource.NONE or not place.in_world or place.point is None or place.covariance is None:
            return Change.NOT_CHECKED
        mark = PointMark(self.view, pixel, Place(place.point, place.covariance, self.view.world_frame))
        looked = 0
        for view in self.buffer.views():
            if view.stamp_ns > self.before_ns or looked == _MOST_VIEWS or view.T_world_camera is None:
                continue
            try:
                there = mark_for_view(mark, view, self.frames)
                if there.place is None or not _shows(view, there.place.position):
                    continue
                looked += 1
                brought = bring((there,), view, self.registering, self.locate, in_world=False)
                change = surface_of_mark(brought.marks, brought.view).change
            except (ReferError, ImageError):
                continue
            if change in (Change.UNCHANGED, Change.GONE, Change.CHANGED):
                return change
        return Change.HIDDEN if looked else Change.NOT_CHECKED


def _shows(view: View, position: np.ndarray) -> bool:
    """Whether a place in the view's world lies well inside its picture."""
    assert view.T_world_camera is not None
    u, v = view.camera.project(transform(inverse(view.T_world_camera), position))[0]
    border = _BORDER * view.camera.width
    return bool(border <= u < view.camera.width - border and border <= v < view.camera.height - border)
