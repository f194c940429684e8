"""Which layout a path holds: one door to every source."""

from __future__ import annotations

import os
from pathlib import Path

from roboref_core.scene import Scene

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
) -> Scene:
    """Open a posed RGB-D sequence of any known layout.

    A ScanNet scan keeps its mesh, instances and axis alignment if their files lie beside the frames.

    Args:
        path: a `.sens` file or a folder (see ``LOOKED_FOR``).
        color_intrinsics, depth_intrinsics: fx, fy, cx, cy [pixel] for folders of image files that have none, or
            wrong ones.
        depth_unit: metres per depth count, for folders of image files.
        salvage: read what can be read of a truncated `.sens` (see SensScene).

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
    else:
        frames = _open_folder(path, overrides)
        paths = ScanNetPaths(path, path.resolve().name)
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


def _open_folder(path: Path, overrides: Overrides) -> Scene:
    if (path / "color").is_dir() and (path / "depth").is_dir():
        if (path / "pose").is_dir():
            return read_exported(path, overrides)
        if (path / "pose.txt").is_file():
            return read_slambook(path, overrides)
    for folder in (path, path / "sensor_data"):
        if next(folder.glob("frame-*.color.*"), None):
            return read_frame_files(folder, overrides)
    if all((path / name).is_file() for name in ("rgb.txt", "depth.txt", "groundtruth.txt")):
        return read_tum(path, overrides)
    sequences = sorted(p.name for p in path.glob("seq-*") if p.is_dir())
    hint = f"; it has the sequences {', '.join(sequences)}: name one" if sequences else ""
    raise ValueError(f"{path}: no known layout, looked for {'; '.join(LOOKED_FOR)}{hint}")
