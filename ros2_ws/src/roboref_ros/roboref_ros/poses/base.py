"""Where the camera was: the interface of a source of poses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from roboref_core.referring.frames import FrameLookup


@dataclass(frozen=True)
class PoseConfig:
    """How camera poses are found.

    Attributes:
        source: tf, odometry or pose.
        fixed_frame: frame of the poses; the messages of odometry and pose name their own.
        timeout: longest time that a view waits for its pose [s].
        tolerance: furthest in time that a pose may stand for a view without one on both sides of it [s].
        max_gap: largest time between two poses that is interpolated [s].
        extrinsics: pose of the camera's optical frame in the frame whose pose is published: x y z [m] and
            quaternion x y z w. The identity: it is the camera's pose that is published.
        tf_cache_time: how long transforms are kept [s].
        tf_timeout: longest time that a question waits for a transform [s].
        max_backwards: how far stamps may come out of order; beyond it a stamp is an outlier or a clock jump [s].
    """

    source: str
    fixed_frame: str
    timeout: float
    tolerance: float
    max_gap: float
    extrinsics: tuple[float, ...]
    tf_cache_time: float
    tf_timeout: float
    max_backwards: float


class CameraPose(NamedTuple):
    """4x4 ``T_world_camera`` of the optical frame, and the name of the world frame."""

    T_world_camera: np.ndarray
    world_frame: str


class PoseSource(Protocol):
    """Gives camera poses to the intake thread.

    Attributes:
        topic: what it listens to, for a person.
        world_frame: name of the fixed frame, as far as it is known.
        frames: transforms between frames other than the cameras'; None: this source has none.
    """

    topic: str
    world_frame: str
    frames: FrameLookup | None

    def camera_pose(self, stamp_ns: int, optical_frame: str, final: bool) -> CameraPose | None:
        """Pose at a stamp, without waiting; None: not known (yet). Raises ValueError for what cannot be used.

        Args:
            final: nothing more is waited for, so that the tolerance applies.
        """

    def why_missing(self, stamp_ns: int, optical_frame: str) -> str:
        """What is known of why ``camera_pose`` gave None, for a person; may be empty."""

    def newest(self, target_frame: str, source_frame: str) -> np.ndarray | None:
        """The newest 4x4 T_target_source, without waiting; None: this source does not know it (yet)."""

    def clear(self) -> None:
        """Forget everything: the clock jumped."""

    def close(self) -> None:
        """Stop listening."""
