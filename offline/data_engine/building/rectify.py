"""A scene whose lenses bend straight lines, seen through ones that do not: the geometry here is that of a pinhole."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from roboref_core.geometry.camera import Camera

from offline.data_engine.sources import EncodedImage, Instances, Mesh, Scene


def rectified(scene: Scene) -> Scene:
    """``scene`` itself if neither of its cameras has lens distortion, else a rectified view of it."""
    cameras = (scene.color_camera, scene.depth_camera)
    return scene if all(camera.distortion_model == "none" for camera in cameras) else RectifiedScene(scene)


class RectifiedScene:
    """A Scene with the same focal lengths and sizes but no distortion: pictures are resampled when read.

    What the lens saw beyond the pinhole's picture is lost; corners it did not see are black and have no depth.

    Args:
        scene: with lens distortion.
    """

    def __init__(self, scene: Scene):
        self.scene = scene
        self.scene_id = scene.scene_id
        self.color_camera = replace(scene.color_camera, distortion_model="none", distortion=())
        self.depth_camera = replace(scene.depth_camera, distortion_model="none", distortion=())
        self.frame_ids, self.poses, self.stamps_ns = scene.frame_ids, scene.poses, scene.stamps_ns
        self.axis_alignment, self.defects = scene.axis_alignment, scene.defects
        self.label_table = getattr(scene, "label_table", None)
        self._color_map = _lens_pixels(self.color_camera, scene.color_camera)
        self._depth_map = _lens_pixels(self.depth_camera, scene.depth_camera)

    def __len__(self) -> int:
        return len(self.scene)

    def color(self, i: int) -> np.ndarray:
        return cv2.remap(self.scene.color(i), *self._color_map, cv2.INTER_LINEAR)

    def color_encoded(self, i: int) -> EncodedImage | None:
        return None

    def depth(self, i: int) -> np.ndarray:
        # Between two depths there may be nothing: the nearest measurement, no mixture.
        return cv2.remap(self.scene.depth(i), *self._depth_map, cv2.INTER_NEAREST)

    def depth_raw(self, i: int) -> tuple[np.ndarray, float]:
        raw, unit = self.scene.depth_raw(i)
        return cv2.remap(raw, *self._depth_map, cv2.INTER_NEAREST), unit

    def mesh(self) -> Mesh | None:
        return self.scene.mesh()

    def instances(self) -> Instances | None:
        return self.scene.instances()


def _lens_pixels(pinhole: Camera, lens: Camera) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) float32 column and row in the lens's picture of each pixel of the pinhole's; far outside if none."""
    v, u = np.mgrid[: pinhole.height, : pinhole.width]
    pixels = lens.project(pinhole.rays(np.stack([u.ravel(), v.ravel()], axis=1)))
    pixels = np.nan_to_num(pixels, nan=-1e4).astype(np.float32)
    return tuple(pixels[:, axis].reshape(pinhole.height, pinhole.width) for axis in (0, 1))
