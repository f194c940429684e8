"""Files that are either whole or not there: written under another name, synced, renamed."""
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically; its folder is made. An error (disk full) leaves no part of it behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any, indent: int | None = 1) -> None:
    """Write JSON with sorted keys, so that equal values are equal bytes."""
    write_bytes(path, (json.dumps(value, indent=indent, sort_keys=True, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read JSON. Raises ValueError naming the file if it is missing or not JSON."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from error


def write_picture(path: Path, image: np.ndarray) -> None:
    """Write (H, W, 3) RGB or (H, W) uint8 or uint16 in the format of the name's ending; JPEG at quality 95."""
    pixels = image[..., ::-1] if image.ndim == 3 else image
    options = {
        ".png": [cv2.IMWRITE_PNG_COMPRESSION, 1],
        ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 95],
    }[path.suffix]
    write_bytes(path, cv2.imencode(path.suffix, np.ascontiguousarray(pixels), options)[1].tobytes())


def read_picture(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB. Raises ValueError naming the file if it is missing or no picture."""
    image = _decode(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_mask(path: Path) -> np.ndarray:
    """(H, W) bool, true where any channel of any depth is above 0 (masks come grey, binary or with colour)."""
    image = _decode(path, cv2.IMREAD_UNCHANGED)
    # A fourth channel is opacity, not the mask.
    return image > 0 if image.ndim == 2 else (image[..., :3] > 0).any(axis=2)


def _decode(path: Path, flags: int) -> np.ndarray:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if image is None:
        raise ValueError(f"{path}: not a picture that can be decoded ({len(data)} bytes)")
    return image
