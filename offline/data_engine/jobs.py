"""What there is to do: the scenes of a folder of scans or of a five_frames tree, and how shards share them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from offline.data_engine import five_frames
from offline.data_engine.five_frames import SPLITS
from offline.data_engine.sources.discover import is_scan
from offline.data_engine.splits import Assignment

_DEPTH = 3
"""Scans are looked for in folders of folders this deep: ARKitScenes/3dod/Training/<video>."""
_SPLIT_FOLDERS = {"train": "train", "training": "train", "val": "validation", "validation": "validation"}
"""Folders of scans that say which split they are."""
_TEST_FOLDERS = {"test", "testing", "scans_test"}


@dataclass(frozen=True)
class SceneJob:
    """One scene of a run.

    Attributes:
        scene_id: name of its folder or ``.sens`` file.
        path: of its source.
        split: "train" or "validation".
        size: bytes of the source, for the order of work.
    """

    scene_id: str
    path: Path
    split: str
    size: int


@dataclass(frozen=True)
class FoundScans:
    """The scans of a folder.

    Attributes:
        paths: scene id -> its folder or ``.sens`` file.
        stated: scene id -> split, of scans in a folder that is called after one (ARKitScenes' Training, Validation).
        notes: what was left out, and why.
    """

    paths: dict[str, Path]
    stated: dict[str, str]
    notes: tuple[str, ...]


def find_scans(source: Path) -> FoundScans:
    """The scans of a folder: each subfolder or ``.sens`` file in it, or the folder itself.

    A subfolder that is no scan but holds some (``scans/``, ``data/``, ``Training/``) is looked through. Any other
    subfolder counts as a scan too, so that a damaged one fails by its name.

    Raises:
        ValueError: nothing is there, or two scans have one name.
    """
    source = Path(source)
    if not source.exists():
        raise ValueError(f"{source}: no such file or folder")
    paths: dict[str, Path] = {}
    stated: dict[str, str] = {}
    notes: list[str] = []
    for path, split in _scans_below(source, "", notes):
        name = path.stem if path.suffix == ".sens" else path.resolve().name
        if name in paths:
            raise ValueError(f"{paths[name]} and {path} are both called {name}; build them one after the other")
        paths[name] = path
        if split:
            stated[name] = split
    return FoundScans(paths, stated, tuple(notes))


def _scans_below(folder: Path, split: str, notes: list[str], depth: int = _DEPTH) -> Iterator[tuple[Path, str]]:
    if is_scan(folder):
        yield folder, split
        return
    for child in sorted(folder.iterdir()) if folder.is_dir() else ():
        if child.name.startswith(".") or not (child.is_dir() or child.suffix == ".sens"):
            continue
        if is_scan(child) or not _holds_scans(child, depth - 1):
            yield child, split
        elif child.name.lower() in _TEST_FOLDERS:
            notes.append(f"{child}: not used, test scans have no annotation")
        else:
            yield from _scans_below(child, _SPLIT_FOLDERS.get(child.name.lower(), split), notes, depth - 1)


def _holds_scans(folder: Path, depth: int) -> bool:
    if depth < 0 or not folder.is_dir():
        return False
    children = [child for child in sorted(folder.iterdir()) if child.is_dir() or child.suffix == ".sens"]
    return any(is_scan(child) for child in children) or any(_holds_scans(child, depth - 1) for child in children)


def find_jobs(
    source: Path, splits: Callable[[list[str]], Assignment], use_stated: bool = True
) -> tuple[tuple[SceneJob, ...], tuple[str, ...]]:
    """The scenes of a folder, and what a person should know of what was left out.

    Args:
        source: a folder of scans, or one scan.
        splits: assigns scene ids to splits; scenes that it leaves out are not built.
        use_stated: folders called Training and Validation decide for their scans.

    Raises:
        ValueError: no scenes.
    """
    found = find_scans(source)
    stated = found.stated if use_stated else {}
    unstated = sorted(found.paths.keys() - stated.keys())
    assignment = splits(unstated) if unstated or not stated else Assignment({})
    assigned = {**assignment.splits, **stated}
    notes = found.notes + assignment.notes
    jobs = tuple(
        SceneJob(name, found.paths[name], split, _size(found.paths[name])) for name, split in sorted(assigned.items())
    )
    if not jobs:
        said = f": {'; '.join(notes)}" if notes else ""
        raise ValueError(
            f"{source}: no scenes of the wanted splits, found {len(found.paths)} folders or .sens files{said}"
        )
    return jobs, notes


def tree_jobs(tree: Path) -> tuple[SceneJob, ...]:
    """The scenes of a five_frames tree. Raises ValueError if there are none."""
    jobs = tuple(
        SceneJob(scene_id, tree / split / scene_id, split, len(five_frames.objects(tree, split, scene_id)))
        for split in SPLITS
        if (tree / split).is_dir()
        for scene_id in five_frames.scenes(tree, split)
    )
    if not jobs:
        raise ValueError(f"{tree}: no scenes, expected {tree / SPLITS[0]}/<scene>/uid_<n>/")
    return jobs


def notes_on_tree(tree: Path) -> list[str]:
    """One line for each split that a tree lacks, and each folder that looks like a split and is not read."""
    ignored = [
        f"{folder}: not read, splits are called {' and '.join(SPLITS)}"
        for folder in sorted(tree.iterdir())
        if folder.is_dir() and folder.name not in SPLITS and next(folder.glob("*/uid_*"), None) is not None
    ]
    missing = [f"{tree / split}: missing, no samples of this split" for split in SPLITS if not (tree / split).is_dir()]
    return ignored + missing


def shard_of(jobs: Iterable[SceneJob], index: int, count: int) -> list[SceneJob]:
    """The jobs of shard ``index`` of ``count``, largest first: sizes are dealt out like cards.

    Raises ValueError unless 0 <= index < count.
    """
    if not 0 <= index < count:
        raise ValueError(f"shard {index}/{count}: the index must lie in 0..{count - 1}")
    return sorted(jobs, key=lambda job: (-job.size, job.scene_id))[index::count]


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
