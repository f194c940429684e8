"""A folder that appears whole, with a list of its files, so that a later run can tell whether it still is whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from roboref_core.atomic import replacing_folder

from offline.files import encode_picture, json_bytes, read_json

SEAL = "files.json"
"""Lists every other file of the folder: name -> [bytes, SHA-256]."""


class Draft:
    """A folder that is being written, and the sizes and hashes of what was written.

    Args:
        folder: where the files lie for now; it is made if it does not exist.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._files: dict[str, tuple[int, str]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def write(self, name: str, data: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self._files[name] = (len(data), hashlib.sha256(data).hexdigest())

    def picture(self, name: str, image: np.ndarray) -> None:
        """Write (H, W, 3) uint8 RGB, or (H, W) uint8 or uint16, as .png or .jpg."""
        self.write(name, encode_picture(Path(name).suffix, image))

    def json(self, name: str, value: Any) -> None:
        self.write(name, json_bytes(value))

    def seal(self) -> None:
        """Write the list of files; nothing is to be written after it."""
        (self.folder / SEAL).write_bytes(json_bytes(self._files))


@contextmanager
def sealed_folder(path: Path) -> Iterator[Draft]:
    """A draft that takes the name ``path``, sealed, when the block ends without an exception.

    It is written under a name of its own; what stood at ``path`` is replaced.
    """
    with replacing_folder(path) as folder:
        draft = Draft(folder)
        yield draft
        draft.seal()


def broken_files(path: Path, read_all: bool = False) -> list[str]:
    """What is wrong with a sealed folder, one line per file; empty if it is as it was written.

    Sizes are always compared, hashes of those files that changed after the seal was written (a copy without its times
    is read once), or of all.
    """
    if not (path / SEAL).is_file():
        return [f"{path / SEAL} is missing"]
    try:
        files = read_json(path / SEAL)
        expected = {str(name): (int(size), str(digest)) for name, (size, digest) in files.items()}
    except (ValueError, TypeError, AttributeError) as error:
        return [f"{path / SEAL} is not a list of files ({error})"]
    sealed_at = (path / SEAL).stat().st_mtime_ns
    found, looked_at = [], False
    for name, (size, digest) in expected.items():
        try:
            facts = os.stat(path / name)
            changed = facts.st_mtime_ns > sealed_at
            if facts.st_size != size:
                found.append(f"{path / name}: {facts.st_size} bytes, expected {size}")
            elif changed or read_all:
                looked_at |= changed
                if hashlib.sha256((path / name).read_bytes()).hexdigest() != digest:
                    found.append(f"{path / name}: its content has changed")
        except OSError as error:
            found.append(f"{path / name}: {error.strerror}")
    if looked_at and not found:
        os.utime(path / SEAL)
    return found


def seal_digest(path: Path) -> str:
    """A hash of the whole content of a sealed folder, from its list of files."""
    return hashlib.sha256((path / SEAL).read_bytes()).hexdigest()
