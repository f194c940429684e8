"""COLMAP text models: cameras.txt and images.txt (COLMAP documentation, "Output Format")."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import from_quaternion, inverse

from offline.data_engine.sources.damaged import read_text

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


@dataclass(frozen=True)
class ColmapImage:
    """A registered image: its name, camera and 4x4 T_world_camera."""

    name: str
    camera_id: int
    T_world_camera: np.ndarray


def read_cameras(path: Path) -> dict[int, Camera]:
    """Camera id -> camera. COLMAP's pixel centres are at .5, ours at integers."""
    cameras = {}
    for number, line in _lines(path):
        if not line.strip():
            continue
        fields = line.split()
        try:
            model, width, height = fields[1], int(fields[2]), int(fields[3])
            if model not in _MODELS:
                raise ValueError(f"unknown camera model {model}, expected one of {', '.join(_MODELS)}")
            fx, fy, cx, cy, distortion_model, distortion = _MODELS[model](*map(float, fields[4:]))
            cameras[int(fields[0])] = Camera(width, height, fx, fy, cx - 0.5, cy - 0.5, distortion_model, distortion)
        except (ValueError, TypeError, IndexError, OverflowError) as error:
            raise ValueError(f"{path} line {number}: {error}") from error
    return cameras


def read_images(path: Path) -> list[ColmapImage]:
    """Registered images. The file holds world-to-camera poses, two lines per image; the second may be empty."""
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


def _lines(path: Path):
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.startswith("#"):
            yield number, line
