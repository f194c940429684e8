"""Image files from strangers: what is decoded is bounded before it is decoded."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
_COLOUR_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
_DEPTH_MODES = ("L", "RGB")


class ImageRefused(ValueError):
    """An image that is not decoded; the text names its field."""


def decode_images(texts: Sequence[str], name: str, max_pixels: int, depth: bool = False) -> list[np.ndarray]:
    """Base64 of image files -> (H, W, 3) uint8 RGB each.

    Args:
        texts: base64, without data-URI prefixes.
        name: name of the field, for messages.
        max_pixels: most pixels of all of them together; checked against their headers, before anything is decoded.
        depth: they are depth pictures and must be 8-bit, grey or RGB.

    Raises:
        ImageRefused: not base64, not an image, truncated, too large, or of another kind.
    """
    files = [_open(text, f"{name}[{index}]", depth) for index, text in enumerate(texts)]
    total = sum(file.width * file.height for file in files)
    if total > max_pixels:
        raise ImageRefused(f"{name}: {total} pixels in all, at most {max_pixels} are taken")
    return [_decode(file, f"{name}[{index}]") for index, file in enumerate(files)]


def _open(text: str, name: str, depth: bool) -> Image.Image:
    try:
        # Encoders that follow MIME break their lines.
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageRefused(f"{name}: not base64 ({error})") from error
    try:
        file = Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError as error:
        raise ImageRefused(f"{name}: not a {', '.join(_FORMATS)} file") from error
    except Exception as error:  # decoders given hostile bytes raise whatever they stumble over
        raise ImageRefused(f"{name}: the image file is damaged ({error})") from error
    if not depth and file.mode not in _COLOUR_MODES:
        raise ImageRefused(f"{name}: expected 8 bits a channel, found mode {file.mode}: scale it to 8 bits knowingly")
    if depth and file.mode not in _DEPTH_MODES:
        raise ImageRefused(
            f"{name}: expected an 8-bit grey or RGB depth picture (near = bright), found mode {file.mode}"
        )
    return file


def _decode(file: Image.Image, name: str) -> np.ndarray:
    try:
        return np.asarray(file.convert("RGB"))
    except Exception as error:  # as above
        raise ImageRefused(f"{name}: the image file is damaged ({error})") from error
