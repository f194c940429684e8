"""Is a place that an older view shows seen in the searched view, or does something say that it is there no more?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from roboref_core.errors import ReferError
from roboref_core.models.pointing_model import Place, PointMark
from roboref_core.referring.answer import Agreement, GeometricCheck, LastKnown
from roboref_core.referring.frames import FrameLookup
from roboref_core.referring.marks import mark_for_view
from roboref_core.views.locate import LocateConfig, locate
from roboref_core.views.registration import Change, ChangeEvidence, what_changed
from roboref_core.views.view import View
from roboref_core.views.visibility import DepthTolerance, Visibility, point_visibility

_EXACT = 0.03
"""Surfaces of two views are compared where the remembered place is known to this standard deviation [m]."""


def seen_now(
    known: LastKnown,
    remembered: View,
    searched: View,
    locate_config: LocateConfig,
    tolerance: DepthTolerance,
    frames: FrameLookup | None,
) -> GeometricCheck:
    """What depth and poses of the searched view say of a remembered place, which the answer says is NOT_VISIBLE.

    Its agreement is AGREES where the place is out of sight, looked through, or shows something else now; DISAGREES
    where the surface of then is seen still; UNDECIDED where depth or the place's own uncertainty cannot tell. Where
    a view has no pose, or nothing links the frames of both, it is NOT_CHECKED.
    """
    location = locate(remembered, known.target.pixel, None, locate_config)
    if searched.T_world_camera is None or not location.in_world:
        return GeometricCheck()
    assert location.point is not None and location.covariance is not None
    place = Place(location.point, location.covariance, remembered.world_frame)
    try:
        mark = mark_for_view(PointMark(remembered, known.target.pixel, place), searched, frames)
    except ReferError:
        return GeometricCheck()
    assert isinstance(mark, PointMark) and mark.place is not None
    sigma = float(np.sqrt(np.linalg.eigvalsh(location.covariance)[-1]))
    # A place beside an outline may lie on either surface: both count as the same.
    wide = replace(tolerance, a=tolerance.a + 2 * sigma)
    (visibility,), pixels = point_visibility(mark.place.position, searched, wide)
    u, v = (float(x) for x in pixels[0])
    surface = what_changed(mark.view, searched, mark.pixel) if sigma <= _EXACT else ChangeEvidence()
    return GeometricCheck(
        _agreement(visibility, surface.change),
        visibility,
        (u, v) if np.isfinite([u, v]).all() else None,
        surface=surface,
    )


def _agreement(visibility: Visibility, change: Change) -> Agreement:
    """Whether a place is as out of sight as the answer says."""
    if visibility in (Visibility.OUT_OF_FRUSTUM, Visibility.OCCLUDED):
        return Agreement.AGREES
    if change in (Change.GONE, Change.CHANGED):
        return Agreement.AGREES
    if visibility is Visibility.VISIBLE and change is Change.UNCHANGED:
        return Agreement.DISAGREES
    return Agreement.UNDECIDED
