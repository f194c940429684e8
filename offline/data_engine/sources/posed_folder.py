"""A sequence of image files with poses, whatever naming brought them together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from roboref_core.geometry.camera import Camera
from roboref_core.scene import BadFrame, EncodedImage

from offline.data_engine.sources.images import check_size, decode_color, decode_depth, encoded_image
from offline.data_engine.sources.poses import clean_poses

# A principal point further than this share of the image's size from its centre: intrinsics of another resolution.
_MAX_OFF_CENTRE = 0.25


def camera_for(images: Sequence[Path], K: np.ndarray, where: str) -> Camera:
    """The camera of a sequence of image files; their headers give the size (three are read, the majority decides).

    Raises ValueError naming ``where`` if ``K`` cannot belong to images of that size.
    """
    sizes: Counter[tuple[int, int]] = Counter()
    errors = []
    for image in (images[0], images[len(images) // 2], images[-1]):
        try:
            with Image.open(image) as file:
                sizes[file.size] += 1
        except OSError as error:
            errors.append(f"{image}: {error}")
    if not sizes:
        raise ValueError(f"no image's size can be read: {'; '.join(errors)}")
    (width, height), _ = sizes.most_common(1)[0]
    try:
        camera = Camera.from_camera_info(width, height, np.asarray(K)[:3, :3].ravel().tolist())
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if abs(camera.cx / width - 0.5) > _MAX_OFF_CENTRE or abs(camera.cy / height - 0.5) > _MAX_OFF_CENTRE:
        raise ValueError(
            f"{where}: principal point ({camera.cx:g}, {camera.cy:g}) is far from the centre of images of "
            f"{width}x{height}, as in {images[0].parent}: intrinsics of another image size"
        )
    return camera


class PosedFolder:
    """Image files with poses as a Scene (without mesh).

    Args:
        scene_id: name of the scene.
        frame_ids: (N,) frame numbers.
        color_files, depth_files: N paths each; JPEG, PNG or PPM, and 16-bit PNG or PGM.
        raw_poses: (N, 4, 4) camera-to-world, as read; lost and invalid ones become NaN and are counted.
        color_camera, depth_camera: intrinsics.
        depth_unit: metres per count of the depth files.
        invalid_depth: count that means "no measurement" besides 0.
        stamps_ns: (N,) capture times [ns], or None.
        defects: what the reader of the folder found.
    """

    def __init__(
        self,
        scene_id: str,
        frame_ids: Sequence[int],
        color_files: Sequence[Path],
        depth_files: Sequence[Path],
        raw_poses: np.ndarray,
        color_camera: Camera,
        depth_camera: Camera,
        *,
        depth_unit: float,
        invalid_depth: int = 0,
        stamps_ns: np.ndarray | None = None,
        defects: dict[str, int] | None = None,
    ):
        self.scene_id = scene_id
        self.frame_ids = np.asarray(frame_ids, dtype=np.int64)
        self.poses, pose_defects = clean_poses(raw_poses)
        self.color_camera, self.depth_camera = color_camera, depth_camera
        self.stamps_ns = stamps_ns
        self.axis_alignment = np.eye(4)
        self.defects = (defects or {}) | pose_defects
        self._color_files, self._depth_files = list(color_files), list(depth_files)
        self._depth_unit, self._invalid_depth = depth_unit, invalid_depth

    def __len__(self) -> int:
        return len(self.frame_ids)

    def color_encoded(self, i: int) -> EncodedImage | None:
        path = self._color_files[i]
        return encoded_image(self._read(path, i), self.color_camera, self._where(path, i))

    def color(self, i: int) -> np.ndarray:
        path = self._color_files[i]
        where = self._where(path, i)
        image = decode_color(self._read(path, i), where)
        check_size(image.shape, self.color_camera, where)
        return image

    def depth_raw(self, i: int) -> tuple[np.ndarray, float]:
        path = self._depth_files[i]
        where = self._where(path, i)
        raw = decode_depth(self._read(path, i), where)
        check_size(raw.shape, self.depth_camera, where)
        if self._invalid_depth:
            raw = np.where(raw == self._invalid_depth, np.uint16(0), raw)
        return raw, self._depth_unit

    def depth(self, i: int) -> np.ndarray:
        raw, unit = self.depth_raw(i)
        return (raw * unit).astype(np.float32)

    def mesh(self) -> None:
        return None

    def instances(self) -> None:
        return None

    def _read(self, path: Path, i: int) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise BadFrame(f"{self._where(path, i)}: {error}") from error

    def _where(self, path: Path, i: int) -> str:
        return f"{path} (scene {self.scene_id} frame {self.frame_ids[i]})"
