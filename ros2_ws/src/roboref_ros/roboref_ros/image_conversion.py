"""Images of messages -> arrays, by cv_bridge where ROS provides a sound one and by an equal converter otherwise.

Encodings are those of sensor_msgs/image_encodings; depth units follow REP-118 (16UC1 is millimetres,
32FC1 metres); compressed depth is the format of ROS's compressed_depth_image_transport.
"""

from __future__ import annotations

import functools
import logging
import struct
from collections.abc import Sequence

import numpy as np
from sensor_msgs.msg import CompressedImage, Image

COLOR_ENCODINGS = ("rgb8", "bgr8", "rgba8", "bgra8", "mono8")
DEPTH_ENCODINGS = ("16UC1", "32FC1")
_PIXEL = {
    "rgb8": (np.dtype(np.uint8), 3),
    "bgr8": (np.dtype(np.uint8), 3),
    "rgba8": (np.dtype(np.uint8), 4),
    "bgra8": (np.dtype(np.uint8), 4),
    "mono8": (np.dtype(np.uint8), 1),
    "16UC1": (np.dtype(np.uint16), 1),
    "32FC1": (np.dtype(np.float32), 1),
}
_MILLIMETRE = np.float32(0.001)
_PNG_SIGNATURE = b"\x89PNG"
# int32 format, float32 depthParam[2]: ConfigHeader of compressed_depth_image_transport.
_CONFIG_HEADER = struct.Struct("<iff")


def raw_size(message: Image, encodings: Sequence[str]) -> tuple[int, int]:
    """(height, width) of a raw image, after checking that its header describes its data. Touches no pixel.

    Raises ValueError: encoding not among ``encodings``, empty, step or data too short.
    """
    if message.encoding not in encodings:
        raise ValueError(f"encoding {message.encoding!r} is not supported, expected one of {', '.join(encodings)}")
    dtype, channels = _PIXEL[message.encoding]
    row = message.width * channels * dtype.itemsize
    if row == 0 or message.height == 0:
        raise ValueError(f"image is empty: {message.width}x{message.height}")
    if message.step < row:
        raise ValueError(f"step is {message.step} bytes, but {message.width} {message.encoding} pixels take {row}")
    if len(message.data) < message.step * message.height:
        raise ValueError(
            f"data holds {len(message.data)} bytes, but {message.height} rows of {message.step} take "
            f"{message.step * message.height}"
        )
    return message.height, message.width


def color_from_message(message: Image | CompressedImage) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a raw image, or of a JPEG or PNG one. May share the message's memory.

    Raises ValueError with what is wrong with the message.
    """
    if isinstance(message, CompressedImage):
        return _decode_color(message)
    raw_size(message, COLOR_ENCODINGS)
    bridge = cv_bridge()
    if bridge is not None and _bridge_is_right(message):
        return bridge.imgmsg_to_cv2(message, "rgb8")
    pixels = _pixels(message)
    if message.encoding == "mono8":
        return np.repeat(pixels, 3, axis=2)
    order = slice(2, None, -1) if message.encoding.startswith("bgr") else slice(0, 3)
    return np.ascontiguousarray(pixels[..., order])


def depth_from_message(message: Image | CompressedImage) -> np.ndarray:
    """(h, w) float32 depth [m] of a raw or compressedDepth image; 0 or non-finite: no measurement.

    May share the message's memory. Raises ValueError with what is wrong with the message.
    """
    if isinstance(message, CompressedImage):
        return _decode_depth(message)
    raw_size(message, DEPTH_ENCODINGS)
    bridge = cv_bridge()
    if bridge is not None and _bridge_is_right(message):
        pixels = bridge.imgmsg_to_cv2(message, "passthrough")
    else:
        pixels = _pixels(message)[..., 0]
    if message.encoding == "16UC1":
        return np.multiply(pixels, _MILLIMETRE, dtype=np.float32)
    return np.ascontiguousarray(pixels, dtype=np.float32)


def _pixels(message: Image) -> np.ndarray:
    """(H, W, C) view of a raw message's own memory, in its byte order and with its row padding skipped."""
    dtype, channels = _PIXEL[message.encoding]
    return np.ndarray(
        (message.height, message.width, channels),
        dtype.newbyteorder(">" if message.is_bigendian else "<"),
        buffer=message.data,
        strides=(message.step, channels * dtype.itemsize, dtype.itemsize),
    )


def _bridge_is_right(message: Image) -> bool:
    """Whether cv_bridge reads this layout correctly.

    Jazzy's cv_bridge derives the row length in whole pixels, which shears rows padded by anything else,
    and swaps big-endian images by an array method that numpy 2 no longer has.
    """
    dtype, channels = _PIXEL[message.encoding]
    return message.step % (dtype.itemsize * channels) == 0 and not message.is_bigendian


@functools.lru_cache(maxsize=1)
def cv_bridge():
    """ROS's CvBridge, or None where it cannot be imported or gives wrong pixels.

    It is tried on images with known pixels, because sound ones are not the only ones around: the
    package of that name on PyPI is ROS 1's and returns 16-bit depth as 8-bit, and one built for another
    numpy or OpenCV imports but fails in use.
    """
    depth = Image(height=2, width=1, encoding="16UC1", step=4, data=bytes([1, 2, 0, 0, 3, 4, 0, 0]))
    color = Image(height=1, width=1, encoding="bgr8", step=3, data=bytes([1, 2, 3]))
    try:
        from cv_bridge import CvBridge

        bridge = CvBridge()
        sound = bridge.imgmsg_to_cv2(depth, "passthrough").tolist() == [[0x0201], [0x0403]] and bridge.imgmsg_to_cv2(
            color, "rgb8"
        ).tolist() == [[[3, 2, 1]]]
    except ModuleNotFoundError:
        return None
    except Exception as error:  # Whatever a foreign binary raises, images can be read without it.
        logging.getLogger(__name__).warning("cv_bridge is not usable: %s: %s", type(error).__name__, error)
        return None
    if not sound:
        logging.getLogger(__name__).warning("cv_bridge gives wrong pixels: is it ROS 1's? It is not used.")
        return None
    return bridge


def _decode_color(message: CompressedImage) -> np.ndarray:
    import cv2

    # A camera's EXIF orientation must not turn the image away from its intrinsics.
    bgr = _imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION, message)
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def _decode_depth(message: CompressedImage) -> np.ndarray:
    import cv2

    encoding, _, kind = (part.strip() for part in message.format.partition(";"))
    if encoding not in DEPTH_ENCODINGS or "rvl" in kind:
        raise ValueError(
            f"compressed depth has format {message.format!r}, expected '16UC1; compressedDepth png' or "
            "'32FC1; compressedDepth png'"
        )
    data = np.frombuffer(message.data, np.uint8)
    # Plain PNG, as image_transport's `compressed` writes 16UC1, has no header before it.
    headed = data[: len(_PNG_SIGNATURE)].tobytes() != _PNG_SIGNATURE
    png = _imdecode(data[_CONFIG_HEADER.size :] if headed else data, cv2.IMREAD_UNCHANGED, message)
    if png.dtype != np.uint16 or png.ndim != 2:
        raise ValueError(f"compressed depth holds {png.dtype} pixels of shape {png.shape}, expected 16-bit grey")
    if encoding == "16UC1":
        return np.multiply(png, _MILLIMETRE, dtype=np.float32)
    if not headed:
        raise ValueError(f"compressed depth of format {message.format!r} lacks its quantisation header")
    _, a, b = _CONFIG_HEADER.unpack_from(data)
    inverse = png.astype(np.float32) - np.float32(b)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((png > 0) & (inverse > 0), np.float32(a) / inverse, np.float32(np.nan))


def _imdecode(data: np.ndarray, flags: int, message: CompressedImage) -> np.ndarray:
    import cv2

    try:
        image = cv2.imdecode(data, flags) if len(data) else None
    except cv2.error as error:
        raise ValueError(f"compressed image of format {message.format!r} does not decode: {error}") from error
    if image is None:
        raise ValueError(f"compressed image of format {message.format!r} with {len(data)} bytes does not decode")
    return image
