"""COLMAP models, as text or binary: cameras and images (COLMAP documentation, "Output Format")."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import from_quaternion, inverse

from offline.data_engine.sources.damaged import MAX_TEXT, check_size, naming, read_text

# Model -> how its parameters become (fx, fy, cx, cy, distortion model, coefficients).
_MODELS: dict[str, Callable[..., tuple[float, float, float, float, str, tuple[float, ...]]]] = {
    "SIMPLE_PINHOLE": lambda f, cx, cy: (f, f, cx, cy, "none", ()),
    "PINHOLE": lambda fx, fy, cx, cy: (fx, fy, cx, cy, "none", ()),
    "SIMPLE_RADIAL": lambda f, cx, cy, k: (f, f, cx, cy, "plumb_bob", (k, 0.0, 0.0, 0.0)),
    "RADIAL": lambda f, cx, cy, k1, k2: (f, f, cx, cy, "plumb_bob", (k1, k2, 0.0, 0.0)),
    "OPENCV": lambda fx, fy, cx, cy, *k: (fx, fy, cx, cy, "plumb_bob", k),
    "FULL_OPENCV": lambda fx, fy, cx, cy, *k: (fx, fy, cx, cy, "rational_polynomial", k),
    "OPENCV_FISHEYE": lambda fx, fy, cx, cy, *k: (fx, fy, cx, cy, "equidistant", k),
}

_MODEL_IDS = {
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
    5: ("OPENCV_FISHEYE", 8),
    6: ("FULL_OPENCV", 12),
}
"""Number in a binary model -> name, and how many parameters it has."""
_POINT_BYTES = 24
_MAX_NAME = 4096


@dataclass(frozen=True)
class ColmapImage:
    """A registered image: its name, camera and 4x4 T_world_camera."""

    name: str
    camera_id: int
    T_world_camera: np.ndarray


def model_files(folder: Path) -> tuple[Path, Path] | None:
    """The cameras and images files of a model in ``folder`` or its ``sparse/0``, text before binary; None without."""
    for place in (folder, folder / "sparse" / "0", folder / "sparse"):
        for suffix in (".txt", ".bin"):
            cameras, images = place / f"cameras{suffix}", place / f"images{suffix}"
            if images.is_file():
                return cameras, images
    return None


def read_cameras(path: Path) -> dict[int, Camera]:
    """Camera id -> camera, from cameras.txt or cameras.bin. COLMAP's pixel centres are at .5, ours at integers."""
    if path.suffix == ".bin":
        return _binary_cameras(path)
    cameras = {}
    for number, line in _lines(path):
        if not line.strip():
            continue
        fields = line.split()
        try:
            cameras[int(fields[0])] = _camera(fields[1], int(fields[2]), int(fields[3]), *map(float, fields[4:]))
        except (ValueError, TypeError, IndexError, OverflowError) as error:
            raise ValueError(f"{path} line {number}: {error}") from error
    return cameras


def _camera(model: str, width: int, height: int, *parameters: float) -> Camera:
    if model not in _MODELS:
        raise ValueError(f"unknown camera model {model}, expected one of {', '.join(_MODELS)}")
    fx, fy, cx, cy, distortion_model, distortion = _MODELS[model](*parameters)
    return Camera(width, height, fx, fy, cx - 0.5, cy - 0.5, distortion_model, distortion)


def _binary_cameras(path: Path) -> dict[int, Camera]:
    cameras = {}
    with naming(path):
        data = _Bytes(path)
        for _ in range(*data.take("Q")):
            camera_id, number, width, height = data.take("iiQQ")
            if number not in _MODEL_IDS:
                raise ValueError(f"{path}: unknown camera model {number}, expected one of {', '.join(_MODELS)}")
            model, count = _MODEL_IDS[number]
            cameras[camera_id] = _camera(model, width, height, *data.take(f"{count}d"))
    return cameras


def read_images(path: Path) -> list[ColmapImage]:
    """Registered images, from images.txt or images.bin.

    The files hold world-to-camera poses; the text has two lines per image, of which the second may be empty.
    """
    if path.suffix == ".bin":
        return _binary_images(path)
    lines = _lines(path)
    images = []
    for number, line in lines:
        if not line.strip():
            continue
        fields = line.split()
        try:
            T_camera_world = from_quaternion(
                [float(f) for f in (*fields[2:5], fields[1])], [float(f) for f in fields[5:8]]
            )
            images.append(ColmapImage(fields[9], int(fields[8]), inverse(T_camera_world)))
        except (ValueError, IndexError, OverflowError) as error:
            raise ValueError(f"{path} line {number}: expected an image's pose and name: {error}") from error
        next(lines, None)
    return images


def _binary_images(path: Path) -> list[ColmapImage]:
    images = []
    with naming(path):
        data = _Bytes(path)
        for _ in range(*data.take("Q")):
            _, w, x, y, z, *rest = data.take("i7di")
            T_camera_world = from_quaternion([x, y, z, w], rest[:3])
            name = data.text()
            images.append(ColmapImage(name, int(rest[3]), inverse(T_camera_world)))
            data.skip(_POINT_BYTES * data.take("Q")[0])
    return images


class _Bytes:
    """A binary file read from front to back, little-endian and unpadded."""

    def __init__(self, path: Path):
        check_size(path, MAX_TEXT)
        self._data, self._at = path.read_bytes(), 0

    def take(self, form: str) -> tuple:
        values = struct.unpack_from(f"<{form}", self._data, self._at)
        self._at += struct.calcsize(f"<{form}")
        return values

    def skip(self, count: int) -> None:
        """Raises ValueError if the file ends before."""
        if self._at + count > len(self._data):
            raise ValueError(f"ends at byte {len(self._data)}, expected {count} more from {self._at}")
        self._at += count

    def text(self) -> str:
        """Up to the next NUL. Raises ValueError if there is none within reach."""
        end = self._data.find(b"\0", self._at, self._at + _MAX_NAME)
        if end < 0:
            raise ValueError(f"a name without an end at byte {self._at}")
        text = self._data[self._at : end].decode()
        self._at = end + 1
        return text


def _lines(path: Path):
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.startswith("#"):
            yield number, line
