"""Writes ScanNet's `.sens`, version 4 (SensReader of ScanNet/ScanNet): JPEG colour, zlib depth, poses, IMU samples."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import simplejpeg
from roboref_core.atomic import replacing
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import interpolate
from roboref_core.scene import Scene

VERSION = 4
_JPEG, _ZLIB_U16 = 2, 1
_GRAVITY = 9.80665
_IMU_RATE_HZ = 100
_SENSOR_NAME = b"SimulatedStructureSensor"
_JPEG_QUALITY = 92


def write_sens(scene: Scene, path: Path, *, on_frame: Callable[[int], None] | None = None) -> None:
    """Write a posed RGB-D sequence, one frame at a time; the file appears under its name when it is complete.

    Colour keeps its encoded bytes where the source has JPEG. Poses of frames with lost tracking are -inf.

    Args:
        scene: undistorted cameras; depth in a unit that divides a metre evenly.
        path: path of the new file.
        on_frame: called with the number of frames written so far.

    Raises ValueError if the format cannot hold the cameras.
    """
    for camera, what in ((scene.color_camera, "colour"), (scene.depth_camera, "depth")):
        if camera.distortion_model != "none":
            raise ValueError(f"{path}: .sens has no field for lens distortion, {what} has {camera.distortion_model!r}")
    unit = scene.depth_raw(0)[1]
    with replacing(path) as file:
        file.write(_header(scene, round(1.0 / unit)))
        for i in range(len(scene)):
            encoded = scene.color_encoded(i)
            if encoded is None or encoded.format != "jpeg":
                color = simplejpeg.encode_jpeg(np.ascontiguousarray(scene.color(i)), quality=_JPEG_QUALITY)
            else:
                color = encoded.data
            depth = zlib.compress(scene.depth_raw(i)[0].astype("<u2").tobytes(), 1)
            pose = scene.poses[i]
            pose = pose if np.isfinite(pose).all() else np.full((4, 4), -np.inf)
            stamp = 0 if scene.stamps_ns is None else int(scene.stamps_ns[i]) // 1000
            file.write(pose.astype("<f4").tobytes() + struct.pack("<4Q", stamp, stamp, len(color), len(depth)))
            file.write(color)
            file.write(depth)
            if on_frame:
                on_frame(i + 1)
        samples = _imu(scene)
        file.write(struct.pack("<Q", len(samples)) + samples.tobytes())


def _header(scene: Scene, depth_shift: float) -> bytes:
    name = _SENSOR_NAME
    c, d = scene.color_camera, scene.depth_camera
    matrices = [_matrix(c), np.eye(4), _matrix(d), np.eye(4)]
    return b"".join(
        (
            struct.pack("<IQ", VERSION, len(name)),
            name,
            *(m.astype("<f4").tobytes() for m in matrices),
            struct.pack("<ii4IfQ", _JPEG, _ZLIB_U16, c.width, c.height, d.width, d.height, depth_shift, len(scene)),
        )
    )


def _matrix(camera: Camera) -> np.ndarray:
    K = np.eye(4)
    K[:3, :3] = camera.matrix
    return K


IMU_SAMPLE = np.dtype([
    ("rotation_rate", "<f8", 3), ("acceleration", "<f8", 3), ("magnetic_field", "<f8", 3), ("attitude", "<f8", 3),
    ("gravity", "<f8", 3), ("stamp", "<u8"),
])  # fmt: skip


def _imu(scene: Scene) -> np.ndarray:
    """What an inertial unit in the camera would have felt on the way, at 100 Hz; empty without poses and stamps.

    In the camera's axes: rotation rate [rad/s], acceleration without gravity and gravity [g], magnetic field [uT];
    attitude is roll, pitch, yaw [rad]. Apple's Core Motion, which recorded ScanNet, uses these units.
    """
    tracked = np.isfinite(scene.poses).all(axis=(1, 2))
    if scene.stamps_ns is None or tracked.sum() < 3:
        return np.empty(0, IMU_SAMPLE)
    stamps, poses = scene.stamps_ns[tracked] / 1e9, scene.poses[tracked]
    times = np.arange(stamps[0], stamps[-1], 1.0 / _IMU_RATE_HZ)
    after = np.clip(np.searchsorted(stamps, times, side="right"), 1, len(stamps) - 1)
    share = (times - stamps[after - 1]) / (stamps[after] - stamps[after - 1])
    T = np.stack([interpolate(poses[k - 1], poses[k], s) for k, s in zip(after, share, strict=True)])
    if len(T) < 3:
        return np.empty(0, IMU_SAMPLE)
    R = T[:, :3, :3]
    turn = np.swapaxes(R, 1, 2) @ np.gradient(R, times, axis=0)
    acceleration = np.gradient(np.gradient(T[:, :3, 3], times, axis=0), times, axis=0)
    samples = np.zeros(len(times), IMU_SAMPLE)
    samples["rotation_rate"] = np.stack([turn[:, 2, 1], turn[:, 0, 2], turn[:, 1, 0]], axis=1)
    samples["acceleration"] = np.einsum("nji,nj->ni", R, acceleration) / _GRAVITY
    samples["magnetic_field"] = np.einsum("nji,j->ni", R, (0.0, 20.0, -44.0))
    roll = np.arctan2(R[:, 2, 1], R[:, 2, 2])
    samples["attitude"] = np.stack(
        [roll, np.arcsin(np.clip(-R[:, 2, 0], -1, 1)), np.arctan2(R[:, 1, 0], R[:, 0, 0])], 1
    )
    samples["gravity"] = np.einsum("nji,j->ni", R, (0.0, 0.0, -1.0))
    samples["stamp"] = np.round(times * 1e6)
    return samples
