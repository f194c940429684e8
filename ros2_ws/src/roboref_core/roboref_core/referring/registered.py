"""Marks brought into the searched view over the registration of both views, before anything is asked of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from roboref_core.geometry.pose import inverse, skew, transform
from roboref_core.models.pointing_model import BoxMark, Mark, Place, PointMark, PositionMark
from roboref_core.views.locate import DepthSource, LocateConfig, locate
from roboref_core.views.registration import (
    FeatureCache,
    Registrar,
    Registration,
    RegistrationMode,
    Verdict,
)
from roboref_core.views.view import View
from roboref_core.views.view_buffer import ViewBuffer

FEATURES = FeatureCache()
"""Of the whole process: its entries belong to images and end with them."""


@dataclass(frozen=True)
class Linked:
    """How a mark's view is linked to the searched one, where their stated poses do not stand.

    Attributes:
        registration: of the one to the other; UNCONSTRAINED without a pose where nothing links them.
        without_poses: not both views have a pose, so that the pictures alone had to link them.
        via_view_id: of a third view over which they are linked; empty: directly.
    """

    registration: Registration
    without_poses: bool = False
    via_view_id: str = ""


@dataclass(frozen=True)
class Brought:
    """A question about another view.

    Attributes:
        marks: in the world of ``view``.
        view: the searched one.
        linked: the first mark's view that was registered; None where the stated poses stand.
        locate: how depth is read, with the error that poses are found to have where none is declared.
    """

    marks: tuple[Mark, ...]
    view: View
    linked: Linked | None
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
    links: dict[int, Linked | None] = {}
    brought: list[Mark] = []
    for mark in marks:
        if isinstance(mark, PositionMark) or mark.view.images is searched.images:
            brought.append(mark)
            continue
        key = id(mark.view.images)
        if key not in links:
            links[key] = _link(mark.view, searched, registrar, config, between)
        link = links[key]
        if link is None or link.registration.T_query_reference is None:
            brought.append(mark)
            continue
        if searched.T_world_camera is None:
            searched = searched.with_pose(np.eye(4), searched.frame_id)
        brought.append(_brought(mark, mark.view, searched, link.registration, config))
    linked = next((one for one in links.values() if one is not None), None)
    return Brought(tuple(brought), searched, linked, _with_learned_sigma(marks, searched, registrar, config))


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


def _link(
    reference: View,
    searched: View,
    registrar: Registrar,
    config: LocateConfig,
    between: Sequence[View],
) -> Linked | None:
    if registrar.config.mode is RegistrationMode.OFF:
        return None
    if reference.T_world_camera is not None and searched.T_world_camera is not None:
        sigmas = config.pose_translation_sigma, config.pose_rotation_sigma
        registration = registrar.register(reference, searched, *sigmas)
        return None if registration is None else Linked(registration)
    found = registrar.through(reference, searched, between)
    if found is None:
        return Linked(Registration(Verdict.UNCONSTRAINED, None, None), without_poses=True)
    return Linked(found[0], without_poses=True, via_view_id=found[1])


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
