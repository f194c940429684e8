"""The 3D view of a replay's question: points of both views, the cameras, truth and answer with its ellipsoid.

three.js draws it in the page. It comes out of the installed NiceGUI, which ships it as one module, so that no foreign
code lies in this repository; where NiceGUI is missing, a report has no 3D views.
"""

from __future__ import annotations

import base64
import gzip
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from roboref_core.geometry.pose import transform
from roboref_core.scene import Scene
from roboref_core.views.view import valid_depth

from offline.eval.records.replays import Record
from offline.eval.replay.scoring.score import CHI2_95

_MOST_POINTS = 1500
_RAY = 6.0
"""Length of a drawn ray whose end is not known [m]."""


@dataclass(frozen=True)
class Cloud:
    """What a view measured, thinned, in the world.

    Attributes:
        points: (N, 3) float32 [m].
        colors: (N, 3) uint8 RGB.
        T_world_camera: 4x4, as recorded.
        pinhole: fx, fy, cx, cy of the colour camera [pixel]; what a mark's ray is drawn by.
    """

    points: NDArray[np.float32]
    colors: NDArray[np.uint8]
    T_world_camera: NDArray[np.float64]
    pinhole: NDArray[np.float64]

    @classmethod
    def of(cls, scene: Scene, position: int) -> Cloud | None:
        """Of a frame; None without a pose."""
        pose = np.asarray(scene.poses[position], dtype=np.float64)
        if not np.isfinite(pose).all():
            return None
        depth, color, camera = scene.depth(position), scene.color(position), scene.color_camera
        step = max(1, int(np.sqrt(depth.size / _MOST_POINTS)))
        v, u = np.mgrid[step // 2 : depth.shape[0] : step, step // 2 : depth.shape[1] : step].reshape(2, -1)
        z = depth[v, u]
        known = valid_depth(z)
        pixels = np.stack([u, v], axis=1)[known].astype(np.float64)
        points = scene.depth_camera.rays(pixels) * z[known, None]
        # Colour and depth of a Scene share their optical centre.
        seen = camera.project(points)
        inside = camera.contains(seen)
        at = np.round(seen[inside]).astype(np.int64)
        return cls(
            transform(pose, points[inside]).astype(np.float32),
            color[at[:, 1], at[:, 0]],
            pose,
            np.array([camera.fx, camera.fy, camera.cx, camera.cy]),
        )

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **self.__dict__)

    @classmethod
    def read(cls, path: Path) -> Cloud:
        with np.load(path, allow_pickle=False) as stored:
            return cls(**{name: stored[name] for name in cls.__dataclass_fields__})

    def as_json(self) -> dict:
        """For the page: millimetres around the camera as int16, colours as bytes, both in base64."""
        centre = self.T_world_camera[:3, 3]
        near = np.clip(np.round((self.points - centre) * 1000), -32767, 32767).astype("<i2")
        return {
            "points": base64.b64encode(near.tobytes()).decode(),
            "colors": base64.b64encode(self.colors.tobytes()).decode(),
            "pose": np.round(self.T_world_camera, 4).ravel().tolist(),
        }


def space_of(record: Record, clouds: dict[str, Cloud]) -> dict | None:
    """What is drawn of a question beside the points of its views [m, world]; None where no view has a cloud.

    Args:
        clouds: name -> cloud; those of this question are read into it.
    """
    question, answer = record.question, record.answer
    views = {}
    for kind in ("reference", "query"):
        path = record.file.get(f"{kind}_points")
        if path is not None and path.is_file():
            name = str(path)
            if name not in clouds:
                clouds[name] = Cloud.read(path)
            views[kind] = name
    if "query" not in views:
        return None
    found: dict = {"views": views, "truth": _listed(question.truth.point), "rays": {}}
    if answer.in_world is not None:
        found["answer"] = _listed(answer.in_world.position)
        found["axes"] = _axes(answer.in_world.covariance)
    for kind, pixel in (("reference", question.mark), ("query", answer.pixel)):
        if kind in views and pixel is not None:
            found["rays"][kind] = _ray(clouds[views[kind]], pixel)
    return found


def module() -> str:
    """three.js with its orbit controls as an ES module, gzipped and in base64; "" without NiceGUI."""
    spec = importlib.util.find_spec("nicegui")
    if spec is None or spec.origin is None:
        return ""
    path = Path(spec.origin).parent / "elements" / "scene" / "dist" / "index.js"
    return base64.b64encode(gzip.compress(path.read_bytes(), 9, mtime=0)).decode() if path.is_file() else ""


def _ray(cloud: Cloud, pixel: tuple[float, float]) -> list[list[float]]:
    fx, fy, cx, cy = cloud.pinhole
    direction = np.array([(pixel[0] - cx) / fx, (pixel[1] - cy) / fy, 1.0])
    end = direction / np.linalg.norm(direction) * _RAY
    return np.round(transform(cloud.T_world_camera, np.stack([np.zeros(3), end])), 4).tolist()


def _axes(covariance: np.ndarray | None) -> list[float] | None:
    """3x3, row by row: carries the unit sphere onto the 95 % ellipsoid."""
    if covariance is None or not np.isfinite(covariance).all():
        return None
    values, vectors = np.linalg.eigh(covariance)
    return np.round(vectors * np.sqrt(np.maximum(values, 0) * CHI2_95), 6).ravel().tolist()


def _listed(point) -> list[float] | None:
    return None if point is None else np.round(np.asarray(point, dtype=np.float64), 4).tolist()
