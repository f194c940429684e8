"""Record any posed RGB-D sequence as a rosbag2, without ROS."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import simplejpeg
import tyro
from roboref_core.geometry.camera import Camera
from roboref_core.progress import Progress
from roboref_core.scene import BadFrame, EncodedImage, Scene
from rosbags.interfaces import Connection
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from sim.bags.new_bag import new_bag
from sim.bags.perturb import Delivery, PoseDrift, PoseNoise
from sim.bags.qos import offered_qos
from sim.bags.recorder_messages import Frames, Messages, typestore

# Stamps of sequences without usable ones: 30 Hz from a fixed time, well away from 0, which ROS reads as "no time".
FIRST_STAMP_NS = 1_500_000_000 * 10**9
FRAME_PERIOD_NS = 10**9 // 30
_JPEG_QUALITY = 95
_MILLIMETRE = 0.001


@dataclass(frozen=True)
class RecordOptions:
    """How a sequence is recorded."""

    start: int = 0
    """First frame, by position in the sequence."""
    end: int | None = None
    """Position after the last frame; default: all."""
    stride: int = 1
    """Record every n-th frame."""
    max_frames: int | None = None
    """Stop after so many frames."""
    storage: Literal["mcap", "sqlite3"] = "mcap"
    """Storage plugin of rosbag2."""
    compression: Literal["none", "zstd"] = "none"
    """zstd: chunks in MCAP, messages in sqlite3."""
    color: Literal["compressed", "raw"] = "compressed"
    """compressed: the file's own JPEG or PNG bytes (encoded as JPEG if it has raw pixels); raw: rgb8."""
    depth: Literal["raw", "compressed"] = "raw"
    """raw: 16UC1; compressed: compressedDepth PNG."""
    namespace: str = "/camera"
    """Namespace of the image topics."""
    frames: Frames = field(default_factory=Frames)
    """Names of the coordinate frames."""
    noise: tyro.conf.Suppress[PoseNoise] = field(default_factory=PoseNoise)
    """Noise on the recorded poses; the exact ones stay in the sequence, as ground truth."""
    drift: tyro.conf.Suppress[PoseDrift] = field(default_factory=PoseDrift)
    """Drift of the recorded poses."""
    delivery: tyro.conf.Suppress[Delivery] = field(default_factory=Delivery)
    """Frames that arrive late or never."""
    focal_scale: tyro.conf.Suppress[float] = 1.0
    """The camera infos state the focal lengths times this: the calibration of another camera."""
    overwrite: bool = False
    """Replace an existing bag."""


@dataclass(frozen=True)
class RecordResult:
    """What was recorded.

    Attributes:
        path: the bag's folder.
        positions: positions of the views written, in the order in which they arrive.
        without_pose: how many of these are views without pose (tracking lost).
        bad_frames: messages of the frames left out because they could not be read.
        bytes: serialised messages written.
        seconds: time taken.
    """

    path: Path
    positions: list[int]
    without_pose: int
    bad_frames: list[str]
    bytes: int
    seconds: float

    @property
    def frames(self) -> int:
        """How many views were written."""
        return len(self.positions)


def bag_stamps(scene: Scene) -> np.ndarray:
    """(N,) int64 stamps [ns] under which the frames of ``scene`` are recorded, whatever subset is.

    The sequence's own stamps if it has some and they increase; moved to ``FIRST_STAMP_NS`` if they start in the
    first second after 0. Otherwise 30 Hz by frame number.
    """
    stamps = scene.stamps_ns
    if stamps is None or (np.diff(stamps) <= 0).any() or (stamps < 0).any():
        return FIRST_STAMP_NS + (scene.frame_ids - scene.frame_ids[:1]) * FRAME_PERIOD_NS
    if len(stamps) and stamps[0] < 10**9:
        return FIRST_STAMP_NS + stamps
    return stamps


def on_time(positions: Sequence[int]) -> list[int]:
    """Those of the positions of frames, in the order in which they arrive, that are the newest when they do."""
    newest = np.maximum.accumulate(np.asarray(positions, dtype=np.int64))
    return [position for position, best in zip(positions, newest.tolist(), strict=True) if position == best]


def record(
    scene: Scene, path: str | os.PathLike, options: RecordOptions | None = None, *, progress: bool = False
) -> RecordResult:
    """Write ``scene`` as a rosbag2 folder, complete or not at all.

    Topics, ``<ns>`` being the namespace: ``<ns>/color/image_raw/compressed`` (or ``image_raw``),
    ``<ns>/color/camera_info``, ``<ns>/depth/image_raw`` (or ``image_raw/compressedDepth``),
    ``<ns>/depth/camera_info``, ``/tf``, ``/tf_static``, ``/odom`` (the camera's link in the world) and
    ``/camera_pose`` (its optical frame in the world). All messages of a view carry one stamp, see ``bag_stamps``, and
    are recorded at this time, or later as ``options.delivery`` says; a view whose tracking was lost has no pose
    messages. A frame that cannot be read is left out and reported.

    Args:
        path: folder to make.
        progress: show a progress bar.

    Raises:
        ValueError: the folder exists, options select no frame, or no frame could be read.
        FolderInUse: another process records the same bag.
    """
    options = options or RecordOptions()
    path = Path(path)
    with new_bag(path, f"roboref sim record {path}", options.overwrite) as bag:
        result = _write(scene, bag, _selected(scene, options), options, progress)
    return RecordResult(path, *result)


def _selected(scene: Scene, options: RecordOptions) -> range:
    if options.stride < 1 or options.start < 0:
        raise ValueError(f"stride must be at least 1 and start at least 0, found {options.stride}, {options.start}")
    positions = range(*slice(options.start, options.end, options.stride).indices(len(scene)))
    if options.max_frames is not None:
        positions = positions[: max(0, options.max_frames)]
    if not positions:
        raise ValueError(
            f"{scene.scene_id}: no frame selected of {len(scene)} (start {options.start}, end {options.end}, "
            f"max_frames {options.max_frames})"
        )
    return positions


def _write(
    scene: Scene, path: Path, positions: range, options: RecordOptions, progress: bool
) -> tuple[list[int], int, list[str], int, float]:
    mcap = options.storage == "mcap"
    writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP if mcap else StoragePlugin.SQLITE3)
    if options.compression == "zstd":
        writer.set_compression(CompressionMode.STORAGE if mcap else CompressionMode.MESSAGE, CompressionFormat.ZSTD)
    writer.set_custom_data("scene_id", scene.scene_id)
    messages = Messages(options.frames)
    stamps = bag_stamps(scene)
    poses = options.drift.perturb(scene.poses, stamps, scene.scene_id)
    selected = np.array(positions)
    order, times = options.delivery.arrivals(stamps[selected], scene.frame_ids[selected], scene.scene_id)
    began = time.monotonic()
    without_pose = written = 0
    recorded: list[int] = []
    bad_frames: list[str] = []
    arrivals = list(zip(selected[order].tolist(), times.tolist(), strict=True))
    with writer, Progress(arrivals, desc=f"recording {scene.scene_id}", unit="frame", disable=not progress) as bar:
        topics = _Topics(writer)
        for i, arrival in bar:
            stamp = int(stamps[i])
            try:
                view = list(_view(scene, i, stamp, poses[i], messages, options))
            except BadFrame as error:
                bad_frames.append(str(error))
                continue
            if not recorded:
                view.insert(0, ("/tf_static", "tf2_msgs/msg/TFMessage", messages.tf_static(stamp)))
            for topic, message_type, data in view:
                topics.write(topic, message_type, arrival, data)
                written += len(data)
            recorded.append(i)
            without_pose += not np.isfinite(poses[i]).all()
            bar.set_postfix_str(f"{written / 1e6 / (time.monotonic() - began):.0f} MB/s", refresh=False)
        if not recorded:
            reason = f"can be read, first: {bad_frames[0]}" if bad_frames else "arrives: all were dropped"
            raise ValueError(f"{scene.scene_id}: none of the {len(positions)} frames {reason}")
    return recorded, without_pose, bad_frames, written, time.monotonic() - began


def _view(
    scene: Scene, i: int, stamp: int, T_world_camera: np.ndarray, messages: Messages, options: RecordOptions
) -> Iterator[tuple[str, str, memoryview]]:
    """Topic, type and bytes of a view's messages; poses first, so that they are there when the images arrive."""
    ns = options.namespace.rstrip("/")
    if np.isfinite(T_world_camera).all():
        noise = options.noise
        T = noise.perturb(T_world_camera, scene.scene_id, int(scene.frame_ids[i]))
        yield "/tf", "tf2_msgs/msg/TFMessage", messages.tf(stamp, T)
        yield "/odom", "nav_msgs/msg/Odometry", messages.odometry(stamp, T, noise.translation, noise.rotation)
        yield "/camera_pose", "geometry_msgs/msg/PoseStamped", messages.camera_pose(stamp, T)
    info = "sensor_msgs/msg/CameraInfo"
    yield f"{ns}/color/camera_info", info, messages.camera_info(stamp, _stated(scene.color_camera, options))
    yield f"{ns}/depth/camera_info", info, messages.camera_info(stamp, _stated(scene.depth_camera, options))
    if options.color == "raw":
        yield f"{ns}/color/image_raw", "sensor_msgs/msg/Image", messages.image(stamp, scene.color(i))
    else:
        encoded = scene.color_encoded(i) or _as_jpeg(scene.color(i))
        yield (
            f"{ns}/color/image_raw/compressed",
            "sensor_msgs/msg/CompressedImage",
            messages.compressed(stamp, encoded),
        )
    millimetres = as_millimetres(*scene.depth_raw(i))
    if options.depth == "raw":
        yield f"{ns}/depth/image_raw", "sensor_msgs/msg/Image", messages.image(stamp, millimetres)
    else:
        yield (
            f"{ns}/depth/image_raw/compressedDepth",
            "sensor_msgs/msg/CompressedImage",
            messages.compressed_depth(stamp, millimetres),
        )


def _stated(camera: Camera, options: RecordOptions) -> Camera:
    return replace(camera, fx=camera.fx * options.focal_scale, fy=camera.fy * options.focal_scale)


class _Topics:
    """A bag's topics, added with their QoS when first written to."""

    def __init__(self, writer: Writer):
        self._writer = writer
        self._connections: dict[str, Connection] = {}

    def write(self, topic: str, message_type: str, stamp: int, data: memoryview) -> None:
        connection = self._connections.get(topic)
        if connection is None:
            static = topic == "/tf_static"
            qos = offered_qos(static, depth=1 if static else 10)
            connection = self._connections[topic] = self._writer.add_connection(
                topic, message_type, typestore=typestore(), offered_qos_profiles=[qos]
            )
        self._writer.write(connection, stamp, data)


def _as_jpeg(image: np.ndarray) -> EncodedImage:
    return EncodedImage(simplejpeg.encode_jpeg(image, quality=_JPEG_QUALITY, colorspace="RGB"), "jpeg")


def as_millimetres(raw: np.ndarray, unit: float) -> np.ndarray:
    """Depth counts of ``unit`` metres -> uint16 millimetres; what does not fit is no measurement."""
    if np.isclose(unit, _MILLIMETRE, rtol=1e-6):
        return raw
    millimetres = np.rint(raw * (unit / _MILLIMETRE))
    return np.where(millimetres > np.iinfo(np.uint16).max, 0, millimetres).astype(np.uint16)
