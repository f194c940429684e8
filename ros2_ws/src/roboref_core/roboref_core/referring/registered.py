"""Marks brought into the searched view over the registration of both views, before anything is asked of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from roboref_core.geometry.pose import carried_covariance, inverse, transform
from roboref_core.models.pointing_model import BoxMark, Mark, Place, PointMark, PositionMark
from roboref_core.views.locate import DepthSource, LocateConfig, locate
from roboref_core.views.registration import (
    FeatureCache,
    Keyframes,
    PoseError,
    PoseErrors,
    Registrar,
    RegistrarConfig,
    Registration,
    RegistrationMode,
    Registrations,
    Verdict,
)
from roboref_core.views.registration.register import relative_covariance
from roboref_core.views.view import View
from roboref_core.views.view_buffer import ViewBuffer

FEATURES = FeatureCache()
"""Of the whole process: its entries belong to images and end with them."""
_REGISTRATIONS = Registrations()
_POSE_ERRORS = PoseErrors()
_NOTICEABLE = 1.0
"""Two poses are registered where their error moves what they see by this many standard deviations of sensor noise."""

_ENOUGH_PAIRS = 10
"""Fewer pairs of views say little of poses in general, and nothing of the noise of their sensor."""


@dataclass(frozen=True)
class Linked:
    """How a mark's view is linked to the searched one, where their stated poses do not stand.

    Attributes:
        registration: of the one to the other; UNCONSTRAINED without a pose where nothing links them.
        without_poses: not both views have a pose, so that the pictures alone had to link them.
        via_view_ids: of the views over which they are linked, in order; empty: directly.
    """

    registration: Registration
    without_poses: bool = False
    via_view_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Brought:
    """A question about another view.

    Attributes:
        marks: in the world of ``view``.
        view: the searched one.
        linked: the first mark's view that was registered; None where the stated poses stand.
        locate: how depth is read, with the noise that it is seen to have.
    """

    marks: tuple[Mark, ...]
    view: View
    linked: Linked | None
    locate: LocateConfig


@dataclass(frozen=True)
class Registering:
    """What registers the views of one question.

    Attributes:
        registrar: registers pairs.
        keyframes: solves poses over several.
        views: all that are held, over which two views without poses may be connected.
        way: of the camera to a view [m].
        deadline: time.monotonic() after which no further keyframe is registered [s]; None: no limit.
    """

    registrar: Registrar
    keyframes: Keyframes
    views: Callable[[], Sequence[View]]
    way: Callable[[View], float]
    deadline: float | None = None
    _learned: dict[str, PoseError] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        buffer: ViewBuffer,
        mode: RegistrationMode,
        deadline: float | None = None,
        poses_disagree: bool = False,
    ) -> Registering:
        """Of a buffer's views. What is computed of them is kept for the whole process and ends with their images."""
        registrar = Registrar(RegistrarConfig(mode, poses_disagree=poses_disagree), FEATURES)
        keyframes = Keyframes(registrar, _REGISTRATIONS, buffer.views_overlapping)
        return cls(registrar, keyframes, buffer.views, buffer.way, deadline)

    def pose_error(self, searched: View, references: Sequence[View], config: LocateConfig) -> PoseError | None:
        """Of poses whose error nobody declared, as all views show it; None where it is declared, or nobody may look."""
        declared = config.pose_translation_sigma > 0 or config.pose_rotation_sigma > 0
        off = self.registrar.config.mode is RegistrationMode.OFF
        if declared or off or searched.T_world_camera is None or searched.pose_covariance is not None:
            return None
        world = searched.world_frame
        if world not in self._learned:
            views = {view.view_id: view for view in (*self.views(), searched, *references)}
            own = [view for view in views.values() if view.world_frame == world]
            self._learned[world] = _POSE_ERRORS.of(self.registrar, own, self.way)
        return self._learned[world]


def bring(
    marks: tuple[Mark, ...],
    searched: View,
    registering: Registering,
    config: LocateConfig,
    in_world: bool = True,
) -> Brought:
    """The marks as the searched view sees them.

    A mark's view gets the pose that fits the stated pose of the searched view, and its place the covariance of the
    registered relative pose instead of the stated one's. Where the searched view has no pose, its optical frame
    becomes the world.

    Args:
        in_world: whether the world is asked about, where the searched view's own pose counts as well.
    Raises:
        ImageError: a picture cannot be decoded.
    """
    stated = searched
    references = [mark.view for mark in marks if not isinstance(mark, PositionMark)]
    sigmas = (config.pose_translation_sigma, config.pose_rotation_sigma)
    solved = registering.keyframes.solve(searched, references, *sigmas, in_world, registering.deadline)
    if solved is not None:
        searched = solved.searched
    error = registering.pose_error(searched, references, config)
    if error is not None and error.pairs:
        covariance = error.along(registering.way(searched))
        searched = searched.with_pose(searched.T_world_camera, searched.world_frame, covariance)
    links: dict[int, Linked | None] = {}
    brought: list[Mark] = []
    for mark in marks:
        if isinstance(mark, PositionMark) or mark.view.images is searched.images:
            brought.append(mark)
            continue
        key = id(mark.view.images)
        if key not in links:
            found = None if solved is None else solved.registration(mark.view)
            links[key] = Linked(found) if found is not None else _link(mark.view, stated, registering, config, error)
        link = links[key]
        registration = None if link is None else link.registration
        if link is None and error is not None:
            registration = _trusted(mark.view, searched, registering, error)
        if registration is None or registration.T_query_reference is None:
            brought.append(mark)
            continue
        if searched.T_world_camera is None:
            searched = searched.with_pose(np.eye(4), searched.frame_id)
        brought.append(_brought(mark, mark.view, searched, registration, config))
    linked = next((one for one in links.values() if one is not None), None)
    if error is not None and error.pairs >= _ENOUGH_PAIRS:
        config = replace(
            config, noise_base=error.noise * config.noise_base, noise_quadratic=error.noise * config.noise_quadratic
        )
    return Brought(tuple(brought), searched, linked, config)


def _link(
    reference: View, searched: View, registering: Registering, config: LocateConfig, error: PoseError | None
) -> Linked | None:
    registrar = registering.registrar
    if registrar.config.mode is RegistrationMode.OFF:
        return None
    if reference.T_world_camera is not None and searched.T_world_camera is not None:
        sigmas = config.pose_translation_sigma, config.pose_rotation_sigma
        if error is not None and error.pairs >= _ENOUGH_PAIRS:
            between = error.between(_way_between(reference, searched, registering))
            noticed = 2.0 * np.hypot(between[0], between[1] * error.depth)
            if noticed > _NOTICEABLE * registrar.noise(searched):
                sigmas = between
        registration = registrar.register(reference, searched, *sigmas)
        return None if registration is None else Linked(registration)
    found = registrar.through(reference, searched, registering.views())
    if found is None:
        return Linked(Registration(Verdict.UNCONSTRAINED, None, None), without_poses=True)
    registration, via = found
    return Linked(registration, without_poses=True, via_view_ids=tuple(via))


def _trusted(reference: View, searched: View, registering: Registering, error: PoseError) -> Registration | None:
    """Two stated poses that stand, with the error that such poses are seen to have; None where that is none."""
    sigmas = error.between(_way_between(reference, searched, registering))
    if reference.T_world_camera is None or searched.T_world_camera is None or not any(sigmas):
        return None
    stated = inverse(searched.T_world_camera) @ reference.T_world_camera
    return Registration(Verdict.UNCONSTRAINED, stated, relative_covariance(stated, *sigmas))


def _way_between(first: View, second: View, registering: Registering) -> float:
    return abs(registering.way(first) - registering.way(second))


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
    own = carried_covariance(transform(inverse(T_world_query), position), registration.covariance)
    R = T_world_query[:3, :3]
    return replace(mark, view=view, place=Place(position, covariance + R @ own @ R.T, searched.world_frame))
