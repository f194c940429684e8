"""Questions about a real scan: true is what the data engine's own visibility says of mesh and sensor together."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from roboref_core.geometry.camera import map_pixels
from roboref_core.scene import Instances, Scene
from roboref_core.views.view import valid_depth

from offline.data_engine.filters import FilterConfig, is_named, reject_object
from offline.data_engine.seeing.surface import Surface
from offline.data_engine.seeing.visibility import FrameVisibility, VisibilityConfig


class AnnotatedScene:
    """A Scene with mesh and annotated objects as a GroundTruthScene.

    Where both are there, mesh and sensor must agree: what only the sensor sees in front of the mesh hides it, and
    where the sensor looks through the mesh nothing can be decided. Sensor holes are filled by the mesh. Marked are
    the objects that the data engine would make training data of, furniture that nobody moves included.

    Raises ValueError if mesh and instances do not belong together.
    """

    change_at: int | None = None

    def __init__(self, scene: Scene):
        mesh, instances = scene.mesh(), scene.instances()
        if mesh is None or instances is None:
            raise ValueError(
                f"{scene.scene_id}: no {'mesh' if mesh is None else 'instances'}: nothing tells of objects"
            )
        self._scene = scene
        self._config = VisibilityConfig()
        self._surface = Surface.build(mesh, instances)
        filters = FilterConfig(keep_immobile=True)
        labels = {
            object_id: label
            for object_id, label in instances.labels.items()
            if is_named(label) and reject_object(object_id, label, self._surface, filters) is None
        }
        self._marked = Instances(instances.vertex_ids, labels)
        self._maps = color_to_depth(scene)
        self._frame = lru_cache(maxsize=4)(self._see)

    def __getattr__(self, name: str):
        return getattr(self._scene, name)

    def __len__(self) -> int:
        return len(self._scene)

    def true_color_depth(self, i: int) -> np.ndarray:
        """(H, W) float32 [m] of each colour pixel; 0 where mesh and sensor contradict each other or know nothing."""
        return self._frame(int(i))[1]

    def ids(self, i: int) -> np.ndarray:
        """(H, W) int32: which object each colour pixel shows, 0 = none."""
        return self._frame(int(i))[2]

    def out_of_sight(self, object_id: int, i: int) -> bool:
        """Whether a frame certainly shows nothing of an object, errors of pose and registration considered."""
        return self._frame(int(i))[0].view(object_id).certainly_hidden

    def motion(self, object_id: int, earlier: int, later: int) -> np.ndarray:
        """Identity: a scan is taken to be of a world that stands still."""
        return np.eye(4)

    def instances(self) -> Instances:
        """The objects that may be marked."""
        return self._marked

    def _see(self, i: int) -> tuple[FrameVisibility, np.ndarray, np.ndarray]:
        scene = self._scene
        sensor = scene.depth(i)
        frame = FrameVisibility(
            self._surface, scene.color_camera, scene.poses[i], sensor, scene.depth_camera, self._config
        )
        mesh = frame.zbuffer.depth
        measured = cv2.remap(sensor, self._maps[0], self._maps[1], cv2.INTER_NEAREST, borderValue=0.0)
        known, tolerance = valid_depth(measured), self._config.tolerance.at(mesh)
        depth = np.where(known & ((mesh == 0) | (measured < mesh - tolerance)), measured, mesh)
        depth[known & (mesh > 0) & (measured > mesh + tolerance)] = 0.0
        ids = np.zeros(mesh.shape, np.int32)
        for object_id in np.intersect1d(frame.zbuffer.ids, list(self._marked.labels)):
            ids[frame.observe(int(object_id))[1]] = object_id
        return frame, depth, ids


def color_to_depth(scene: Scene) -> list[np.ndarray]:
    """Column and row, (H, W) float32 each, of every colour pixel in the depth image; -1 beyond a camera's horizon."""
    camera = scene.color_camera
    v, u = np.mgrid[: camera.height, : camera.width]
    pixels = map_pixels(np.stack([u.ravel(), v.ravel()], axis=1), camera, scene.depth_camera)
    return [np.nan_to_num(pixels[:, axis], nan=-1).reshape(u.shape).astype(np.float32) for axis in (0, 1)]
