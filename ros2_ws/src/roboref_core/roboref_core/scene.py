"""What every source of posed RGB-D sequences looks like, whatever its files.

A scene gives its frames lazily, by position: nothing is decoded, and no image byte read, until asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from roboref_core.geometry.camera import Camera


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh in the frame of the poses (not axis-aligned).

    Attributes:
        vertices: (V, 3) float32 [m].
        faces: (F, 3) int32 vertex indices.
        colors: (V, 3) uint8 RGB, or None.
    """

    vertices: np.ndarray
    faces: np.ndarray
    colors: np.ndarray | None = None


@dataclass(frozen=True)
class Instances:
    """Objects of a scene.

    Attributes:
        vertex_ids: (V,) int32 instance id of each mesh vertex, 0 = unannotated (ScanNet: objectId + 1).
        labels: instance id -> label as its annotators spelled it (ScanNet: raw_category).
    """

    vertex_ids: np.ndarray
    labels: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class EncodedImage:
    """An image file's bytes, verbatim. format: "jpeg" or "png"."""

    data: bytes
    format: str


class BadFrame(ValueError):
    """One frame that cannot be read; the scene's other frames are not concerned."""


@runtime_checkable
class Scene(Protocol):
    """One posed RGB-D sequence.

    Positions run 0..len-1; ``frame_ids[i]`` is the source's own frame number, which names it in files and errors.
    Reading methods raise BadFrame (a ValueError) naming file and frame; one bad frame does not spoil the others.

    Attributes:
        scene_id: e.g. "scene0000_00".
        color_camera, depth_camera: intrinsics; colour and depth are registered but may differ in size.
        frame_ids: (N,) int64.
        poses: (N, 4, 4) float64 T_world_camera; all-NaN where tracking was lost.
        stamps_ns: (N,) int64 capture times [ns], or None where the source has none (or only zeros).
        axis_alignment: 4x4 T_aligned_world (ScanNet's axisAlignment; identity where absent).
        defects: what was found wrong and worked around, reason -> how often ("lost_tracking": 12).
    """

    scene_id: str
    color_camera: Camera
    depth_camera: Camera
    frame_ids: np.ndarray
    poses: np.ndarray
    axis_alignment: np.ndarray
    defects: dict[str, int]

    @property
    def stamps_ns(self) -> np.ndarray | None: ...

    def __len__(self) -> int: ...

    def color(self, i: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB of the frame at position ``i``."""

    def color_encoded(self, i: int) -> EncodedImage | None:
        """The colour image's file bytes verbatim, or None where the source holds raw pixels."""

    def depth(self, i: int) -> np.ndarray:
        """(h, w) float32 [m], 0 = no measurement."""

    def depth_raw(self, i: int) -> tuple[np.ndarray, float]:
        """(h, w) uint16 as stored with invalid values set to 0, and its unit [m]."""

    def mesh(self) -> Mesh | None: ...

    def instances(self) -> Instances | None: ...
