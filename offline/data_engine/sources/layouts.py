"""Layouts of folders of posed RGB-D frames: ScanNet exports, 7-Scenes, TUM, slambook."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np

from offline.data_engine.sources.damaged import read_text
from offline.data_engine.sources.posed_folder import PosedFolder, camera_for
from offline.data_engine.sources.trajectory import nearest, pose_at, pose_of

COLOR_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm")
DEPTH_SUFFIXES = (".png", ".pgm")
MILLIMETRE = 0.001
SEVEN_SCENES_INVALID_DEPTH = 65535
TUM_DEPTH_UNIT = 1 / 5000
# Limit of the TUM benchmark's own association script.
_TUM_MAX_DIFFERENCE_NS = 20_000_000


@dataclass(frozen=True)
class Overrides:
    """What a folder does not say of itself, or says wrongly.

    Attributes:
        color_intrinsics, depth_intrinsics: fx, fy, cx, cy [pixel]; instead of the folder's own. A folder that gives
            one set for both images may be given another for one of them.
        depth_unit: metres per count of the depth images.
    """

    color_intrinsics: tuple[float, float, float, float] | None = None
    depth_intrinsics: tuple[float, float, float, float] | None = None
    depth_unit: float | None = None


def read_exported(folder: Path, overrides: Overrides) -> PosedFolder:
    """ScanNet's export: color/<i>.jpg, depth/<i>.png, pose/<i>.txt, intrinsic/intrinsic_{color,depth}.txt.

    Also ScanNet's scannet_frames_25k, which has color/<i>.jpg to six digits and intrinsics_{color,depth}.txt. Depth is
    in millimetres. Lost frames have poses printed as -inf.
    """
    intrinsic = next((folder / name for name in ("intrinsic", "intrinsics") if (folder / name).is_dir()), folder)
    poses = _numbered(folder / "pose", (".txt",))
    color, depth = _numbered(folder / "color", COLOR_SUFFIXES), _numbered(folder / "depth", DEPTH_SUFFIXES)
    given = {"color": overrides.color_intrinsics, "depth": overrides.depth_intrinsics}
    files = {what: [intrinsic / f"intrinsic_{what}.txt", folder / f"intrinsics_{what}.txt"] for what in given}
    _refuse_without_intrinsics(folder, given, files)
    return _build(
        folder,
        color,
        depth,
        poses,
        _intrinsics(given["color"], files["color"], "color"),
        _intrinsics(given["depth"], files["depth"], "depth"),
        depth_unit=overrides.depth_unit or MILLIMETRE,
    )


def read_frame_files(folder: Path, overrides: Overrides) -> PosedFolder:
    """7-Scenes, BundleFusion and ScanNet's C++ export: frame-000000.{color.jpg,depth.png,pose.txt}.

    Intrinsics come from ``_info.txt``, from ``{color,depth}-intrinsics.txt`` or from ``camera-intrinsics.txt`` (3x3,
    for both). Depth is in millimetres unless ``_info.txt`` says otherwise, 65535 is invalid (7-Scenes).
    """
    info_path = folder / "_info.txt"
    info = _read_info(info_path) if info_path.is_file() else {}
    cameras = {}
    for what, given in (("color", overrides.color_intrinsics), ("depth", overrides.depth_intrinsics)):
        text = info.get(f"m_calibration{what.capitalize()}Intrinsic")
        if given is None and text is not None:
            cameras[what] = _matrix(text, f"{info_path}: {what} intrinsics"), str(info_path)
        else:
            files = [folder / f"{what}-intrinsics.txt", folder / "camera-intrinsics.txt"]
            cameras[what] = _intrinsics(given, files, what)
    return _build(
        folder,
        _numbered(folder, tuple(f".color{suffix}" for suffix in COLOR_SUFFIXES)),
        _numbered(folder, tuple(f".depth{suffix}" for suffix in DEPTH_SUFFIXES)),
        _numbered(folder, (".pose.txt",)),
        cameras["color"],
        cameras["depth"],
        depth_unit=overrides.depth_unit or 1 / float(info.get("m_depthShift", 1000)),
        invalid_depth=SEVEN_SCENES_INVALID_DEPTH,
    )


def read_slambook(folder: Path, overrides: Overrides) -> PosedFolder:
    """slambook: color/<k>.png, depth/<k>.pgm, and pose.txt whose lines are x y z qx qy qz qw, in order of k.

    Depth is in millimetres. Intrinsics come from ``camera-intrinsics.txt`` or ``overrides``.
    """
    color, depth = _numbered(folder / "color", COLOR_SUFFIXES), _numbered(folder / "depth", DEPTH_SUFFIXES)
    rows = _table(folder / "pose.txt", 7)
    if len(rows) != len(color):
        raise ValueError(f"{folder / 'pose.txt'}: {len(rows)} poses for {len(color)} images in {folder / 'color'}")
    poses = {frame: pose_of(row) for frame, row in zip(color, rows, strict=True)}
    files = [folder / "camera-intrinsics.txt"]
    return _build(
        folder,
        color,
        depth,
        poses,
        _intrinsics(overrides.color_intrinsics, files, "color"),
        _intrinsics(overrides.depth_intrinsics or overrides.color_intrinsics, files, "depth"),
        depth_unit=overrides.depth_unit or MILLIMETRE,
    )


def read_tum(folder: Path, overrides: Overrides) -> PosedFolder:
    """TUM RGB-D: rgb.txt and depth.txt (stamp, file), groundtruth.txt (stamp, x y z qx qy qz qw); 5000 counts/m.

    A colour image is paired with the depth image nearest in time, at most 20 ms away, as TUM's own tool does; its
    pose is interpolated between the ground-truth samples around it. Images without a partner are counted as
    "unpaired_frames". Frames are numbered as rgb.txt lists them. Depth is registered to colour, so one set of
    intrinsics serves both; they come from ``camera-intrinsics.txt`` or ``overrides``.
    """
    color_times, color_names = _file_list(folder / "rgb.txt")
    depth_times, depth_names = _file_list(folder / "depth.txt")
    truth = _table(folder / "groundtruth.txt", 8)
    # A sample without a unit quaternion is not a pose; the gap it leaves decides whether frames there are lost.
    truth = truth[np.abs(np.linalg.norm(truth[:, 4:], axis=1) - 1) < 0.01]
    truth = truth[np.argsort(truth[:, 0], kind="stable")]
    partner = nearest(depth_times, color_times)
    paired = np.abs(depth_times[partner] - color_times) <= _TUM_MAX_DIFFERENCE_NS
    keep = np.flatnonzero(paired)
    files = [folder / "camera-intrinsics.txt"]
    defects = {"unpaired_frames": int((~paired).sum())} if not paired.all() else {}
    return _build(
        folder,
        {int(i): folder / color_names[i] for i in keep},
        {int(i): folder / depth_names[partner[i]] for i in keep},
        {int(i): pose_at(truth, color_times[i] * 1e-9) for i in keep},
        _intrinsics(overrides.color_intrinsics, files, "color"),
        _intrinsics(overrides.depth_intrinsics or overrides.color_intrinsics, files, "depth"),
        depth_unit=overrides.depth_unit or TUM_DEPTH_UNIT,
        stamps_ns={int(i): int(color_times[i]) for i in keep},
        defects=defects,
    )


def _build(
    folder: Path,
    color: dict[int, Path],
    depth: dict[int, Path],
    poses: Mapping[int, Path | np.ndarray],
    color_K: tuple[np.ndarray, str],
    depth_K: tuple[np.ndarray, str],
    *,
    stamps_ns: dict[int, int] | None = None,
    defects: dict[str, int] | None = None,
    **options,
) -> PosedFolder:
    frames = sorted(color.keys() & depth.keys())
    if not frames:
        raise ValueError(f"{folder}: no frame has both a colour and a depth image")
    incomplete = len(color.keys() ^ depth.keys())
    if incomplete:
        defects = {**(defects or {}), "incomplete_frames": incomplete}
    raw = np.full((len(frames), 4, 4), -np.inf)
    for i, frame in enumerate(frames):
        given = poses.get(frame)
        if isinstance(given, Path):
            raw[i] = _read_pose(given)
        elif given is not None:
            raw[i] = given
    return PosedFolder(
        folder.resolve().name,
        frames,
        [color[f] for f in frames],
        [depth[f] for f in frames],
        raw,
        camera_for([color[f] for f in frames], *color_K),
        camera_for([depth[f] for f in frames], *depth_K),
        stamps_ns=None if stamps_ns is None else np.array([stamps_ns[f] for f in frames], dtype=np.int64),
        defects=defects,
        **options,
    )


def _numbered(folder: Path, suffixes: tuple[str, ...]) -> dict[int, Path]:
    """Frame number -> file, ascending, of names "12.jpg" or "frame-000012.color.jpg"."""
    pattern = re.compile(rf"(?:frame-)?(\d+)(?:{'|'.join(map(re.escape, suffixes))})")
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        match = pattern.fullmatch(path.name)
        if match:
            number = int(match[1])
            if number in found:
                raise ValueError(f"{folder}: {found[number].name} and {path.name} are both frame {number}")
            found[number] = path
    return dict(sorted(found.items()))


def _read_pose(path: Path) -> np.ndarray:
    """4x4 of a text file; all ones, which fails the test for rigid motions, if the text is not a 4x4 matrix."""
    try:
        values = np.array(read_text(path).split(), dtype=np.float64)
    except ValueError:
        values = np.empty(0)
    return values.reshape(4, 4) if values.size == 16 else np.ones((4, 4))


def _intrinsics(given: tuple[float, ...] | None, files: list[Path], what: str) -> tuple[np.ndarray, str]:
    """K and where it came from."""
    if given is not None:
        fx, fy, cx, cy = given
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]), f"{what} intrinsics given"
    for path in files:
        if path.is_file():
            return _matrix(read_text(path), str(path)), str(path)
    raise ValueError(
        f"no {what} intrinsics: looked for {', '.join(map(str, files))}; give fx fy cx cy as {what}_intrinsics"
    )


def _refuse_without_intrinsics(folder: Path, given: Mapping[str, object], files: Mapping[str, list[Path]]) -> None:
    """Raise ValueError that names both cameras if both have no intrinsics; of one, ``_intrinsics`` says it."""
    lacking = [what for what in files if given[what] is None and not any(path.is_file() for path in files[what])]
    if len(lacking) > 1:
        names = ", ".join(sorted({path.relative_to(folder).as_posix() for what in lacking for path in files[what]}))
        keys = " and ".join(f"{what}_intrinsics" for what in lacking)
        raise ValueError(f"{folder}: no intrinsics of {' and '.join(lacking)}: looked for {names}; give {keys}")


def _matrix(text: str, where: str) -> np.ndarray:
    try:
        values = np.array(text.split(), dtype=np.float64)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if values.size not in (9, 16):
        raise ValueError(f"{where}: expected a 3x3 or 4x4 matrix, found {values.size} numbers")
    side = 3 if values.size == 9 else 4
    return values.reshape(side, side)


def _read_info(path: Path) -> dict[str, str]:
    pairs = (line.partition("=") for line in read_text(path).splitlines())
    return {key.strip(): value.strip() for key, separator, value in pairs if separator}


def _table(path: Path, columns: int) -> np.ndarray:
    """(N, columns) float64 of a text file with # comments; ValueError naming file and line."""
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        fields = line.partition("#")[0].split()
        if not fields:
            continue
        try:
            rows.append([float(field) for field in fields])
        except ValueError as error:
            raise ValueError(f"{path} line {number}: {error}") from error
        if len(fields) != columns:
            raise ValueError(f"{path} line {number}: expected {columns} numbers, found {len(fields)}")
    if not rows:
        raise ValueError(f"{path}: empty")
    return np.array(rows)


_MAX_STAMP = 2**63 // 10**9
"""Seconds whose nanoseconds 64 bits hold."""


def _file_list(path: Path) -> tuple[np.ndarray, list[str]]:
    """(N,) int64 stamps [ns] and file names of a TUM list, sorted by stamp."""
    entries = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        fields = line.partition("#")[0].split()
        if not fields:
            continue
        try:
            text, name = fields
            # Through Decimal: a double holds seconds since 1970 to 0.2 us only.
            stamp = Decimal(text)
            if not abs(stamp) < _MAX_STAMP:
                raise ValueError("out of range")
            entries.append((int(stamp * 10**9), name))
        except (ValueError, ArithmeticError) as error:
            raise ValueError(f"{path} line {number}: expected a stamp and a file, found {line!r}") from error
    if not entries:
        raise ValueError(f"{path}: empty")
    entries.sort()
    return np.array([stamp for stamp, _ in entries], dtype=np.int64), [name for _, name in entries]
