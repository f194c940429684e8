"""Pixels that a model points at as targets: located by the view's depth, in the frame that is asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from roboref_core.errors import ErrorCode, ReferError
from roboref_core.geometry.pose import inverse, transform
from roboref_core.models.pointing_model import Prediction
from roboref_core.referring.answer import Target, is_covariance
from roboref_core.referring.frames import FrameLookup, lookup
from roboref_core.views.locate import DepthSource, LocateConfig, locate
from roboref_core.views.view import View


def targets_of(
    prediction: Prediction, view: View, frame: str, config: LocateConfig, frames: FrameLookup | None
) -> tuple[Target, ...]:
    """One target for each point of ``prediction``, a pixel of ``view``.

    Args:
        frame: of their positions.
        frames: transforms between frames.
    Raises:
        ReferError: TF_ERROR where nothing links the view with ``frame``.
    """
    targets = []
    for i, pixel in enumerate(prediction.points):
        covariance = None if prediction.point_covariance is None else prediction.point_covariance[i]
        target = Target(
            pixel=(float(pixel[0]), float(pixel[1])),
            frame_id=frame,
            stamp_ns=view.stamp_ns,
            score=-1.0 if prediction.scores is None else float(prediction.scores[i]),
        )
        extent = 0.0 if prediction.extent is None else float(prediction.extent[i])
        if np.isfinite(extent):
            target = _located(target, view, covariance, config, frames)
        if target.covariance is not None:
            target = replace(target, covariance=target.covariance + np.eye(3) * extent**2)
        targets.append(target)
    return tuple(targets)


def _located(
    target: Target, view: View, covariance: np.ndarray | None, config: LocateConfig, frames: FrameLookup | None
) -> Target:
    """The target with its position in its frame; unchanged without depth."""
    # In the camera's own frame its pose, and the error of it, play no part.
    seen = view.with_pose(None) if target.frame_id == view.frame_id else view
    place = locate(seen, target.pixel, covariance, config)
    if place.source == DepthSource.NONE or place.point is None or place.covariance is None:
        return target
    T = from_view(place.in_world, view, target.frame_id, frames)
    position, position_covariance = transform(T, place.point), T[:3, :3] @ place.covariance @ T[:3, :3].T
    if not np.isfinite(position).all() or not is_covariance(position_covariance):
        return target  # Nothing vouches for it.
    return replace(
        target,
        position=position,
        covariance=position_covariance,
        depth_source=place.source,
        depth=place.depth,
        depth_spread=place.spread,
    )


def from_view(in_world: bool, view: View, frame: str, frames: FrameLookup | None) -> np.ndarray:
    """Transform into ``frame`` of a point that the view gives in its world frame, or without a pose in its own."""
    if in_world:
        if frame == view.frame_id and view.T_world_camera is not None:
            return inverse(view.T_world_camera)
        if view.pose_covariance is not None and view.T_world_camera is not None and frame != view.world_frame:
            # The pose was corrected, the transforms were not: a frame on the robot is reached from its camera.
            try:
                return lookup(frames, frame, view.frame_id, view.stamp_ns) @ inverse(view.T_world_camera)
            except ReferError:
                pass
        return lookup(frames, frame, view.world_frame, view.stamp_ns)
    if frame == view.frame_id:
        return np.eye(4)
    try:
        return lookup(frames, frame, view.frame_id, view.stamp_ns)
    except ReferError as error:
        raise ReferError(
            ErrorCode.TF_ERROR,
            f"view {view.view_id} has no camera pose, so its points are known in {view.frame_id!r} only ({error}): "
            "ask with that target_frame, or check the pose source",
        ) from error
