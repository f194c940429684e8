"""What goes wrong between a sequence and its recording: poses that a robot's localisation would have said instead of
the exact ones, and frames that arrive late or never."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from roboref_core.geometry.pose import from_quaternion


@dataclass(frozen=True)
class PoseNoise:
    """Zero-mean Gaussian noise, independent per frame and axis.

    Attributes:
        translation: standard deviation along each world axis [m].
        rotation: standard deviation of each component of the rotation vector, in the camera's frame [rad].
        seed: noise of a frame depends on this, the scene's name and the frame number only.
    """

    translation: float = 0.0
    rotation: float = 0.0
    seed: int = 0

    def __post_init__(self):
        if not (self.translation >= 0 and self.rotation >= 0):
            raise ValueError(f"pose noise must not be negative, found {self.translation} m and {self.rotation} rad")

    def __bool__(self) -> bool:
        return self.translation > 0 or self.rotation > 0

    def perturb(self, T_world_camera: np.ndarray, scene_id: str, frame_id: int) -> np.ndarray:
        """The 4x4 pose with the noise of this frame."""
        if not self:
            return T_world_camera
        rng = _rng("pose noise", self.seed, scene_id, frame_id)
        shift = rng.normal(size=3) * self.translation
        T = T_world_camera @ _rotation(rng.normal(size=3) * self.rotation)
        T[:3, 3] += shift
        return T


@dataclass(frozen=True)
class PoseDrift:
    """A Gaussian random walk on position and orientation: errors that add up, as odometry's do.

    Attributes:
        translation: standard deviation along each world axis after one second; it grows with the root of time
            [m/sqrt(s)].
        rotation: the same of each component of the orientation's error, in the world's frame [rad/sqrt(s)].
        seed: the walk depends on this and the scene's name only.
    """

    translation: float = 0.0
    rotation: float = 0.0
    seed: int = 0

    def __post_init__(self):
        if not (self.translation >= 0 and self.rotation >= 0):
            raise ValueError(f"pose drift must not be negative, found {self.translation} and {self.rotation}")

    def __bool__(self) -> bool:
        return self.translation > 0 or self.rotation > 0

    def perturb(self, poses: np.ndarray, stamps_ns: np.ndarray, scene_id: str) -> np.ndarray:
        """(N, 4, 4) T_world_camera of a whole sequence, which is exact in its first frame."""
        if not self:
            return poses
        rng = _rng("pose drift", self.seed, scene_id)
        root = np.sqrt(np.diff(stamps_ns, prepend=stamps_ns[:1]) / 1e9)[:, None]
        shifts = np.cumsum(rng.normal(size=(len(poses), 3)) * root * self.translation, axis=0)
        turns = rng.normal(size=(len(poses), 3)) * root * self.rotation
        drifted, turn = poses.copy(), np.eye(4)
        for i, T in enumerate(poses):
            turn = _rotation(turns[i]) @ turn
            drifted[i, :3, :3] = turn[:3, :3] @ T[:3, :3]
            drifted[i, :3, 3] = T[:3, 3] + shifts[i]
        return drifted


@dataclass(frozen=True)
class Delivery:
    """When the frames of a sequence arrive; their stamps stay right.

    Attributes:
        dropped: share of the frames of which nothing arrives.
        late: share of the frames that arrive late, as a whole, and so behind frames that were taken after them.
        delay: how late [s].
        seed: what becomes of a frame depends on this, the scene's name and the frame number only.
    """

    dropped: float = 0.0
    late: float = 0.0
    delay: float = 0.25
    seed: int = 0

    def __post_init__(self):
        if not (0 <= self.dropped < 1 and 0 <= self.late <= 1 and self.delay > 0):
            raise ValueError(
                f"dropped must be in [0, 1), late in [0, 1] and the delay positive, found {self.dropped}, {self.late} "
                f"and {self.delay} s"
            )

    def arrivals(self, stamps_ns: np.ndarray, frame_ids: np.ndarray, scene_id: str) -> tuple[np.ndarray, np.ndarray]:
        """Which of N frames arrive, in the order in which they do, and when: (M,) indices, (M,) int64 times [ns]."""
        luck = np.array([_rng("delivery", self.seed, scene_id, int(n)).random(2) for n in frame_ids]).reshape(-1, 2)
        times = stamps_ns + np.where(luck[:, 1] < self.late, round(self.delay * 1e9), 0)
        kept = np.flatnonzero(luck[:, 0] >= self.dropped)
        order = kept[np.argsort(times[kept], kind="stable")]
        # Strictly increasing, so that frames do not mix.
        steps = np.arange(len(order))
        return order, np.maximum.accumulate(times[order] - steps) + steps


def _rng(*key) -> np.random.Generator:
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def _rotation(vector: np.ndarray) -> np.ndarray:
    """4x4 of a rotation vector [rad]."""
    angle = np.linalg.norm(vector)
    axis = vector / angle if angle > 0 else np.zeros(3)
    return from_quaternion((*(axis * np.sin(angle / 2)), np.cos(angle / 2)))
