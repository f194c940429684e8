"""Checkpoints of a run: whole or not there.

A checkpoint is written under another name, then gets ``complete.json`` with the size of each of its files, is synced
and renamed to ``checkpoint-N``. A folder without that file, or whose files differ from it, is never resumed from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from roboref_core.atomic import sync_folder, write_json

from offline.files import read_json

MANIFEST, POSITION, PLAN = "complete.json", "position.json", "plan.yaml"
PARTIAL = ".partial"
_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True)
class Position:
    """Where a run stands.

    Attributes:
        step: optimizer steps done.
        stage: index of the stage that the next step belongs to.
        consumed: samples of that stage consumed.
        until: end of each stage.
        world: ranks that wrote the checkpoint.
    """

    step: int
    stage: int
    consumed: int
    until: tuple[int, ...]
    world: int = 1

    def after(self, batch: int) -> Position:
        """One step of ``batch`` samples later."""
        step = self.step + 1
        if step >= self.until[self.stage]:
            return Position(step, self.stage + 1, 0, self.until, self.world)
        return Position(step, self.stage, self.consumed + batch, self.until, self.world)


def write_position(folder: Path, position: Position) -> None:
    write_json(folder / POSITION, asdict(position))


def read_position(folder: Path) -> Position:
    raw = read_json(folder / POSITION)
    return Position(**{**raw, "until": tuple(raw["until"])})


def seal(partial: Path, target: Path) -> None:
    """Makes a written folder a checkpoint: manifest, sync, rename."""
    files = {str(file.relative_to(partial)): file.stat().st_size for file in sorted(_files(partial))}
    write_json(partial / MANIFEST, {"files": files})
    sync_tree(partial)
    partial.rename(target)
    sync_folder(target.parent)


def defect(folder: Path) -> str | None:
    """Why a checkpoint cannot be resumed from; None if it can."""
    if not (folder / MANIFEST).is_file():
        return f"no {MANIFEST}: it was not written to its end"
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
    except (ValueError, KeyError, TypeError):
        return f"{MANIFEST} is damaged"
    for name, size in files.items():
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes, was written with {size}"
    return None


def find(run: Path) -> list[Path]:
    """Whole checkpoints of a run, oldest first."""
    return [folder for folder in found(run) if defect(folder) is None]


def found(run: Path) -> list[Path]:
    """Everything that is called a checkpoint, oldest first."""
    if not run.is_dir():
        return []
    named = {int(match[1]): path for path in run.iterdir() if (match := _NAME.fullmatch(path.name))}
    return [named[step] for step in sorted(named)]


def sync_tree(folder: Path) -> None:
    """Everything in a folder to the disk."""
    for path in sorted(folder.rglob("*")):
        sync_folder(path)
    sync_folder(folder)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
