"""Questions about a recording without mesh and objects, whose only truth is the recording itself."""

from __future__ import annotations

import cv2
import numpy as np
from roboref_core.scene import Instances, Scene

from offline.eval.replay.truth.annotated import color_to_depth

_COLUMNS, _ROWS = 4, 3
MARKED_POINT = "marked point"
"""Label of what is marked where nothing is known of objects."""


class RecordedScene:
    """A Scene as a GroundTruthScene: true is where its own depth and poses put a point.

    Errors against it are those of the recording's poses, depth and registration together: a marked
    point must come back to the same place of the world when a later frame measures it. It tells nothing
    of objects, so every frame is cut into tiles, and a point is marked in each.
    """

    change_at: int | None = None

    def __init__(self, scene: Scene):
        self._scene = scene
        self._maps = color_to_depth(scene)
        camera = scene.color_camera
        v, u = np.mgrid[: camera.height, : camera.width]
        self._tiles = (1 + u * _COLUMNS // camera.width + _COLUMNS * (v * _ROWS // camera.height)).astype(np.int32)

    def __getattr__(self, name: str):
        return getattr(self._scene, name)

    def __len__(self) -> int:
        return len(self._scene)

    def true_color_depth(self, i: int) -> np.ndarray:
        """(H, W) float32 [m]: the measurement nearest to each colour pixel."""
        return cv2.remap(self._scene.depth(i), self._maps[0], self._maps[1], cv2.INTER_NEAREST, borderValue=0.0)

    def ids(self, i: int) -> np.ndarray:
        """(H, W) int32: the tile of each pixel."""
        return self._tiles

    def out_of_sight(self, object_id: int, i: int) -> bool:
        """True: a tile is not an object, its marked point alone decides."""
        return True

    def motion(self, object_id: int, earlier: int, later: int) -> np.ndarray:
        """Identity: a recording is taken to be of a world that stands still."""
        return np.eye(4)

    def instances(self) -> Instances:
        return Instances(np.zeros(0, np.int32), {int(tile): MARKED_POINT for tile in np.unique(self._tiles)})
