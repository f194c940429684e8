"""A `.sens` file put together by hand from the format's description, for tests of the reader."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import simplejpeg


def header(
    num_frames: int,
    *,
    version: int = 4,
    name: bytes = b"StructureSensor",
    color_size: tuple[int, int] = (64, 48),
    depth_size: tuple[int, int] = (32, 24),
    color_K=(60.0, 61.0, 31.5, 23.5),
    depth_K=(30.0, 30.5, 15.5, 11.5),
    color_compression: int = 2,
    depth_compression: int = 1,
    depth_shift: float = 1000.0,
) -> bytes:
    def matrix(fx, fy, cx, cy):
        return struct.pack("<16f", fx, 0, cx, 0, 0, fy, cy, 0, 0, 0, 1, 0, 0, 0, 0, 1)

    identity = struct.pack("<16f", *np.eye(4).ravel())
    return (
        struct.pack("<IQ", version, len(name))
        + name
        + matrix(*color_K)
        + identity
        + matrix(*depth_K)
        + identity
        + struct.pack("<ii", color_compression, depth_compression)
        + struct.pack("<4I", *color_size, *depth_size)
        + struct.pack("<fQ", depth_shift, num_frames)
    )


def frame(pose: np.ndarray, stamp: int, color: bytes, depth: bytes) -> bytes:
    fixed = struct.pack("<16f", *np.asarray(pose).ravel()) + struct.pack("<4Q", stamp, stamp, len(color), len(depth))
    assert len(fixed) == 96
    return fixed + color + depth


def imu(count: int) -> bytes:
    return struct.pack("<Q", count) + count * (struct.pack("<15d", *range(15)) + struct.pack("<Q", 7))


def picture(seed: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    """(h, w, 3) uint8, smooth enough for JPEG."""
    u, v = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    return np.stack([2 * u + seed, 3 * v + seed, u + v], axis=-1).astype(np.uint8)


def jpeg(image: np.ndarray) -> bytes:
    return simplejpeg.encode_jpeg(image, quality=95, colorspace="RGB")


def depth_counts(seed: int, size: tuple[int, int] = (32, 24)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 6000, (size[1], size[0])).astype("<u2")


def deflated(counts: np.ndarray) -> bytes:
    return zlib.compress(counts.astype("<u2").tobytes())


def sens(num_frames: int = 4, *, poses=None, stamps=None, **fields) -> bytes:
    """A whole file of ``num_frames`` frames: picture(i), depth_counts(i), given or identity poses and stamps [us]."""
    color_size, depth_size = fields.get("color_size", (64, 48)), fields.get("depth_size", (32, 24))
    body = b"".join(
        frame(
            np.eye(4) if poses is None else poses[i],
            1_000_000 + 33_333 * i if stamps is None else stamps[i],
            jpeg(picture(i, color_size)),
            deflated(depth_counts(i, depth_size)),
        )
        for i in range(num_frames)
    )
    tail = b"" if fields.get("version") == 3 else imu(2)
    return header(num_frames, **fields) + body + tail
