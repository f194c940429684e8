"""Image bytes to arrays, strictly: a file that is damaged is refused, not half decoded."""

from __future__ import annotations

import cv2
import numpy as np
import simplejpeg

from offline.data_engine.sources.base import BadFrame, EncodedImage

_JPEG_MAGIC = b"\xff\xd8\xff"
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def encoded_image(data: bytes) -> EncodedImage | None:
    """Name the format of an image file's bytes; None if it is neither JPEG nor PNG."""
    if data.startswith(_JPEG_MAGIC):
        return EncodedImage(data, "jpeg")
    if data.startswith(_PNG_MAGIC):
        return EncodedImage(data, "png")
    return None


def decode_color(data: bytes, where: str) -> np.ndarray:
    """JPEG, PNG or PPM bytes -> (H, W, 3) uint8 RGB. Raises BadFrame naming ``where``."""
    if not data.startswith(_JPEG_MAGIC):
        return cv2.cvtColor(_decode(data, cv2.IMREAD_COLOR, where), cv2.COLOR_BGR2RGB)
    try:
        # OpenCV fills the missing part of a broken JPEG with grey and returns it; simplejpeg refuses it.
        return simplejpeg.decode_jpeg(data, colorspace="RGB")
    except ValueError as error:
        raise BadFrame(f"{where}: corrupt JPEG of {len(data)} bytes: {error}") from error


def decode_depth(data: bytes, where: str) -> np.ndarray:
    """PNG or PGM bytes -> (h, w) uint16. Raises BadFrame naming ``where``."""
    image = _decode(data, cv2.IMREAD_UNCHANGED, where)
    if image.ndim != 2 or image.dtype != np.uint16:
        raise BadFrame(f"{where}: expected a 16-bit single-channel depth image, found {image.dtype} {image.shape}")
    return image


def _decode(data: bytes, flags: int, where: str) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if image is None:
        raise BadFrame(f"{where}: not an image, or a corrupt one, of {len(data)} bytes")
    return image
