"""Locks that a killed process left in PyTorch's extension cache.

DeepSpeed compiles some operations when they are first used. PyTorch guards each with a file named ``lock`` in the
extension's folder (``torch.utils.file_baton``), which nobody removes when the process that made it is killed: every
later run would wait for it for ever.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from torch.utils.cpp_extension import get_default_build_root

COMPILED_AFTER = 600.0
"""No operation takes longer to compile [s]; another machine that shares the cache may hold a younger lock."""


def free_abandoned(root: Path | None = None, patience: float = COMPILED_AFTER) -> list[Path]:
    """Removes locks that no process of this machine holds open, once they are ``patience`` seconds old.

    Waits for younger ones to be released or to become as old. A lock held open here is left alone.

    Args:
        root: of the cache; by default PyTorch's own, which TORCH_EXTENSIONS_DIR may name.
    Returns:
        what was removed.
    """
    root = root or Path(os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root())
    removed = []
    for lock in sorted(root.rglob("lock")):
        if _age(lock) < patience and not is_open(lock):
            print(f"{lock}: waiting for another machine to compile, {patience / 60:.0f} min at most", file=sys.stderr)
        while 0 <= _age(lock) < patience and not is_open(lock):
            time.sleep(0.5)
        if lock.exists() and not is_open(lock):
            lock.unlink(missing_ok=True)
            print(f"{lock}: removed; a process that was killed while it compiled had left it", file=sys.stderr)
            removed.append(lock)
    return removed


def is_open(file: Path) -> bool:
    """Whether some process of this machine whose descriptors we may read has a file open."""
    target = file.resolve()
    return any(_leads_to(link, target) for link in _descriptors())


def _descriptors() -> Iterator[Path]:
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                yield from (process / "fd").iterdir()
            except OSError:  # another user's, or gone
                continue


def _leads_to(link: Path, target: Path) -> bool:
    try:
        return link.readlink() == target
    except OSError:
        return False


def _age(file: Path) -> float:
    """Seconds since a file was made; -1 if it is gone."""
    try:
        return max(0.0, time.time() - file.stat().st_mtime)
    except OSError:
        return -1.0
