"""The five_frames tree and its x3 form: per object up to five views, each original, inpainted and masked.

``{root}/{split}/{scene_id}/uid_{uid}/{vv}_{frame}_{original|inpainted|mask|mask_dialated}.png`` with
``{scene_id}_uid_{uid}_five_frames.json`` beside them. The published spelling "dialated" is the one written;
both are read. Paths in the JSON that are written here are file names of the same folder, so a tree can move.
Beside each picture lies its 8-bit depth picture, ``{stem}_depth.png``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from roboref_core.geometry.camera import pixel_to_normalised

from offline.data_engine.sealed_folder import Draft
from offline.files import picture_size, read_json

SPLITS = ("train", "validation")
_NAME = re.compile(r"(?P<view>\d\d)_(?P<frame>[^_]+)_original\.(png|jpg|jpeg)")
_DILATED = ("mask_dialated", "mask_dilated")


@dataclass(frozen=True)
class ViewFiles:
    """One view of one object, as it lies on disk.

    Attributes:
        scene_id, uid, frame_id, label: whose view.
        view: 1..5.
        size: (width, height) [pixel] of its pictures.
        original, inpainted, mask: paths; ``inpainted`` is None where the file is missing.
        mask_dilated: path or None.
        annotation: the JSON entry as found. Its ``cx_norm``, ``cy_norm`` are not ground truth (see the mask).
    """

    scene_id: str
    uid: int
    frame_id: str
    label: str
    view: int
    size: tuple[int, int]
    original: Path
    inpainted: Path | None
    mask: Path
    mask_dilated: Path | None
    annotation: dict


@dataclass(frozen=True)
class ViewPictures:
    """One view of one object, to be written: pictures (H, W, 3) uint8 RGB, masks (H, W) bool.

    The original and its depth picture are PNG files: all objects of a frame share them. ``inpainted`` is None where no
    picture without the object could be made; depth may be None.
    """

    frame_id: int
    original: bytes
    inpainted: np.ndarray | None
    mask: np.ndarray
    mask_dilated: np.ndarray
    original_depth: bytes | None = None
    inpainted_depth: np.ndarray | None = None


def depth_path(picture: Path) -> Path:
    """Where the depth picture of a picture lies."""
    return picture.with_name(f"{picture.stem}_depth.png")


def object_folder(root: Path, split: str, scene_id: str, uid: int) -> Path:
    return root / split / scene_id / f"uid_{uid}"


def shrink_picture(image: np.ndarray, factor: int) -> np.ndarray:
    """A picture down-sampled by ``factor`` in both axes, by area."""
    if factor == 1:
        return image
    return cv2.resize(image, _shrunk(image, factor), interpolation=cv2.INTER_AREA)


def shrink_mask(mask: np.ndarray, factor: int) -> np.ndarray:
    """A mask down-sampled by ``factor``, by nearest neighbour of pixel centres: it stays binary."""
    if factor == 1:
        return mask
    size = _shrunk(mask, factor)
    return cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT) > 0


def _shrunk(image: np.ndarray, factor: int) -> tuple[int, int]:
    if factor < 1 or min(image.shape[:2]) < factor:
        raise ValueError(f"cannot shrink a {image.shape[1]}x{image.shape[0]} picture by {factor}")
    return image.shape[1] // factor, image.shape[0] // factor


def mask_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """(u0, v0, u1, v1), ends inclusive, of mask > 0. Raises ValueError if it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        raise ValueError("mask is empty, expected at least one pixel")
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def write_view(draft: Draft, scene_id: str, uid: int, label: str, number: int, view: ViewPictures) -> dict:
    """Write the pictures of view ``number`` (1..5) of an object; returns its entry for ``write_entries``."""
    frame_id = f"{view.frame_id:06d}"
    names = {kind: f"{number:02d}_{frame_id}_{kind}.png" for kind in ("original", "inpainted", "mask", "mask_dialated")}
    folder = f"uid_{uid}"
    draft.write(f"{folder}/{names['original']}", view.original)
    if view.inpainted is not None:
        draft.picture(f"{folder}/{names['inpainted']}", view.inpainted)
    draft.picture(f"{folder}/{names['mask']}", view.mask.astype(np.uint8) * 255)
    draft.picture(f"{folder}/{names['mask_dialated']}", view.mask_dilated.astype(np.uint8) * 255)
    if view.original_depth is not None:
        draft.write(f"{folder}/{depth_path(Path(names['original'])).name}", view.original_depth)
    if view.inpainted_depth is not None:
        draft.picture(f"{folder}/{depth_path(Path(names['inpainted'])).name}", view.inpainted_depth)
    if view.inpainted is None:
        names["inpainted"] = ""
    return entry_of(scene_id, uid, label, frame_id, view.mask, names)


def write_entries(draft: Draft, scene_id: str, uid: int, entries: list[dict]) -> None:
    """Write an object's JSON."""
    draft.json(f"uid_{uid}/{scene_id}_uid_{uid}_five_frames.json", entries)


def entry_of(scene_id: str, uid: int, label: str, frame_id: str, mask: np.ndarray, names: dict) -> dict:
    """A view's entry in the JSON of its object: its files by kind, its box and centre from the mask."""
    h, w = mask.shape
    u0, v0, u1, v1 = mask_box(mask)
    cx, cy = pixel_to_normalised(np.array([(u0 + u1) / 2, (v0 + v1) / 2]), w, h)
    return {
        "scene_id": scene_id,
        "uid": uid,
        "frame_id": frame_id,
        "label": label,
        "img_w": w,
        "img_h": h,
        "x0": float(u0),
        "y0": float(v0),
        "x1": float(u1),
        "y1": float(v1),
        "cx_norm": round(float(cx), 6),
        "cy_norm": round(float(cy), 6),
        "original": names["original"],
        "inpainted": names["inpainted"],
        "mask": names["mask"],
    }


def objects(root: Path, split: str, scene_id: str) -> list[int]:
    """The uids of one scene, ascending."""
    folder = root / split / scene_id
    names = (path.name.removeprefix("uid_") for path in folder.glob("uid_*") if path.is_dir())
    return sorted(int(name) for name in names if name.isdigit())


def scenes(root: Path, split: str) -> list[str]:
    """The scenes of one split, sorted."""
    folder = root / split
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def json_path(root: Path, split: str, scene_id: str, uid: int) -> Path:
    return object_folder(root, split, scene_id, uid) / f"{scene_id}_uid_{uid}_five_frames.json"


def read_object(root: Path, split: str, scene_id: str, uid: int) -> list[ViewFiles]:
    """The views of one object, in order, see ``read_views``. Raises ValueError naming the first file that is broken."""
    views, broken = read_views(root, split, scene_id, uid)
    for name, reason in broken.items():
        raise ValueError(f"{root / split / scene_id / name}: {reason}")
    return views


def read_views(root: Path, split: str, scene_id: str, uid: int) -> tuple[list[ViewFiles], dict[str, str]]:
    """The views of one object that have their files, in order; and of the others, which file is wrong and why.

    Absolute paths that lead nowhere (the tree was moved) fall back to the same names beside the JSON;
    without a JSON that can be read the file names say what there is, and the label is empty. Sizes are the pictures'.
    """
    folder = object_folder(root, split, scene_id, uid)
    path = json_path(root, split, scene_id, uid)
    broken: dict[str, str] = {}
    entries: list = list(_entries_from_names(folder))
    if path.is_file():
        try:
            found = read_json(path)
            if not isinstance(found, list):
                raise ValueError(f"{path}: expected a list of objects, found {type(found).__name__}")
            entries = found
        except ValueError as error:
            broken[f"{folder.name}/{path.name}"] = str(error).removeprefix(f"{path}: ")
    views = []
    for number, entry in enumerate(entries, start=1):
        try:
            views.append(_read_view(folder, scene_id, uid, number, entry))
        except _Broken as error:
            broken[f"{folder.name}/{error.name or path.name}"] = f"entry {number}: {error}"
    return views, broken


class _Broken(ValueError):
    """A view whose files are not complete; ``name`` is the file to blame, empty for the JSON."""

    def __init__(self, message: str, name: str = ""):
        super().__init__(message)
        self.name = name


def _entries_from_names(folder: Path) -> Iterator[dict]:
    for path in sorted(folder.glob("*_original.*")):
        found = _NAME.fullmatch(path.name)
        if found:
            yield {"frame_id": found["frame"], "original": path.name}


def _read_view(folder: Path, scene_id: str, uid: int, number: int, entry: object) -> ViewFiles:
    if not isinstance(entry, dict):
        raise _Broken(f"expected an object, found {type(entry).__name__}")
    if not isinstance(entry.get("original"), str):
        raise _Broken(f"it has no text 'original', found {sorted(entry)}")
    for key, expected in (("scene_id", scene_id), ("uid", uid)):
        if entry.get(key) is not None and str(entry[key]) != str(expected):
            raise _Broken(f"it has {key} {entry[key]!r}, expected {expected!r}")
    original = _resolve(folder, entry["original"])
    if original is None:
        raise _Broken(f"{entry['original']} is missing", Path(entry["original"]).name)

    def sibling(*kinds: str) -> Path | None:
        stems = [original.stem.replace("_original", f"_{kind}") for kind in kinds]
        named = (folder / f"{stem}{suffix}" for stem in stems for suffix in (".png", original.suffix))
        return next((path for path in named if path.is_file() and path != original), None)

    mask = _resolve(folder, entry.get("mask")) or sibling("mask")
    if mask is None:
        raise _Broken(f"no mask for {original.name}", original.name.replace("_original", "_mask"))
    name = _NAME.fullmatch(original.name)
    try:
        size = picture_size(original)
    except ValueError as error:
        raise _Broken(str(error).removeprefix(f"{original}: "), original.name) from error
    frame_id, label = entry.get("frame_id"), entry.get("label")
    if frame_id is None or (name and isinstance(frame_id, int)):
        # A number has lost its leading zeros; the file's name has them.
        frame_id = name["frame"] if name else number
    return ViewFiles(
        scene_id=scene_id,
        uid=uid,
        frame_id=str(frame_id),
        label=label if isinstance(label, str) else "",
        view=int(name["view"]) if name else number,
        size=size,
        original=original,
        inpainted=_resolve(folder, entry.get("inpainted")) or sibling("inpainted"),
        mask=mask,
        mask_dilated=sibling(*_DILATED),
        annotation=entry,
    )


def _resolve(folder: Path, name: str | None) -> Path | None:
    if not isinstance(name, str) or not name:
        return None
    path = Path(name)
    for candidate in (path if path.is_absolute() else folder / path, folder / path.name):
        if candidate.is_file():
            return candidate
    return None
