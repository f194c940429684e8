"""Transforms between named frames, as a question needs them."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from roboref_core.errors import ErrorCode, ReferError


class FrameLookup(Protocol):
    """Transforms between named frames at a time; tf2 on a robot."""

    def lookup(self, target_frame: str, source_frame: str, stamp_ns: int) -> np.ndarray:
        """4x4 T_target_source. Raises ReferError(TF_ERROR) saying what is missing."""


def lookup(frames: FrameLookup | None, target_frame: str, source_frame: str, stamp_ns: int) -> np.ndarray:
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
