"""Damaged and hostile files: stated limits, and errors that name the file whatever its bytes make a parser raise."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MAX_TEXT = 1 << 28
"""Largest text file that is read [byte]: poses of a million frames have 256 MiB."""
MAX_JSON = 1 << 30
"""Largest JSON file that is read [byte]: ScanNet's largest has 30 MiB."""
MAX_PIXELS = 1 << 27
"""Largest picture that is decoded [pixel]; an 8K picture has a quarter of it."""
MAX_BLOB = 1 << 29
"""Largest encoded picture that is read from inside a file [byte]."""

_DAMAGE = (
    ValueError, TypeError, LookupError, ArithmeticError, AttributeError, MemoryError, RecursionError, struct.error
)  # fmt: skip


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Turn what damaged content makes a parser raise into a ValueError naming the file; I/O errors name it already."""
    try:
        yield
    except _DAMAGE as error:
        if isinstance(error, ValueError) and not isinstance(error, UnicodeError) and str(path) in str(error):
            raise
        raise ValueError(f"{path}: damaged: {str(error) or type(error).__name__}") from error


def check_size(path: Path, limit: int) -> None:
    """Raises ValueError naming ``path`` if it has more than ``limit`` bytes."""
    size = path.stat().st_size
    if size > limit:
        raise ValueError(f"{path}: {size} bytes, expected at most {limit}")


def read_text(path: Path) -> str:
    """A UTF-8 text file. Raises ValueError naming the file if it is none, or larger than ``MAX_TEXT``."""
    check_size(path, MAX_TEXT)
    with naming(path):
        return path.read_text(encoding="utf-8")


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object. Raises ValueError naming the file if it holds none, or is larger than ``MAX_JSON``."""
    check_size(path, MAX_JSON)
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        text = "nested too deeply" if isinstance(error, RecursionError) else error
        raise ValueError(f"{path}: not valid JSON: {text}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected a JSON object, found {type(data).__name__}")
    return data
