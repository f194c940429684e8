"""Pictures, masks and JSON on disk: written as a whole or not at all, and read with errors that name the file."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import deflate
import numpy as np
from isal import isal_zlib
from PIL import Image
from roboref_core.atomic import write_bytes

_PNG_HEADER = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"
_LARGEST_JSON = 2 << 30
"""No JSON file of this project or of the data sets that it reads comes near [byte]."""


def json_bytes(value: Any, indent: int | None = 1) -> bytes:
    """JSON with sorted keys, so that equal values are equal bytes. Raises ValueError for NaN and infinities."""
    return (json.dumps(value, indent=indent, sort_keys=True, allow_nan=False) + "\n").encode()


def write_json(path: Path, value: Any) -> None:
    """Write ``json_bytes`` as a whole."""
    write_bytes(path, json_bytes(value))


def as_json(value: Any) -> str:
    """JSON to print for scripts, as ``write_json`` writes it."""
    return json_bytes(value).decode().rstrip("\n")


def read_json(path: Path) -> Any:
    """Read JSON of at most 2 GiB. Raises ValueError naming the file if it is missing, too large or not JSON."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    if size > _LARGEST_JSON:
        raise ValueError(f"{path}: {size} bytes, expected JSON of at most {_LARGEST_JSON}")
    try:
        return json.loads(_read(path))
    except RecursionError as error:
        raise ValueError(f"{path}: not valid JSON (lists or objects nested too deeply)") from error
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from error


def picture_size(path: Path) -> tuple[int, int]:
    """(width, height) [pixel] from a picture's header. Raises ValueError naming the file if it is not a picture."""
    try:
        with Image.open(path) as image:
            return image.size
    except OSError as error:
        raise ValueError(f"{path}: not a picture whose size can be read ({error})") from error


def write_picture(path: Path, image: np.ndarray) -> None:
    """Write ``encode_picture`` in the format of the name's ending, as a whole."""
    try:
        data = encode_picture(path.suffix, image)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    write_bytes(path, data)


def encode_picture(suffix: str, image: np.ndarray) -> bytes:
    """(H, W, 3) RGB or (H, W) uint8 or uint16 as ".png", or ".jpg" of quality 95. Raises ValueError for others."""
    if suffix == ".png":
        return encode_png(image)
    if suffix == ".jpg":
        pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else np.ascontiguousarray(image)
        return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    raise ValueError(f"pictures are written as .png or .jpg, found {suffix!r}")


def encode_png(image: np.ndarray) -> bytes:
    """A PNG (ISO/IEC 15948): each row less its left neighbour, deflated by libdeflate. Faster than OpenCV's.

    The bytes are a function of the pixels alone, on any processor. ISA-L's are not: one picture of about 4,000 differs
    when it is compressed again, though it decodes to the same pixels.

    Args:
        image: (H, W, 3) uint8 RGB, or (H, W) uint8 or uint16.
    """
    if image.dtype not in (np.uint8, np.uint16) or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise ValueError(f"expected an 8-bit RGB or an 8- or 16-bit grey picture, found {image.dtype} {image.shape}")
    height, width = image.shape[:2]
    depth, color_type = 8 * image.dtype.itemsize, 2 if image.ndim == 3 else 0
    # PNG is big-endian; its Sub filter works on bytes at the distance of one pixel.
    raw = np.ascontiguousarray(image.astype(image.dtype.newbyteorder(">"), copy=False)).view(np.uint8)
    raw = raw.reshape(height, -1)
    step = raw.shape[1] // width
    rows = np.empty((height, raw.shape[1] + 1), np.uint8)
    rows[:, 0] = 1
    rows[:, 1 : step + 1] = raw[:, :step]
    np.subtract(raw[:, step:], raw[:, :-step], out=rows[:, step + 1 :])
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", deflate.zlib_compress(rows, 1)), (b"IEND", b""))
    body = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def read_picture(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB. Raises ValueError naming the file if it is missing or no picture."""
    image = _decode(path, _read(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_mask(path: Path) -> np.ndarray:
    """(H, W) bool, true where any channel of any depth is above 0 (masks come grey, binary or with colour)."""
    data = _read(path)
    mask = _usual_mask(data)
    if mask is not None:
        return mask
    image = _decode(path, data, cv2.IMREAD_UNCHANGED)
    # A fourth channel is opacity, not the mask.
    return np.asarray(image > 0 if image.ndim == 2 else (image[..., :3] > 0).any(axis=2))


def _usual_mask(data: bytes) -> np.ndarray | None:
    """What ``read_mask`` returns for a sound PNG of 8-bit grey whose rows are all filtered by Sub, as OpenCV and
    ``encode_png`` write it; None for any other file, which is OpenCV's to decode or to refuse.

    A mask's rows are mostly empty, and only the others need their filter undone: three times faster than OpenCV.
    """
    if not data.startswith(_PNG_HEADER):
        return None
    compressed, at, kind = [], 8, b""
    try:
        width, height, *form = struct.unpack_from(">IIBBBBB", data, len(_PNG_HEADER))
        while kind != b"IEND":
            (size,), kind = struct.unpack_from(">I", data, at), data[at + 4 : at + 8]
            body = data[at + 8 : at + 8 + size]
            (checksum,) = struct.unpack_from(">I", data, at + 8 + size)
            if kind not in (b"IHDR", b"IDAT", b"IEND") or checksum != zlib.crc32(kind + body):
                return None
            if kind == b"IDAT":
                compressed.append(body)
            at += size + 12
        # One byte more than there should be, so that the stream is read to its end and its checksum.
        stream, expected = isal_zlib.decompressobj(), height * (width + 1)
        rows = np.frombuffer(stream.decompress(b"".join(compressed), expected + 1), np.uint8)
    except (struct.error, isal_zlib.error):  # type: ignore[misc]  # isal has no types
        return None
    if form != [8, 0, 0, 0, 0] or not stream.eof or len(rows) != expected or expected == 0:
        return None
    rows = rows.reshape(height, width + 1)
    if (rows[:, 0] != 1).any():
        return None
    mask = np.zeros((height, width), bool)
    used = rows[:, 1:].any(axis=1)
    mask[used] = np.add.accumulate(rows[used, 1:], axis=1, dtype=np.uint8) > 0
    return mask


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error


def _decode(path: Path, data: bytes, flags: int) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if image is None:
        raise ValueError(f"{path}: not a picture that can be decoded ({len(data)} bytes)")
    return image
