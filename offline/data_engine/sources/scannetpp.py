"""ScanNet++ (v2) scenes, their iPhone recording: video or frames, ARKit depth, COLMAP poses, mesh and objects.

Layout and encodings: scannetpp/scannetpp toolkit.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from roboref_core.geometry.camera import Camera
from roboref_core.scene import BadFrame, EncodedImage, Instances, Mesh

from offline.data_engine.sources.arkit_depth import ArkitDepth, DepthPictures
from offline.data_engine.sources.colmap import model_files, read_cameras, read_images
from offline.data_engine.sources.damaged import read_object
from offline.data_engine.sources.images import check_size, decode_color, encoded_image
from offline.data_engine.sources.instances import read_instances, refuse_missing
from offline.data_engine.sources.mesh import read_ply
from offline.data_engine.sources.poses import clean_poses

_MILLIMETRE = 0.001
# Size of the recordings, for which pose_intrinsic_imu.json gives its intrinsics.
_VIDEO_SIZE = (1920, 1440)
# Further than this, decoding a video forward costs more than seeking.
_MAX_SKIP = 60


class ScanNetPPPaths:
    """Where the files of one scene lie. Attributes are paths, whether or not the files exist."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.scene_id = folder.resolve().name
        self.mesh = folder / "scans" / "mesh_aligned_0.05.ply"
        self.segments = folder / "scans" / "segments.json"
        self.annotation = folder / "scans" / "segments_anno.json"
        self.iphone = folder / "iphone"
        self.frames = self.iphone / "rgb"
        self.depth = self.iphone / "depth.bin"
        self.arkit = self.iphone / "pose_intrinsic_imu.json"
        self.depth_pictures = self.iphone / "depth"

    @property
    def video(self) -> Path | None:
        return next((p for p in (self.iphone / "rgb.mkv", self.iphone / "rgb.mp4") if p.is_file()), None)


@dataclass(frozen=True)
class _Track:
    """What is known of the camera: frame numbers, raw poses and intrinsics."""

    frame_ids: list[int]
    poses: np.ndarray
    camera: Camera
    defects: dict[str, int]


class ScanNetPPScene:
    """The iPhone recording of a scene.

    Frames are those that COLMAP registered, with COLMAP's poses and camera; without a COLMAP model all frames, with
    ARKit's `aligned_pose`, which fits the mesh less well. The raw `pose` is in another frame than the mesh and is
    never used. Depth is `depth.bin` (256x192), or what the toolkit makes of it, `depth/frame_000000.png` in
    millimetres; it covers the colour image. Poses and mesh are axis-aligned already.
    ``defects``: "other_camera" (frames of a COLMAP camera other than the main one, left out), "varying_intrinsics"
    (frames whose ARKit focal length is more than 1 % from the one used), "no_image_file" (left out).

    Raises:
        ValueError: files are missing or damaged.
    """

    def __init__(self, folder: Path):
        self.paths = paths = ScanNetPPPaths(folder)
        self.scene_id = paths.scene_id
        self.axis_alignment = np.eye(4)
        arkit = _read_arkit(paths.arkit) if paths.arkit.is_file() else {}
        self._files = _frame_files(paths.frames)
        depth_files = {} if paths.depth.is_file() else _frame_files(paths.depth_pictures)
        colmap = model_files(paths.iphone / "colmap")
        _refuse_incomplete(paths, bool(self._files), bool(depth_files), colmap is not None or bool(arkit))
        track = _colmap_track(*colmap) if colmap else _arkit_track(paths, arkit)
        self.defects = dict(track.defects)
        self._video = None if self._files or paths.video is None else _Video(paths.video)
        keep = [k for k, frame in enumerate(track.frame_ids) if not self._files or frame in self._files]
        if len(keep) < len(track.frame_ids):
            self.defects["no_image_file"] = len(track.frame_ids) - len(keep)
        if not keep:
            raise ValueError(f"{paths.iphone}: no frame has both an image and a pose")
        self.frame_ids = np.array([track.frame_ids[k] for k in keep], dtype=np.int64)
        self.poses, pose_defects = clean_poses(track.poses[keep])
        self.defects |= pose_defects
        self.color_camera = track.camera
        self._depth: ArkitDepth | DepthPictures = (
            ArkitDepth(paths.depth) if paths.depth.is_file() else DepthPictures(depth_files)
        )
        self.depth_camera = track.camera.resized(*self._depth.size)
        self.stamps_ns = _stamps(arkit, self.frame_ids)

    def __len__(self) -> int:
        return len(self.frame_ids)

    def color_encoded(self, i: int) -> EncodedImage | None:
        if self._video is not None:
            return None
        return encoded_image(self._read(i), self.color_camera, self._where(i))

    def color(self, i: int) -> np.ndarray:
        if self._video is not None:
            image = self._video.frame(int(self.frame_ids[i]), self._where(i))
        else:
            image = decode_color(self._read(i), self._where(i))
        check_size(image.shape, self.color_camera, self._where(i))
        return image

    def depth(self, i: int) -> np.ndarray:
        return self._depth.metres(int(self.frame_ids[i]), self._where(i))

    def depth_raw(self, i: int) -> tuple[np.ndarray, float]:
        millimetres = np.rint(self.depth(i) / _MILLIMETRE)
        return np.where(millimetres > np.iinfo(np.uint16).max, 0, millimetres).astype(np.uint16), _MILLIMETRE

    @cached_property
    def _mesh(self) -> Mesh:
        return read_ply(self.paths.mesh)

    def mesh(self) -> Mesh | None:
        """The 5 %-decimated mesh, in the frame of the poses; None if the scene has none (novel-view test scenes)."""
        return self._mesh if self.paths.mesh.is_file() else None

    def instances(self) -> Instances | None:
        """The annotated objects; a vertex of several objects belongs to the smallest. None if there are none."""
        paths = self.paths
        if not paths.annotation.is_file() and not paths.segments.is_file():
            return None
        refuse_missing((paths.mesh, paths.segments, paths.annotation))
        instances, defects = read_instances(
            paths.segments, paths.annotation, len(self._mesh.vertices), id_offset=0, smallest_wins=True
        )
        self.defects |= defects
        return instances

    def _read(self, i: int) -> bytes:
        try:
            return self._files[int(self.frame_ids[i])].read_bytes()
        except OSError as error:
            raise BadFrame(f"{self._where(i)}: {error}") from error

    def _where(self, i: int) -> str:
        return f"{self.scene_id} frame {self.frame_ids[i]}"


class _Video:
    """Frames of a video by number."""

    def __init__(self, path: Path):
        self._path = path
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise ValueError(f"{path}: not a video that can be decoded here")
        self._next = 0
        self._lock = threading.Lock()

    def frame(self, number: int, where: str) -> np.ndarray:
        """(H, W, 3) uint8 RGB. Raises BadFrame naming ``where``."""
        with self._lock:
            if not 0 <= number - self._next <= _MAX_SKIP:
                self._capture.set(cv2.CAP_PROP_POS_FRAMES, number)
                self._next = number
            while self._next < number and self._capture.grab():
                self._next += 1
            ok, image = self._capture.read() if self._next == number else (False, None)
            self._next += 1
            if not ok or image is None:
                self._capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
                self._next = 0
                raise BadFrame(f"{self._path} ({where}): cannot be decoded")
            return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _refuse_incomplete(paths: ScanNetPPPaths, files: bool, depth_files: bool, poses: bool) -> None:
    """Raise ValueError that names all parts that a recording lacks."""
    lacking = []
    if not files and paths.video is None:
        lacking.append("no frames: looked for rgb/frame_000000.jpg, rgb.mkv and rgb.mp4")
    if not depth_files and not paths.depth.is_file():
        lacking.append("no depth: looked for depth.bin and depth/frame_000000.png")
    if not poses:
        lacking.append(f"no poses: looked for colmap/images.txt, colmap/images.bin and {paths.arkit.name}")
    if lacking:
        raise ValueError(f"{paths.iphone}: {'; '.join(lacking)}")


def _colmap_track(cameras_path: Path, images_path: Path) -> _Track:
    if not cameras_path.is_file():
        raise ValueError(f"{cameras_path}: missing beside {images_path.name}")
    cameras = read_cameras(cameras_path)
    images = read_images(images_path)
    if not images:
        raise ValueError(f"{images_path}: no registered image")
    (main, count), *_ = Counter(image.camera_id for image in images).most_common()
    if main not in cameras:
        raise ValueError(f"{cameras_path}: no camera {main}, which {images_path.name} uses")
    by_frame = {_frame_number(i.name, images_path): i.T_world_camera for i in images if i.camera_id == main}
    frames = sorted(by_frame)
    defects = {"other_camera": len(images) - count} if count < len(images) else {}
    return _Track(frames, np.array([by_frame[f] for f in frames]), cameras[main], defects)


def _arkit_track(paths: ScanNetPPPaths, arkit: dict[int, dict]) -> _Track:
    frames = sorted(arkit)
    try:
        poses = np.array([arkit[f]["aligned_pose"] for f in frames], dtype=np.float64).reshape(-1, 4, 4)
        K = np.array([arkit[f]["intrinsic"] for f in frames], dtype=np.float64).reshape(-1, 3, 3)
        camera = Camera.from_camera_info(*_VIDEO_SIZE, np.median(K, axis=0).ravel().tolist())
    except KeyError as error:
        raise ValueError(f"{paths.arkit}: a frame has no {error} (the raw pose does not fit the mesh)") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{paths.arkit}: {error}") from error
    varying = int((np.abs(K[:, 0, 0] / camera.fx - 1) > 0.01).sum())
    return _Track(frames, poses, camera, {"varying_intrinsics": varying} if varying else {})


def _read_arkit(path: Path) -> dict[int, dict]:
    try:
        return {_frame_number(name, path): entry for name, entry in read_object(path).items()}
    except ValueError as error:
        raise ValueError(f"{path}: expected an object of frames: {error}") from error


def _stamps(arkit: dict[int, dict], frame_ids: np.ndarray) -> np.ndarray | None:
    stamps = [arkit.get(int(frame), {}).get("timestamp") for frame in frame_ids]
    if any(stamp is None for stamp in stamps):
        return None
    return np.rint(np.array(stamps, dtype=np.float64) * 1e9).astype(np.int64)


def _frame_files(folder: Path) -> dict[int, Path]:
    if not folder.is_dir():
        return {}
    return {_frame_number(p.name, folder): p for p in sorted(folder.glob("frame_*")) if p.suffix in (".jpg", ".png")}


def _frame_number(name: str, where: Path) -> int:
    """12 of "frame_000012", "frame_000012.jpg" or "iphone/frame_000012.jpg"."""
    match = re.fullmatch(r"(?:.*/)?frame_(\d+)(?:\.\w+)?", name)
    if match is None:
        raise ValueError(f"{where}: expected a name like frame_000012.jpg, found {name!r}")
    return int(match[1])
