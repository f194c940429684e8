"""Pose noise for recordings: what a robot's localisation would have said instead of the exact pose."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from roboref_core.pose import from_quaternion


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
        digest = hashlib.sha256(f"pose noise/{self.seed}/{scene_id}/{frame_id}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:16], "big"))
        shift = rng.normal(size=3) * self.translation
        vector = rng.normal(size=3) * self.rotation
        angle = np.linalg.norm(vector)
        axis = vector / angle if angle > 0 else np.zeros(3)
        T = T_world_camera @ from_quaternion((*(axis * np.sin(angle / 2)), np.cos(angle / 2)))
        T[:3, 3] += shift
        return T
