"""Images of messages -> arrays, by cv_bridge where ROS provides a sound one and by an equal converter otherwise.

Encodings are those of sensor_msgs/image_encodings; depth units follow REP-118 (16UC1 is millimetres,
32FC1 metres); compressed depth is the format of ROS's compressed_depth_image_transport.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from roboref_ros.compressed_images import compressed_size, decode_color, decode_depth

# OpenCV names a Bayer pattern by its second row's second and third pixel.
_BAYER = {"bayer_rggb8": "BG", "bayer_bggr8": "RG", "bayer_gbrg8": "GR", "bayer_grbg8": "GB"}
_YUV = {"yuv422": "UYVY", "uyvy": "UYVY", "yuv422_yuy2": "YUY2", "yuyv": "YUY2"}
COLOR_ENCODINGS = ("rgb8", "bgr8", "rgba8", "bgra8", "mono8", "8UC1", *_YUV, *_BAYER)
DEPTH_ENCODINGS = ("16UC1", "mono16", "32FC1")
_REASONS = {
    "8UC3": "it does not say whether it is RGB or BGR: let the driver name the order",
    "16UC3": "16-bit colour",
}
_PIXEL: dict[str, tuple[np.dtype[Any], int]] = {
    "rgb8": (np.dtype(np.uint8), 3),
    "bgr8": (np.dtype(np.uint8), 3),
    "rgba8": (np.dtype(np.uint8), 4),
    "bgra8": (np.dtype(np.uint8), 4),
    "mono8": (np.dtype(np.uint8), 1),
    "8UC1": (np.dtype(np.uint8), 1),
    **{name: (np.dtype(np.uint8), 2) for name in _YUV},
    **{name: (np.dtype(np.uint8), 1) for name in _BAYER},
    "16UC1": (np.dtype(np.uint16), 1),
    "mono16": (np.dtype(np.uint16), 1),
    "32FC1": (np.dtype(np.float32), 1),
}
_MILLIMETRE = np.float32(0.001)


def raw_size(message: Image, encodings: Sequence[str]) -> tuple[int, int]:
    """(height, width) of a raw image, after checking that its header describes its data. Touches no pixel.

    Raises ValueError: encoding not among ``encodings``, empty, step or data too short.
    """
    if message.encoding not in encodings:
        reason = f" ({_REASONS[message.encoding]})" if message.encoding in _REASONS else ""
        raise ValueError(
            f"encoding {message.encoding!r} is not supported{reason}, expected one of {', '.join(encodings)}"
        )
    dtype, channels = _PIXEL[message.encoding]
    row = message.width * channels * dtype.itemsize
    if row == 0 or message.height == 0:
        raise ValueError(f"image is empty: {message.width}x{message.height}")
    if message.encoding in _YUV and message.width % 2:
        raise ValueError(f"{message.encoding} needs an even width, found {message.width}")
    if message.step < row:
        raise ValueError(f"step is {message.step} bytes, but {message.width} {message.encoding} pixels take {row}")
    if len(message.data) < message.step * message.height:
        raise ValueError(
            f"data holds {len(message.data)} bytes, but {message.height} rows of {message.step} take "
            f"{message.step * message.height}"
        )
    return message.height, message.width


def image_size(message: Image | CompressedImage, depth: bool) -> tuple[int, int]:
    """(height, width) from the headers of a message. Raises ValueError as ``raw_size`` and ``compressed_size`` do."""
    if isinstance(message, CompressedImage):
        return compressed_size(message, depth)
    return raw_size(message, DEPTH_ENCODINGS if depth else COLOR_ENCODINGS)


def color_from_message(message: Image | CompressedImage) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a raw image, or of a JPEG or PNG one. May share the message's memory.

    Raises ValueError with what is wrong with the message.
    """
    if isinstance(message, CompressedImage):
        return decode_color(message)
    raw_size(message, COLOR_ENCODINGS)
    if message.encoding in _YUV:
        return _convert_color(_pixels(message), f"COLOR_YUV2RGB_{_YUV[message.encoding]}")
    if message.encoding in _BAYER:
        return _convert_color(_pixels(message)[..., 0], f"COLOR_Bayer{_BAYER[message.encoding]}2RGB")
    bridge = None if message.encoding == "8UC1" else cv_bridge()
    if bridge is not None and _bridge_is_right(message):
        return bridge.imgmsg_to_cv2(message, "rgb8")
    pixels = _pixels(message)
    if message.encoding in ("mono8", "8UC1"):
        return np.repeat(pixels, 3, axis=2)
    order = slice(2, None, -1) if message.encoding.startswith("bgr") else slice(0, 3)
    return np.ascontiguousarray(pixels[..., order])


def depth_from_message(message: Image | CompressedImage) -> np.ndarray:
    """(h, w) float32 depth [m] of a raw or compressedDepth image; 0 or non-finite: no measurement.

    May share the message's memory. Raises ValueError with what is wrong with the message.
    """
    if isinstance(message, CompressedImage):
        return decode_depth(message)
    raw_size(message, DEPTH_ENCODINGS)
    bridge = cv_bridge()
    if bridge is not None and _bridge_is_right(message):
        pixels = bridge.imgmsg_to_cv2(message, "passthrough")
    else:
        pixels = _pixels(message)[..., 0]
    if message.encoding in ("16UC1", "mono16"):
        return np.multiply(pixels, _MILLIMETRE, dtype=np.float32)
    return np.ascontiguousarray(pixels, dtype=np.float32)


def _convert_color(pixels: np.ndarray, code: str) -> np.ndarray:
    import cv2

    return cv2.cvtColor(np.ascontiguousarray(pixels), getattr(cv2, code))


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
def cv_bridge() -> Any:
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
