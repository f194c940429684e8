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

from offline.files import read_json, read_mask, read_picture, write_json, write_picture

SPLITS = ("train", "validation")
_NAME = re.compile(r"(?P<view>\d\d)_(?P<frame>[^_]+)_original\.png")
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
        annotation: the JSON entry as found. Its ``cx_norm``, ``cy_norm`` are no ground truth (see the mask).
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
    """One view of one object, to be written: pictures (H, W, 3) uint8 RGB, masks (H, W) bool; depth may be None."""

    frame_id: int
    original: np.ndarray
    inpainted: np.ndarray
    mask: np.ndarray
    mask_dilated: np.ndarray
    original_depth: np.ndarray | None = None
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


def write_view(folder: Path, scene_id: str, uid: int, label: str, number: int, view: ViewPictures) -> dict:
    """Write the pictures of view ``number`` (1..5) of an object; returns its entry for ``write_entries``."""
    frame_id = f"{view.frame_id:06d}"
    names = {kind: f"{number:02d}_{frame_id}_{kind}.png" for kind in ("original", "inpainted", "mask", "mask_dialated")}
    write_picture(folder / names["original"], view.original)
    write_picture(folder / names["inpainted"], view.inpainted)
    write_picture(folder / names["mask"], view.mask.astype(np.uint8) * 255)
    write_picture(folder / names["mask_dialated"], view.mask_dilated.astype(np.uint8) * 255)
    for kind, depth in (("original", view.original_depth), ("inpainted", view.inpainted_depth)):
        if depth is not None:
            write_picture(depth_path(folder / names[kind]), depth)
    return _entry(scene_id, uid, label, frame_id, view.mask, names)


def write_entries(folder: Path, scene_id: str, uid: int, entries: list[dict]) -> None:
    """Write an object's JSON, after all of its views."""
    write_json(folder / f"{scene_id}_uid_{uid}_five_frames.json", entries)


def _entry(scene_id: str, uid: int, label: str, frame_id: str, mask: np.ndarray, names: dict) -> dict:
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


def read_object(root: Path, split: str, scene_id: str, uid: int) -> list[ViewFiles]:
    """The views of one object, in order.

    Absolute paths that lead nowhere (the tree was moved) fall back to the same names beside the JSON;
    without JSON the file names say what there is, and the label is empty.

    Raises ValueError naming the file if the JSON is malformed, or an original or a mask is missing.
    """
    folder = object_folder(root, split, scene_id, uid)
    path = folder / f"{scene_id}_uid_{uid}_five_frames.json"
    entries = read_json(path) if path.is_file() else list(_entries_from_names(folder))
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{path}: expected a list of objects, found {type(entries).__name__}")
    return [_read_view(folder, path, scene_id, uid, number, entry) for number, entry in enumerate(entries, start=1)]


def _entries_from_names(folder: Path) -> Iterator[dict]:
    for path in sorted(folder.glob("*_original.png")):
        found = _NAME.fullmatch(path.name)
        if found:
            yield {"frame_id": found["frame"], "original": path.name}


def _read_view(folder: Path, source: Path, scene_id: str, uid: int, number: int, entry: dict) -> ViewFiles:
    if not isinstance(entry.get("original"), str):
        raise ValueError(f"{source}: entry {number} has no text 'original', found {sorted(entry)}")
    for key, expected in (("scene_id", scene_id), ("uid", uid)):
        if key in entry and str(entry[key]) != str(expected):
            raise ValueError(f"{source}: entry {number} has {key} {entry[key]!r}, expected {expected!r}")
    original = _resolve(folder, entry["original"])
    if original is None:
        raise ValueError(f"{source}: entry {number}: {entry['original']} is missing")

    def sibling(*kinds: str) -> Path | None:
        named = (folder / original.name.replace("_original", f"_{kind}") for kind in kinds)
        return next((path for path in named if path.is_file()), None)

    mask = _resolve(folder, entry.get("mask")) or sibling("mask")
    if mask is None:
        raise ValueError(f"{source}: entry {number}: no mask for {original.name}")
    name = _NAME.fullmatch(original.name)
    if "img_w" in entry and "img_h" in entry:
        size = (int(entry["img_w"]), int(entry["img_h"]))
    else:
        size = read_mask(mask).shape[::-1]
    return ViewFiles(
        scene_id=scene_id,
        uid=uid,
        frame_id=str(entry.get("frame_id", name["frame"] if name else number)),
        label=str(entry.get("label", "")),
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


def shrink_tree(source: Path, target: Path, factor: int = 3) -> int:
    """Write the x3 form of a tree (any factor); returns the number of objects written. Finished objects are kept."""
    count = 0
    for split in SPLITS:
        for scene_id in scenes(source, split) if (source / split).is_dir() else []:
            for uid in objects(source, split, scene_id):
                folder = object_folder(target, split, scene_id, uid)
                json_path = folder / f"{scene_id}_uid_{uid}_five_frames.json"
                if not json_path.exists():
                    _shrink_object(read_object(source, split, scene_id, uid), folder, json_path, factor)
                count += 1
    return count


def _shrink_object(views: list[ViewFiles], folder: Path, json_path: Path, factor: int) -> None:
    entries = []
    for view in views:
        names = {"original": view.original.name, "mask": view.mask.name}
        pictures = [view.original]
        if view.inpainted:
            names["inpainted"] = view.inpainted.name
            pictures.append(view.inpainted)
        for picture in pictures:
            for path in (picture, depth_path(picture)):
                if path.is_file():
                    write_picture(folder / path.name, shrink_picture(read_picture(path), factor))
        mask = shrink_mask(read_mask(view.mask), factor)
        write_picture(folder / view.mask.name, mask.astype(np.uint8) * 255)
        if view.mask_dilated:
            dilated = shrink_mask(read_mask(view.mask_dilated), factor)
            write_picture(folder / view.mask_dilated.name, dilated.astype(np.uint8) * 255)
        names.setdefault("inpainted", "")
        # A mask thinner than the factor may vanish; such a view cannot be asked for any more.
        if mask.any():
            entries.append(_entry(view.scene_id, view.uid, view.label, view.frame_id, mask, names))
    write_json(json_path, entries)
