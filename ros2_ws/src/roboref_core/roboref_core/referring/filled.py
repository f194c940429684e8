"""Depth that was filled in from around a hole, against the place of the mark that the question is about."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from roboref_core.geometry.pose import inverse, transform
from roboref_core.models.pointing_model import Mark
from roboref_core.referring.answer import Target
from roboref_core.views.locate import DepthSource
from roboref_core.views.view import View
from roboref_core.views.visibility import DepthTolerance

_NEAR = 0.02
"""A target this near to where the mark's place projects is of the marked thing [share of the picture's diagonal]."""
_SIGMAS = 2.0


def vouched(
    targets: tuple[Target, ...], marks: tuple[Mark, ...], view: View, tolerance: DepthTolerance
) -> tuple[Target, ...]:
    """``targets``, without the position of those whose filled depth contradicts the one mark's place.

    What leaves a hole is often in front of what surrounds it (thin, dark, shiny). Where the model points at the
    marked place, and that was measured in its own view at another depth than the surroundings of the hole have,
    neither is known to be right: the thing may have moved.

    Args:
        marks: in the world of ``view``.
    """
    place = marks[0].place if len(marks) == 1 else None
    if place is None or view.T_world_camera is None:
        return targets
    T_camera_world = inverse(view.T_world_camera)
    point = transform(T_camera_world, place.position)
    pixel = view.camera.project(point)[0]
    axis = T_camera_world[2, :3]
    limit = float(tolerance.at(point[2])) + _SIGMAS * float(np.sqrt(max(axis @ place.covariance @ axis, 0.0)))
    near = _NEAR * float(np.hypot(view.camera.width, view.camera.height))

    def contradicts(target: Target) -> bool:
        if target.depth_source is not DepthSource.FILLED or not np.isfinite(pixel).all():
            return False
        aside = float(np.hypot(target.pixel[0] - pixel[0], target.pixel[1] - pixel[1]))
        return aside <= near and abs(target.depth - float(point[2])) > limit

    return tuple(_without_position(target) if contradicts(target) else target for target in targets)


def _without_position(target: Target) -> Target:
    nan = float("nan")
    return replace(target, position=None, covariance=None, depth_source=DepthSource.NONE, depth=nan, depth_spread=nan)
