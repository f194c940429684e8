"""Marks brought into the searched view over the registration of both views, before anything is asked of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from roboref_core.geometry.pose import inverse, skew, transform
from roboref_core.models.pointing_model import BoxMark, Mark, Place, PointMark, PositionMark
from roboref_core.views.locate import DepthSource, LocateConfig, locate
from roboref_core.views.registration import ChangeEvidence, Registrar, Registration, RegistrationMode, what_changed
from roboref_core.views.view import View
from roboref_core.views.view_buffer import ViewBuffer


@dataclass(frozen=True)
class Brought:
    """A question about another view.

    Attributes:
        marks: in the world of ``view``.
        view: the searched one.
        registration: of the first mark's view that was registered; None where the stated poses stand.
        locate: how depth is read, with the error that poses are found to have where none is declared.
    """

    marks: tuple[Mark, ...]
    view: View
    registration: Registration | None
    locate: LocateConfig


def bring(
    marks: tuple[Mark, ...],
    searched: View,
    registrar: Registrar,
    config: LocateConfig,
    between: Sequence[View] = (),
) -> Brought:
    """The marks as the searched view sees them.

    A mark's view gets the pose that fits the stated pose of the searched view, and its place the covariance of the
    registered relative pose instead of the stated one's. Where the searched view has no pose, its optical frame
    becomes the world.

    Args:
        between: views over which two views without poses may be connected.
    Raises:
        ImageError: a picture cannot be decoded.
    """
    registrations: dict[int, Registration | None] = {}
    brought: list[Mark] = []
    for mark in marks:
        if isinstance(mark, PositionMark) or mark.view.images is searched.images:
            brought.append(mark)
            continue
        key = id(mark.view.images)
        if key not in registrations:
            registrations[key] = _register(mark.view, searched, registrar, config, between)
        registration = registrations[key]
        if registration is None or registration.T_query_reference is None:
            brought.append(mark)
            continue
        if searched.T_world_camera is None:
            searched = searched.with_pose(np.eye(4), searched.frame_id)
        brought.append(_brought(mark, mark.view, searched, registration, config))
    registration = next((one for one in registrations.values() if one is not None), None)
    return Brought(tuple(brought), searched, registration, _with_learned_sigma(marks, searched, registrar, config))


def _with_learned_sigma(
    marks: tuple[Mark, ...], searched: View, registrar: Registrar, config: LocateConfig
) -> LocateConfig:
    """Poses without a declared error have the one that the surfaces of the two views show."""
    declared = config.pose_translation_sigma > 0 or config.pose_rotation_sigma > 0
    if declared or registrar.config.mode is RegistrationMode.OFF or len(marks) != 1:
        return config
    (mark,) = marks
    if isinstance(mark, PositionMark) or mark.view.images is searched.images:
        return config
    return replace(config, pose_translation_sigma=registrar.pose_sigma(mark.view, searched))


def _register(
    reference: View,
    searched: View,
    registrar: Registrar,
    config: LocateConfig,
    between: Sequence[View],
) -> Registration | None:
    if reference.T_world_camera is not None and searched.T_world_camera is not None:
        return registrar.register(reference, searched, config.pose_translation_sigma, config.pose_rotation_sigma)
    found = registrar.through(reference, searched, between)
    return None if found is None else found[0]


def _brought(
    mark: PointMark | BoxMark, reference: View, searched: View, registration: Registration, config: LocateConfig
) -> Mark:
    T_world_query, T_query_reference = searched.T_world_camera, registration.T_query_reference
    assert T_world_query is not None and T_query_reference is not None and registration.covariance is not None
    T_world_reference = T_world_query @ T_query_reference
    view = reference.with_pose(T_world_reference, searched.world_frame)
    if isinstance(mark, BoxMark) and mark.place is not None and reference.T_world_camera is not None:
        moved = T_world_reference @ inverse(reference.T_world_camera)
        position = transform(moved, mark.place.position)
        covariance = moved[:3, :3] @ mark.place.covariance @ moved[:3, :3].T
    else:
        # Errors of the stated poses do not count: the registration's take their place.
        exact = replace(config, pose_translation_sigma=0.0, pose_rotation_sigma=0.0)
        location = locate(view, mark.pixel, None, exact)
        if location.source == DepthSource.NONE:
            return replace(mark, view=view)
        assert location.point is not None and location.covariance is not None
        position, covariance = location.point, location.covariance
    own = _carried_covariance(transform(inverse(T_world_query), position), registration.covariance)
    R = T_world_query[:3, :3]
    return replace(mark, view=view, place=Place(position, covariance + R @ own @ R.T, searched.world_frame))


def _carried_covariance(point_query: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """(3, 3) covariance [m^2] that a (6, 6) error of the relative pose gives to a point of the query's frame."""
    J = np.hstack([np.eye(3), -skew(point_query)])
    return J @ covariance @ J.T


def candidates(searched: View, marks: tuple[Mark, ...], buffer: ViewBuffer) -> list[View]:
    """Views that may connect the searched one with a mark's, those between both in time first."""
    held = [mark.view.stamp_ns for mark in marks if not isinstance(mark, PositionMark)]
    middle = (searched.stamp_ns + (held[0] if held else searched.stamp_ns)) // 2
    return sorted(buffer.views(), key=lambda view: abs(view.stamp_ns - middle))


def surface_of_mark(marks: tuple[Mark, ...], searched: View) -> ChangeEvidence:
    """What became of the surface around the one mark that was made in another view."""
    mark = marks[0] if len(marks) == 1 else None
    if mark is None or isinstance(mark, PositionMark) or mark.view.images is searched.images:
        return ChangeEvidence()
    return what_changed(mark.view, searched, mark.pixel, mark.box if isinstance(mark, BoxMark) else None)
