"""Compressed images of messages: their size is read from their headers, before anything is decoded.

Colour is JPEG or PNG; depth is the format of ROS's compressed_depth_image_transport (PNG or RVL), or a plain PNG.
"""

from __future__ import annotations

import struct

import numpy as np
from sensor_msgs.msg import CompressedImage

MAX_PIXELS = 50_000_000
"""Larger images are refused: decoding one must not take the memory of the robot."""
_MAX_SCANS = 100
"""Of a progressive JPEG: every one costs a pass over the whole image, whatever its own size."""
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_SIGNATURE = b"\xff\xd8"
# int32 format, float32 depthParam[2]: ConfigHeader of compressed_depth_image_transport.
_CONFIG_HEADER = struct.Struct("<iff")
_RVL_SIZE = struct.Struct("<ii")
_DEPTH_FORMATS = ("16UC1", "32FC1")


def compressed_size(message: CompressedImage, depth: bool) -> tuple[int, int]:
    """(height, width) that decoding would give. Decodes nothing.

    Raises ValueError: an unknown format, a header that is cut or does not fit the data, more than MAX_PIXELS.
    """
    data = bytes(message.data)
    what = f"compressed image of format {message.format!r} with {len(data)} bytes"
    try:
        if depth:
            height, width = _depth_size(message.format, data)
        elif data.startswith(_PNG_SIGNATURE):
            height, width = _png_size(data)
        elif data.startswith(_JPEG_SIGNATURE):
            height, width = _jpeg_size(data)
        else:
            raise ValueError("expected JPEG or PNG")
    except (struct.error, IndexError) as error:
        raise ValueError(f"{what}: its header is cut") from error
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error
    if not 0 < height * width <= MAX_PIXELS or min(height, width) < 1:
        raise ValueError(f"{what}: {width}x{height} pixels, at most {MAX_PIXELS} are decoded")
    return height, width


def decode_color(message: CompressedImage) -> np.ndarray:
    """(H, W, 3) uint8 RGB. Raises ValueError as ``compressed_size`` does, and where decoding fails."""
    import cv2

    size = compressed_size(message, depth=False)
    # A camera's EXIF orientation must not turn the image away from its intrinsics.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    bgr = _imdecode(np.frombuffer(message.data, np.uint8), flags, message, size)
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def decode_depth(message: CompressedImage) -> np.ndarray:
    """(h, w) float32 [m], 0 or NaN without measurement. Raises ValueError as ``decode_color`` does."""
    import cv2

    size = compressed_size(message, depth=True)
    data = np.frombuffer(message.data, np.uint8)
    headed = not data[: len(_PNG_SIGNATURE)].tobytes() == _PNG_SIGNATURE
    if "rvl" in message.format:
        start = _CONFIG_HEADER.size + _RVL_SIZE.size
        values = decode_rvl(data[start:].tobytes(), size[0] * size[1]).reshape(size)
    else:
        png = data[_CONFIG_HEADER.size :] if headed else data
        values = _imdecode(png, cv2.IMREAD_UNCHANGED, message, size)
    if values.dtype != np.uint16 or values.ndim != 2:
        raise ValueError(f"compressed depth holds {values.dtype} pixels of shape {values.shape}, expected 16-bit grey")
    if message.format.startswith("16UC1"):
        return np.multiply(values, np.float32(0.001), dtype=np.float32)
    if not headed:
        raise ValueError(f"compressed depth of format {message.format!r} lacks its quantisation header")
    _, a, b = _CONFIG_HEADER.unpack_from(data.tobytes()[: _CONFIG_HEADER.size])
    inverse = values.astype(np.float32) - np.float32(b)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((values > 0) & (inverse > 0), np.float32(a) / inverse, np.float32(np.nan))


def decode_rvl(data: bytes, count: int) -> np.ndarray:
    """(count,) uint16 of Wilson's RVL: runs of zeros, and differences of neighbours in variable-length nibbles.

    Raises ValueError if the data ends before ``count`` values, or runs past them.
    """
    words = np.frombuffer(data[: len(data) // 4 * 4], "<u4")
    nibbles = (words[:, None] >> np.arange(28, -1, -4, dtype=np.uint32) & 15).astype(np.int64).ravel()
    # A number ends at the first nibble without its highest bit; its lowest three bits come first.
    lengths = np.diff(np.flatnonzero(nibbles < 8), prepend=-1)
    nibbles = nibbles[: lengths.sum()]
    starts = np.cumsum(lengths) - lengths
    place = np.minimum(np.arange(len(nibbles)) - np.repeat(starts, lengths), 20)
    numbers = np.add.reduceat((nibbles & 7) << (3 * place), starts) if len(starts) else starts
    values = np.zeros(count, np.int64)
    done = at = previous = 0
    while done < count:
        if at + 1 >= len(numbers):
            raise ValueError(f"RVL data ends after {done} of {count} values")
        zeros, measured = int(numbers[at]), int(numbers[at + 1])
        at += 2
        done += zeros
        if done + measured > count or at + measured > len(numbers) or zeros + measured == 0:
            raise ValueError(f"RVL data does not fit {count} values")
        codes = numbers[at : at + measured]
        run = previous + np.cumsum((codes >> 1) ^ -(codes & 1))
        values[done : done + measured] = run
        previous = int(run[-1]) if measured else previous
        done, at = done + measured, at + measured
    if ((values < 0) | (values > 65535)).any():
        raise ValueError("RVL data holds values beyond 16 bits")
    return values.astype(np.uint16)


def _depth_size(image_format: str, data: bytes) -> tuple[int, int]:
    if image_format.partition(";")[0].strip() not in _DEPTH_FORMATS:
        raise ValueError("expected '16UC1; compressedDepth png', '32FC1; compressedDepth png' or the same with rvl")
    if "rvl" in image_format:
        width, height = _RVL_SIZE.unpack_from(data, _CONFIG_HEADER.size)
        return height, width
    # Plain PNG, as image_transport's `compressed` writes 16UC1, has no header before it.
    return _png_size(data if data.startswith(_PNG_SIGNATURE) else data[_CONFIG_HEADER.size :])


def _png_size(data: bytes) -> tuple[int, int]:
    """Also checks that every chunk lies within the data: decoders allocate what a chunk's length says."""
    if not data.startswith(_PNG_SIGNATURE) or data[12:16] != b"IHDR":
        raise ValueError("not a PNG")
    width, height = struct.unpack_from(">II", data, 16)
    at = len(_PNG_SIGNATURE)
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        if at + 12 + length > len(data):
            raise ValueError(f"a PNG chunk of {length} bytes at byte {at} runs past the end")
        if data[at + 4 : at + 8] == b"IEND":
            return height, width
        at += 12 + length
    raise ValueError("the PNG is cut off")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    if data.count(b"\xff\xda") > _MAX_SCANS:
        raise ValueError(f"a JPEG of more than {_MAX_SCANS} scans")
    at = len(_JPEG_SIGNATURE)
    while True:
        if data[at] != 0xFF:
            raise ValueError(f"not a JPEG: no marker at byte {at}")
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return height, width
        (length,) = struct.unpack_from(">H", data, at + 2)
        at += 2 + max(length, 2)


def _imdecode(data: np.ndarray, flags: int, message: CompressedImage, size: tuple[int, int]) -> np.ndarray:
    import cv2

    what = f"compressed image of format {message.format!r} with {len(data)} bytes"
    try:
        image = cv2.imdecode(data, flags)
    except cv2.error as error:
        raise ValueError(f"{what} does not decode: {error}") from error
    if image is None:
        raise ValueError(f"{what} does not decode")
    if image.shape[:2] != size:
        raise ValueError(f"{what} decodes to {image.shape[1]}x{image.shape[0]}, its header says {size[1]}x{size[0]}")
    return image
