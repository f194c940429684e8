"""Transforms between named frames, and views brought from one world frame into another."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from roboref_core.errors import ErrorCode, ReferError
from roboref_core.views.view import View


class FrameLookup(Protocol):
    """Transforms between named frames; tf2 on a robot."""

    def lookup(self, target_frame: str, source_frame: str, stamp_ns: int | None) -> np.ndarray:
        """4x4 T_target_source at a time, or the newest one (None).

        A time that is older than all that is known gives the oldest kind of knowledge there is: the newest
        transform. Raises ReferError(TF_ERROR) saying what is missing.
        """


def lookup(frames: FrameLookup | None, target_frame: str, source_frame: str, stamp_ns: int | None) -> np.ndarray:
    """T_target_source; the identity within one frame, even where there is no source of transforms."""
    if target_frame == source_frame:
        return np.eye(4)
    if frames is None:
        raise ReferError(
            ErrorCode.TF_ERROR,
            f"no transform from {source_frame!r} to {target_frame!r}: the pose source gives camera poses in "
            f"{source_frame!r} only",
        )
    return frames.lookup(target_frame, source_frame, stamp_ns)


def view_in_world(view: View, world_frame: str, frames: FrameLookup | None) -> View:
    """The view with its camera pose in ``world_frame``; a view without a pose as it is.

    Raises ReferError(TF_ERROR) naming both frames if nothing links them.
    """
    if view.T_world_camera is None or view.world_frame == world_frame:
        return view
    T = lookup(frames, world_frame, view.world_frame, view.stamp_ns)
    return view.with_pose(T @ view.T_world_camera, world_frame)
