"""Image bytes to arrays, strictly: a file that is damaged is refused, not half decoded."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence

import cv2
import numpy as np
import simplejpeg
from roboref_core.geometry.camera import Camera
from roboref_core.scene import BadFrame, EncodedImage

from offline.data_engine.sources.damaged import MAX_PIXELS

_JPEG_MAGIC = b"\xff\xd8\xff"
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PORTABLE = re.compile(rb"P[1-6](?:\s+|#[^\n]*\n)+(\d{1,9})(?:\s+|#[^\n]*\n)+(\d{1,9})\s")
"""Width and height of a PBM, PGM or PPM picture, plain or raw."""
_PORTABLE_HEADER = 4096


def encoded_image(data: bytes, camera: Camera, where: str) -> EncodedImage | None:
    """An image file's bytes with their format; None if they are neither JPEG nor PNG.

    Only the file's header is looked at. Raises BadFrame naming ``where`` if that is damaged or of another size than
    the camera's image.
    """
    if data.startswith(_JPEG_MAGIC):
        try:
            height, width, *_ = simplejpeg.decode_jpeg_header(data)
        except ValueError as error:
            raise BadFrame(f"{where}: corrupt JPEG of {len(data)} bytes: {error}") from error
        image = EncodedImage(data, "jpeg")
    elif data.startswith(_PNG_MAGIC) and len(data) >= 24:
        width, height = struct.unpack_from(">II", data, 16)
        image = EncodedImage(data, "png")
    else:
        return None
    check_size((height, width), camera, where)
    return image


def check_size(shape: Sequence[int], camera: Camera, where: str) -> None:
    """Raise BadFrame naming ``where`` unless an image of ``shape`` (H, W, ...) belongs to ``camera``."""
    try:
        camera.check_size(shape, where)
    except ValueError as error:
        raise BadFrame(str(error)) from error


def decode_color(data: bytes, where: str) -> np.ndarray:
    """JPEG, PNG or PPM bytes -> (H, W, 3) uint8 RGB. Raises BadFrame naming ``where``."""
    _check_header(data, where)
    if not data.startswith(_JPEG_MAGIC):
        return cv2.cvtColor(_decode(data, cv2.IMREAD_COLOR, where), cv2.COLOR_BGR2RGB)
    try:
        # OpenCV fills the missing part of a broken JPEG with grey and returns it; simplejpeg refuses it.
        return simplejpeg.decode_jpeg(data, colorspace="RGB")
    except ValueError as error:
        raise BadFrame(f"{where}: corrupt JPEG of {len(data)} bytes: {error}") from error


def decode_depth(data: bytes, where: str) -> np.ndarray:
    """PNG or PGM bytes -> (h, w) uint16. Raises BadFrame naming ``where``."""
    _check_header(data, where)
    image = _decode(data, cv2.IMREAD_UNCHANGED, where)
    if image.ndim != 2 or image.dtype != np.uint16:
        raise BadFrame(f"{where}: expected a 16-bit single-channel depth image, found {image.dtype} {image.shape}")
    return image


def _check_header(data: bytes, where: str) -> None:
    """Raise BadFrame naming ``where`` for another format, or more pixels than ``MAX_PIXELS``, before decoding."""
    if data.startswith(_JPEG_MAGIC):
        try:
            height, width, *_ = simplejpeg.decode_jpeg_header(data)
        except ValueError as error:
            raise BadFrame(f"{where}: corrupt JPEG of {len(data)} bytes: {error}") from error
    elif data.startswith(_PNG_MAGIC) and len(data) >= 24:
        width, height = struct.unpack_from(">II", data, 16)
    elif header := _PORTABLE.match(data[:_PORTABLE_HEADER]):
        width, height = int(header[1]), int(header[2])
    else:
        raise BadFrame(f"{where}: not an image, or a corrupt one, of {len(data)} bytes: expected JPEG, PNG, PGM or PPM")
    if width * height > MAX_PIXELS:
        raise BadFrame(f"{where}: a picture of {width}x{height}, expected at most {MAX_PIXELS} pixels")


def _decode(data: bytes, flags: int, where: str) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if image is None:
        raise BadFrame(f"{where}: not an image, or a corrupt one, of {len(data)} bytes")
    return image
