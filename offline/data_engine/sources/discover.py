"""Which layout a path holds: one door to every source."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from roboref_core.scene import Scene

from offline.data_engine.sources.arkitscenes import ArkitScenesScene, frames_folder
from offline.data_engine.sources.arkitscenes import annotated_labels as box_labels
from offline.data_engine.sources.instances import annotated_labels as segment_labels
from offline.data_engine.sources.layouts import (
    Overrides,
    read_exported,
    read_frame_files,
    read_slambook,
    read_tum,
)
from offline.data_engine.sources.scannet import ScanNetPaths, ScanNetScene
from offline.data_engine.sources.scannetpp import ScanNetPPScene
from offline.data_engine.sources.sens import SensScene

LOOKED_FOR = (
    "<name>.sens (ScanNet)",
    "color/ depth/ pose/ with intrinsic/ (ScanNet export)",
    "iphone/ and scans/ (ScanNet++)",
    "lowres_wide.traj (ARKitScenes)",
    "frame-000000.color.*, .depth.*, .pose.txt (7-Scenes, BundleFusion)",
    "rgb.txt depth.txt groundtruth.txt (TUM RGB-D)",
    "color/ depth/ pose.txt (slambook)",
)


def open_scene(
    path: str | os.PathLike,
    *,
    color_intrinsics: tuple[float, float, float, float] | None = None,
    depth_intrinsics: tuple[float, float, float, float] | None = None,
    depth_unit: float | None = None,
    salvage: bool = False,
    annotations: Path | None = None,
) -> Scene:
    """Open a posed RGB-D sequence of any known layout.

    A ScanNet scan keeps its mesh, instances and axis alignment if their files lie beside the frames.

    Args:
        path: a `.sens` file or a folder (see ``LOOKED_FOR``).
        color_intrinsics, depth_intrinsics: fx, fy, cx, cy [pixel] for folders of image files that have none, or
            wrong ones.
        depth_unit: metres per depth count, for folders of image files.
        salvage: read what can be read of a truncated `.sens` (see SensScene).
        annotations: folder with ScanNet's mesh and annotation of the scan, where they do not lie beside the frames.

    Raises:
        ValueError: no known layout, or its files are damaged; the text says what was looked for or is wrong.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    overrides = Overrides(color_intrinsics, depth_intrinsics, depth_unit)
    sens = _sens_file(path)
    if sens is not None:
        if overrides != Overrides():
            raise ValueError(f"{sens}: a .sens file has its own intrinsics and depth unit; none can be given")
        frames: Scene = SensScene(sens, salvage=salvage)
        paths = ScanNetPaths(sens.parent, sens.stem)
    elif (path / "iphone").is_dir():
        if overrides != Overrides():
            raise ValueError(f"{path}: ScanNet++ has its own intrinsics and depth unit; none can be given")
        return ScanNetPPScene(path)
    elif frames_folder(path) is not None:
        if overrides != Overrides():
            raise ValueError(f"{path}: ARKitScenes has its own intrinsics and depth unit; none can be given")
        return ArkitScenesScene(path)
    else:
        frames = _open_folder(path, overrides)
        paths = ScanNetPaths(path, path.resolve().name)
    if annotations is not None:
        paths = ScanNetPaths(annotations, paths.scene_id)
    return ScanNetScene(frames, paths) if paths.has_annotations else frames


def _sens_file(path: Path) -> Path | None:
    if path.is_file():
        if path.suffix != ".sens":
            raise ValueError(f"{path}: expected a .sens file or a folder with {'; '.join(LOOKED_FOR)}")
        return path
    own = path / f"{path.resolve().name}.sens"
    found = [own] if own.is_file() else sorted(path.glob("*.sens"))
    if len(found) > 1:
        raise ValueError(f"{path}: {len(found)} .sens files ({found[0].name}, {found[1].name}, ...): name one")
    return found[0] if found else None


def is_scan(path: Path) -> bool:
    """Does a path hold one sequence of a known layout? Nothing is read but names."""
    if path.is_file():
        return path.suffix == ".sens"
    if (path / f"{path.resolve().name}.sens").is_file() or (path / "iphone").is_dir():
        return True
    return frames_folder(path) is not None or _folder_layout(path) is not None


def annotated_labels(path: Path, annotations: Path | None = None) -> set[str]:
    """The labels of a scan's objects; empty where it has no annotation that can be read."""
    folder, name = (path.parent, path.stem) if path.is_file() else (path, path.resolve().name)
    own = ScanNetPaths(annotations or folder, name).aggregation
    found: set[str] = set()
    with contextlib.suppress(ValueError, OSError):
        if own.is_file():
            found = segment_labels(own)
        elif (folder / "scans" / "segments_anno.json").is_file():
            found = segment_labels(folder / "scans" / "segments_anno.json")
        elif (folder / f"{name}_3dod_annotation.json").is_file():
            found = box_labels(folder / f"{name}_3dod_annotation.json")
    return found


def _folder_layout(path: Path) -> Callable[[Path, Overrides], Scene] | None:
    """The reader of a folder of image files, None if its layout is not known."""
    if (path / "color").is_dir() and (path / "depth").is_dir():
        if (path / "pose").is_dir():
            return read_exported
        if (path / "pose.txt").is_file():
            return read_slambook
    for inner in ("", "sensor_data"):
        if next((path / inner).glob("frame-*.color.*"), None):
            return lambda folder, overrides: read_frame_files(folder / inner, overrides)
    if all((path / name).is_file() for name in ("rgb.txt", "depth.txt", "groundtruth.txt")):
        return read_tum
    return None


def _open_folder(path: Path, overrides: Overrides) -> Scene:
    read = _folder_layout(path)
    if read is not None:
        return read(path, overrides)
    sequences = sorted(p.name for p in path.glob("seq-*") if p.is_dir())
    hint = f"; it has the sequences {', '.join(sequences)}: name one" if sequences else ""
    raise ValueError(f"{path}: no known layout, looked for {'; '.join(LOOKED_FOR)}{hint}")
