"""A simulated scene and a camera path as a source of posed RGB-D frames, rendered when asked for."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import inverse
from roboref_core.scene import EncodedImage, Instances, Mesh

from sim.rooms.changes import Change
from sim.rooms.design import seeded
from sim.rooms.noise import DepthNoise
from sim.rooms.path import CameraPath, make_path
from sim.rooms.renderer import Renderer, Rendering
from sim.rooms.rooms import make_scene
from sim.rooms.scene import SimScene

# ScanNet's depth camera (median of its 1513 scans) and its colour camera at full size.
CAMERA_640 = Camera(640, 480, 577.8706, 577.8706, 319.5, 239.5)
CAMERA_1296 = Camera(1296, 968, 1170.1880, 1165.3725, 646.9875, 482.9958)
_DEPTH_UNIT = 0.001


class SimSource:
    """A Scene (see roboref_core.scene) whose poses, depth and ids are exact unless noise is asked for.

    Frames are rendered on request; the last few are kept. Reading is safe from several threads.

    Args:
        renderer: renderer of the scene.
        path: camera poses and stamps.
        color_camera, depth_camera: the depth camera defaults to the colour camera.
        depth_noise: sensor model; None gives exact depth.
        lost: positions of frames whose tracking is lost: they have images but no pose.
        seed: seed of the sensor noise.
        change: what is different from some position on; mesh and instances stay those of the beginning.

    Attributes beyond the protocol:
        scene: the SimScene.
        renderer: renderer of the scene, for ground truth.
        path: the walk.
        change, change_at: as given, and its first position.
        true_poses: (N, 4, 4) T_world_camera, of lost frames too.
    """

    def __init__(
        self,
        renderer: Renderer,
        path: CameraPath,
        *,
        color_camera: Camera = CAMERA_640,
        depth_camera: Camera | None = None,
        depth_noise: DepthNoise | None = None,
        lost: tuple[int, ...] = (),
        seed: int = 0,
        change: Change | None = None,
    ):
        self.scene: SimScene = renderer.scene
        self.renderer = renderer
        self.scene_id = self.scene.scene_id
        self.color_camera = color_camera
        self.depth_camera = depth_camera or color_camera
        self.true_poses = path.poses
        self.poses = path.poses.copy()
        self.poses[list(lost)] = np.nan
        self.stamps_ns = path.stamps_ns
        self.frame_ids = np.arange(len(path), dtype=np.int64)
        self.axis_alignment = inverse(self.scene.T_world_room)
        self.defects = {"lost_tracking": len(set(lost))} if lost else {}
        self.path = path
        self.change = change
        self.change_at = change.at if change else None
        self._noise = depth_noise
        self._seed = seed
        self._rendered = lru_cache(maxsize=4)(self._render)

    def __len__(self) -> int:
        return len(self.true_poses)

    def color(self, i: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        color = self._rendered(int(i), self.color_camera, True).color
        assert color is not None, "rendered with colour"
        return color

    def color_encoded(self, i: int) -> EncodedImage | None:
        """None: the simulation holds raw pixels."""
        return None

    def depth(self, i: int) -> np.ndarray:
        """(h, w) float32 [m], 0 = no measurement; exact, or as the sensor measured it if there is noise."""
        depth = self.true_depth(i)
        if self._noise is None:
            return depth
        return self._noise(depth, self.depth_camera, seeded("depth", self.scene_id, self._seed, int(self.frame_ids[i])))

    def depth_raw(self, i: int) -> tuple[np.ndarray, float]:
        """(h, w) uint16 millimetres, 0 = no measurement, and 0.001."""
        millimetres = np.round(self.depth(i) / np.float32(_DEPTH_UNIT))
        return np.where(millimetres <= 65535, millimetres, 0).astype(np.uint16), _DEPTH_UNIT

    def true_depth(self, i: int) -> np.ndarray:
        """(h, w) float32 exact depth [m], 0 where nothing is seen."""
        same = self.depth_camera == self.color_camera
        return self._rendered(int(i), self.depth_camera, same).depth

    def true_color_depth(self, i: int) -> np.ndarray:
        """(H, W) float32 exact depth [m] of each colour pixel, 0 where nothing is seen."""
        return self._rendered(int(i), self.color_camera, True).depth

    def ids(self, i: int) -> np.ndarray:
        """(H, W) int32 exact instance id of each colour pixel, 0 = unannotated."""
        return self._rendered(int(i), self.color_camera, True).ids

    def out_of_sight(self, object_id: int, i: int) -> bool:
        """Whether a frame shows nothing of an object."""
        return not (self.ids(i) == object_id).any()

    def motion(self, object_id: int, earlier: int, later: int) -> np.ndarray | None:
        """4x4 that carries an object's points from where they are in one frame to where they are in a later one, in
        the world; None if the object was taken away in between."""
        if self.change is None or not earlier < self.change.at <= later:
            return np.eye(4)
        if object_id in self.change.gone:
            return None
        return self.change.motions.get(object_id, np.eye(4))

    def mesh(self) -> Mesh:
        return self.scene.mesh()

    def instances(self) -> Instances:
        return self.scene.instances()

    def _render(self, i: int, camera: Camera, color: bool) -> Rendering:
        if not 0 <= i < len(self):
            raise IndexError(f"{self.scene_id}: frame {i} of {len(self)}")
        renderer = self.change.renderer if self.change is not None and i >= self.change.at else self.renderer
        rendering = renderer.render(camera, self.true_poses[i], color=color)
        for image in (rendering.color, rendering.depth, rendering.ids):
            if image is not None:
                image.flags.writeable = False
        return rendering


def make_source(
    seed: int,
    frames: int,
    *,
    triangles: int = 200_000,
    objects: int | None = None,
    color_camera: Camera = CAMERA_640,
    depth_camera: Camera | None = None,
    depth_noise: DepthNoise | None = None,
    lost_share: float = 0.0,
) -> SimSource:
    """Scene, walk and source of one seed; ``lost_share`` of the frames lose tracking, in runs of up to ten."""
    renderer = Renderer(make_scene(seed, triangles=triangles, objects=objects))
    path = make_path(renderer, frames, seed=seed)
    return SimSource(
        renderer,
        path,
        color_camera=color_camera,
        depth_camera=depth_camera,
        depth_noise=depth_noise,
        lost=lost_frames(seed, frames, lost_share),
        seed=seed,
    )


def lost_frames(seed: int, frames: int, share: float) -> tuple[int, ...]:
    """Which frames lose tracking: about ``share`` of them, in runs of one to ten."""
    if not 0 <= share < 1:
        raise ValueError(f"the share of lost frames must be in [0, 1), found {share}")
    rng = seeded("lost", seed)
    lost: set[int] = set()
    while len(lost) < round(share * frames):
        first, length = int(rng.integers(frames)), int(rng.integers(1, 11))
        lost |= set(range(first, min(frames, first + length, first + round(share * frames) - len(lost))))
    return tuple(sorted(lost))
