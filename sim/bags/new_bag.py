"""Folders of bags that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from roboref_core.atomic import FolderInUse, sole_writer, sync_folder

_PARTIAL = ".partial"


@contextmanager
def new_bag(path: Path, purpose: str, overwrite: bool = False) -> Iterator[Path]:
    """A folder to make that becomes ``path`` when the block ends without an exception.

    It has the name of ``path`` from the beginning, since rosbag2 names the file in a folder after the folder, and is
    made in a hidden folder beside it, which one process holds at a time. What recorders left there that were killed is
    removed.

    Args:
        purpose: what is made, for the error message of a second writer.
        overwrite: replace what has that name.

    Raises ValueError if there is something of that name, FolderInUse if another process makes the same bag.
    """
    if path.exists() and not overwrite:
        raise ValueError(f"{path} exists; choose another name or overwrite it")
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path.parent)
    partial = path.with_name(f".{path.name}{_PARTIAL}")
    with sole_writer(partial, purpose):
        try:
            yield partial / path.name
            _sync(partial / path.name)
            if path.exists():
                os.rename(path, partial / "replaced")
            os.rename(partial / path.name, path)
            sync_folder(path.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _remove_abandoned(folder: Path) -> None:
    """Remove unfinished bags whose recorders are gone: a lock ends with its process, however that ends."""
    for partial in folder.glob(f".*{_PARTIAL}"):
        try:
            with sole_writer(partial, "removing an unfinished bag"):
                shutil.rmtree(partial, ignore_errors=True)
        except (FolderInUse, OSError):
            continue


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    sync_folder(folder)
