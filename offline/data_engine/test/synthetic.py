"""A small room as a Scene: colour and depth by Open3D's ray casting, which owes nothing to our renderer."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import look_at
from roboref_core.scene import EncodedImage, Instances, Mesh

COLOR = Camera(324, 242, 292.5, 292.5, 161.3, 120.2)
DEPTH = Camera(160, 120, 144.4, 144.9, 79.6, 59.4)
BOX_FACES = np.array(
    [
        [0, 1, 3],
        [0, 3, 2],
        [4, 6, 7],
        [4, 7, 5],
        [0, 4, 5],
        [0, 5, 1],
        [2, 3, 7],
        [2, 7, 6],
        [0, 2, 6],
        [0, 6, 4],
        [1, 5, 7],
        [1, 7, 3],
    ]
)


def box(lower, upper) -> tuple[np.ndarray, np.ndarray]:
    k = np.arange(8)[:, None] >> np.arange(3) & 1
    return np.where(k, upper, lower).astype(np.float32), BOX_FACES.astype(np.int32)


def merge(parts: list[tuple[np.ndarray, np.ndarray, int]]) -> tuple[Mesh, np.ndarray]:
    """[(vertices, faces, object id)] -> one mesh, and the id of each vertex."""
    vertices, faces, ids, at = [], [], [], 0
    for v, f, i in parts:
        vertices.append(v)
        faces.append(f + at)
        ids.append(np.full(len(v), i, np.int32))
        at += len(v)
    vertices = np.concatenate(vertices)
    return Mesh(vertices, np.concatenate(faces), None), np.concatenate(ids)


ROOM = [
    ((-0.1, -0.1, -0.1), (4.1, 5.1, 0.0), 1, "floor"),
    ((-0.1, -0.1, 0.0), (0.0, 5.1, 2.5), 2, "wall"),
    ((4.0, -0.1, 0.0), (4.1, 5.1, 2.5), 2, "wall"),
    ((0.0, 5.0, 0.0), (4.0, 5.1, 2.5), 3, "wall"),
    ((0.0, -0.1, 0.0), (4.0, 0.0, 2.5), 3, "wall"),
    ((1.2, 2.0, 0.0), (2.6, 2.8, 0.7), 4, "table"),
    ((1.4, 2.2, 0.7), (1.65, 2.45, 0.95), 5, "box"),
    ((2.1, 2.3, 0.7), (2.35, 2.5, 0.9), 6, "bag"),
    ((0.4, 3.6, 0.0), (0.9, 4.1, 0.8), 7, "chair"),
    ((3.0, 3.4, 0.0), (3.5, 3.9, 0.85), 8, "chair"),
    ((1.7, 4.2, 0.0), (2.3, 4.7, 1.1), 9, "cabinet"),
    ((3.1, 1.0, 0.0), (3.4, 1.3, 0.5), 10, "trash can"),
]


@dataclass
class SyntheticScene:
    """Implements the Scene protocol; ``true_ids`` and ``true_depth`` are the answers."""

    scene_id: str = "scene0000_00"
    frames: int = 16
    noise: float = 0.0
    holes: float = 0.0
    seed: int = 0
    color_camera: Camera = COLOR
    depth_camera: Camera = DEPTH
    axis_alignment: np.ndarray = field(default_factory=lambda: np.eye(4))
    stamps_ns: np.ndarray | None = None
    defects: dict[str, int] = field(default_factory=dict)

    def __post_init__(self):
        import open3d as o3d

        parts = [(*box(lo, hi), i) for lo, hi, i, _ in ROOM]
        self._mesh, self._vertex_ids = merge(parts)
        self.labels = {i: label for _, _, i, label in ROOM}
        self.frame_ids = np.arange(self.frames, dtype=np.int64) * 10
        angles = np.linspace(0, 2 * np.pi, self.frames, endpoint=False)
        self.poses = np.stack(
            [look_at((2 + 1.5 * np.cos(a), 2.5 + 1.9 * np.sin(a), 1.5), (1.9, 2.6, 0.6)) for a in angles]
        )
        self._caster = o3d.t.geometry.RaycastingScene()
        self._caster.add_triangles(
            o3d.core.Tensor(self._mesh.vertices), o3d.core.Tensor(self._mesh.faces.astype(np.uint32))
        )
        self._face_ids = self._vertex_ids[self._mesh.faces[:, 0]]

    def __len__(self) -> int:
        return self.frames

    def cast(self, i: int, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """True (h, w) depth [m] (0 = none), object ids, and (h, w, 3) normals."""
        import open3d as o3d

        uv = np.stack(np.meshgrid(np.arange(camera.width), np.arange(camera.height)), axis=-1).reshape(-1, 2)
        T = self.poses[i]
        directions = camera.rays(uv) @ T[:3, :3].T
        rays = np.concatenate([np.broadcast_to(T[:3, 3], directions.shape), directions], axis=1).astype(np.float32)
        hit = self._caster.cast_rays(o3d.core.Tensor(rays))
        depth = hit["t_hit"].numpy().reshape(camera.height, camera.width)
        none = ~np.isfinite(depth)
        face = hit["primitive_ids"].numpy().reshape(depth.shape).astype(np.int64)
        ids = np.where(none, 0, self._face_ids[np.where(none, 0, face)])
        return np.where(none, 0, depth), ids, hit["primitive_normals"].numpy().reshape(*depth.shape, 3)

    def color(self, i: int) -> np.ndarray:
        depth, ids, normals = self.cast(i, self.color_camera)
        palette = np.random.default_rng(7).integers(40, 220, (32, 3))
        uv = np.stack(np.meshgrid(*(np.arange(n) for n in depth.shape[::-1])), axis=-1).reshape(-1, 2)
        points = self.color_camera.unproject(uv, depth.ravel()) @ self.poses[i][:3, :3].T + self.poses[i][:3, 3]
        # A texture fixed to the world, so that warps between views can be checked.
        checks = (np.floor(points * 5 + 1e-3).sum(axis=1).astype(int) % 2).reshape(depth.shape)
        shade = (0.6 + 0.4 * np.abs(normals @ (0.48, 0.36, 0.8)))[..., None] * (0.85 + 0.15 * checks[..., None])
        return np.clip(palette[ids] * shade, 0, 255).astype(np.uint8)

    def color_encoded(self, i: int) -> EncodedImage | None:
        data = cv2.imencode(".jpg", self.color(i)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
        return EncodedImage(data.tobytes(), "jpeg")

    def depth(self, i: int) -> np.ndarray:
        depth, _, _ = self.cast(i, self.depth_camera)
        rng = np.random.default_rng((self.seed, i))
        depth = depth + rng.normal(size=depth.shape) * self.noise * depth**2
        depth[rng.random(depth.shape) < self.holes] = 0
        return depth.astype(np.float32)

    def depth_raw(self, i: int) -> tuple[np.ndarray, float]:
        return np.rint(self.depth(i) * 1000).astype(np.uint16), 0.001

    def mesh(self) -> Mesh:
        return self._mesh

    def instances(self) -> Instances:
        return Instances(self._vertex_ids, dict(self.labels))
