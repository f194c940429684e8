"""ScanNet's `.sens` sequences (SensReader of ScanNet/ScanNet), read by position.

The file has no index, so the first opening walks the 96-byte fixed parts of all frames and keeps what it found in a
sidecar; every later opening reads the sidecar only. Frames are fetched by pread and inflated or decoded when asked for.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from roboref_core.geometry.camera import Camera
from roboref_core.scene import BadFrame, EncodedImage

from offline.data_engine.sources.damaged import MAX_BLOB, MAX_PIXELS
from offline.data_engine.sources.images import check_size, decode_color, encoded_image
from offline.data_engine.sources.poses import clean_poses
from offline.data_engine.sources.sens_index import FRAME, SensIndex

_inflate: ModuleType
try:
    from isal import isal_zlib as _inflate
except ImportError:  # no wheel for this machine: the standard library reads the same streams, slower
    _inflate = zlib

VERSION = 4
VERSION_WITHOUT_IMU = 3
COLOR_RAW, COLOR_PNG, COLOR_JPEG = 0, 1, 2
DEPTH_RAW, DEPTH_ZLIB, DEPTH_OCCI = 0, 1, 2
_MAX_NAME = 4096
_MAX_MICROSECONDS = np.iinfo(np.int64).max // 1000


@dataclass(frozen=True)
class SensHeader:
    """What a `.sens` file says of itself. ``size`` is the header's length [byte]; matrices are 4x4 row-major."""

    version: int
    sensor_name: str
    intrinsic_color: np.ndarray
    extrinsic_color: np.ndarray
    intrinsic_depth: np.ndarray
    extrinsic_depth: np.ndarray
    color_compression: int
    depth_compression: int
    color_size: tuple[int, int]
    depth_size: tuple[int, int]
    depth_shift: float
    num_frames: int
    size: int


def read_header(path: Path, data: bytes) -> SensHeader:
    """Parse the first bytes of a `.sens` file; ValueError naming ``path`` and the field that is wrong."""
    if len(data) < 12:
        raise ValueError(f"{path}: truncated .sens: {len(data)} bytes, the header alone takes over 300")
    version, name_length = struct.unpack_from("<IQ", data)
    if version not in (VERSION, VERSION_WITHOUT_IMU):
        raise ValueError(f"{path}: .sens version {version} is not supported, expected {VERSION}")
    if name_length > _MAX_NAME:
        raise ValueError(f"{path}: not a .sens file: sensor name of {name_length} bytes")
    size = 304 + name_length
    if len(data) < size:
        raise ValueError(f"{path}: truncated .sens: {len(data)} bytes, its header takes {size}")
    at = 12 + name_length
    matrices = np.frombuffer(data, "<f4", 64, at).reshape(4, 4, 4).astype(np.float64)
    color_compression, depth_compression, *sizes = struct.unpack_from("<ii4I", data, at + 256)
    depth_shift, num_frames = struct.unpack_from("<fQ", data, at + 280)
    if depth_compression == DEPTH_OCCI:
        raise ValueError(
            f"{path}: depth is compressed by Occipital's codec (occi, type {DEPTH_OCCI}), which is proprietary; "
            f"expected {DEPTH_RAW} (raw) or {DEPTH_ZLIB} (zlib)"
        )
    if depth_compression not in (DEPTH_RAW, DEPTH_ZLIB):
        raise ValueError(f"{path}: unknown depth compression {depth_compression}, expected {DEPTH_RAW} or {DEPTH_ZLIB}")
    if color_compression not in (COLOR_RAW, COLOR_PNG, COLOR_JPEG):
        raise ValueError(
            f"{path}: unknown color compression {color_compression}, expected {COLOR_RAW}, {COLOR_PNG} or {COLOR_JPEG}"
        )
    if not (np.isfinite(depth_shift) and depth_shift > 0):
        raise ValueError(f"{path}: depth shift is {depth_shift}, expected units per metre (ScanNet: 1000)")
    return SensHeader(
        version,
        data[12:at].decode("utf-8", "replace"),
        matrices[0],
        matrices[1],
        matrices[2],
        matrices[3],
        color_compression,
        depth_compression,
        (sizes[0], sizes[1]),
        (sizes[2], sizes[3]),
        float(depth_shift),
        num_frames,
        size,
    )


class SensScene:
    """A `.sens` file as a Scene (without mesh).

    Poses are re-orthonormalised (the file holds float32) and NaN where tracking was lost; capture times are None if
    the file holds only zeros, as scene0000_00 does. The file stays open until close() or garbage collection; reading
    is safe from several threads and after a fork.

    Args:
        path: the `.sens` file.
        salvage: read what can be read of a file that is refused otherwise: the frames present in a truncated one
            (the missing ones counted in ``defects``) and files of version 3, which is version 4 without its last
            block of IMU samples.

    Raises:
        ValueError: not a `.sens` file, a version or compression that cannot be read, or a truncated file.
    """

    def __init__(self, path: str | os.PathLike, *, salvage: bool = False):
        self.path = Path(path)
        self.scene_id = self.path.stem
        self.axis_alignment = np.eye(4)
        self._file = open(self.path, "rb", buffering=0)
        try:
            self._open(salvage)
        except BaseException:
            self._file.close()
            raise

    def _open(self, salvage: bool) -> None:
        fd = self._file.fileno()
        self.header = header = read_header(self.path, os.pread(fd, 304 + _MAX_NAME, 0))
        if header.version == VERSION_WITHOUT_IMU and not salvage:
            raise ValueError(f"{self.path}: .sens version 3, expected {VERSION}; salvage=True reads it")
        self.color_camera = self._camera(header.intrinsic_color, header.color_size, "color")
        self.depth_camera = self._camera(header.intrinsic_depth, header.depth_size, "depth")

        index = SensIndex.load_or_build(self.path, fd, header.size, header.num_frames)
        present = len(index.frames)
        self.defects: dict[str, int] = {}
        if present < header.num_frames:
            if not salvage:
                raise ValueError(
                    f"{self.path}: truncated .sens: its header says {header.num_frames} frames, {present} are "
                    f"present in {index.file_size} bytes; salvage=True reads those"
                )
            self.defects["truncated_frames"] = header.num_frames - present
        self._frames = index.frames
        self._offsets = index.offsets
        self.frame_ids = np.arange(present, dtype=np.int64)
        self.poses, pose_defects = clean_poses(index.frames["camera_to_world"])
        self.defects |= pose_defects
        self.stamps_ns = None
        microseconds = index.frames["color_stamp"]
        if microseconds.any() and microseconds.max() <= _MAX_MICROSECONDS:
            self.stamps_ns = microseconds.astype(np.int64) * 1000
        elif present:
            self.defects["no_timestamps"] = present

    def _camera(self, K: np.ndarray, size: tuple[int, int], what: str) -> Camera:
        if size[0] * size[1] > MAX_PIXELS:
            raise ValueError(f"{self.path}: {what} of {size[0]}x{size[1]}, expected at most {MAX_PIXELS} pixels")
        try:
            return Camera.from_camera_info(*size, K[:3, :3].ravel().tolist())
        except ValueError as error:
            raise ValueError(f"{self.path}: {what} intrinsics: {error}") from error

    def __len__(self) -> int:
        return len(self._frames)

    def close(self) -> None:
        self._file.close()

    def color_encoded(self, i: int) -> EncodedImage | None:
        if self.header.color_compression == COLOR_RAW:
            return None
        data, where = self._color_bytes(i), f"{self._where(i)} colour"
        image = encoded_image(data, self.color_camera, where)
        if image is None:
            raise BadFrame(f"{where}: blob of {len(data)} bytes is neither JPEG nor PNG")
        return image

    def color(self, i: int) -> np.ndarray:
        data, camera, where = self._color_bytes(i), self.color_camera, f"{self._where(i)} colour"
        if self.header.color_compression == COLOR_RAW:
            if len(data) != camera.height * camera.width * 3:
                raise BadFrame(f"{where}: {len(data)} raw bytes, expected {camera.width}x{camera.height}x3")
            return np.frombuffer(data, np.uint8).reshape(camera.height, camera.width, 3)
        if encoded_image(data, camera, where) is None:
            raise BadFrame(f"{where}: blob of {len(data)} bytes is neither JPEG nor PNG")
        image = decode_color(data, where)
        check_size(image.shape, camera, where)
        return image

    def depth_raw(self, i: int) -> tuple[np.ndarray, float]:
        frame, camera, where = self._frames[i], self.depth_camera, f"{self._where(i)} depth"
        data = self._read(int(self._offsets[i]) + FRAME.itemsize + int(frame["color_bytes"]), int(frame["depth_bytes"]))
        expected = camera.height * camera.width * 2
        if self.header.depth_compression == DEPTH_ZLIB:
            stream = _inflate.decompressobj()
            try:
                # One byte more than expected is asked for, so that the checksum behind the pixels is reached.
                data = stream.decompress(data, expected + 1)
            except (zlib.error, _inflate.error) as error:
                raise BadFrame(f"{where}: corrupt zlib stream of {len(data)} bytes: {error}") from error
            if not stream.eof and len(data) <= expected:
                raise BadFrame(f"{where}: corrupt zlib stream: it ends after {len(data)} of {expected} bytes")
        if len(data) != expected:
            raise BadFrame(f"{where}: {len(data)} bytes, expected {expected} for {camera.width}x{camera.height}")
        return np.frombuffer(data, "<u2").reshape(camera.height, camera.width), 1.0 / self.header.depth_shift

    def depth(self, i: int) -> np.ndarray:
        raw, _ = self.depth_raw(i)
        return raw / np.float32(self.header.depth_shift)

    def mesh(self) -> None:
        return None

    def instances(self) -> None:
        return None

    def _color_bytes(self, i: int) -> bytes:
        return self._read(int(self._offsets[i]) + FRAME.itemsize, int(self._frames[i]["color_bytes"]))

    def _read(self, offset: int, size: int) -> bytes:
        if size > MAX_BLOB:
            raise BadFrame(f"{self.path}: a picture of {size} bytes at {offset}, expected at most {MAX_BLOB}")
        data = os.pread(self._file.fileno(), size, offset)
        if len(data) != size:
            raise ValueError(f"{self.path}: the file shrank while open: {len(data)} of {size} bytes at {offset}")
        return data

    def _where(self, i: int) -> str:
        return f"{self.path} frame {self.frame_ids[i]}"
