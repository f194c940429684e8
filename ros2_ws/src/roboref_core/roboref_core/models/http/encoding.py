"""Pictures as the text that model servers take."""

from __future__ import annotations

import base64

import cv2
import numpy as np


def png_base64(image: np.ndarray) -> str:
    """(H, W, 3) uint8 RGB -> base64 of a PNG file (lossless: a server sees what a local model would)."""
    return base64.b64encode(png(image)).decode("ascii")


def png(image: np.ndarray) -> bytes:
    """(H, W, 3) uint8 RGB -> a PNG file."""
    ok, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not ok:
        raise ValueError(f"an image of shape {image.shape} cannot be written as PNG")
    return data.tobytes()
