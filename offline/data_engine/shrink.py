"""The x3 form of a five_frames tree: the same tree, smaller by a factor in both axes, with all that ours keeps.

Pictures are averaged over areas, masks taken by nearest neighbour so that they stay binary. A scene's facts, whole
frames and referring masks are shrunk with it, so that tasks made of the small tree are those of the large one.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
from roboref_core.atomic import sole_writer

from offline.data_engine.five_frames import (
    SPLITS,
    ViewFiles,
    depth_path,
    entry_of,
    objects,
    read_views,
    scenes,
    shrink_mask,
    shrink_picture,
    write_entries,
)
from offline.data_engine.sealed_folder import Draft, broken_files, sealed_folder
from offline.data_engine.tree_survey import fingerprint
from offline.data_engine.workers import stopped_by_signals
from offline.files import read_json, read_mask, read_picture

_ORIGIN = "shrunk.json"
"""In each scene's folder: by which factor it was shrunk, and from what."""


def shrink_tree(source: Path, target: Path, factor: int = 3) -> tuple[int, dict[str, str]]:
    """Write the smaller tree; scenes that are there, whole, and of the same source are kept.

    Returns:
        The number of objects, and of the views that could not be read, which file is wrong and why.
    Raises:
        ValueError: the target was shrunk by another factor; or it is being written by another process.
    """
    count, broken = 0, {}
    with stopped_by_signals(), sole_writer(target, "roboref data shrink"):
        found = [
            (split, scene_id) for split in SPLITS if (source / split).is_dir() for scene_id in scenes(source, split)
        ]
        for split, scene_id in found:
            _refuse_other_factor(target / split / scene_id, factor)
        for split, scene_id in found:
            origin = {"factor": factor, "source": fingerprint(source, split, scene_id)}
            folder = target / split / scene_id
            if not (_is_of(folder, origin) and not broken_files(folder)):
                with sealed_folder(folder) as draft:
                    broken.update(_shrink_scene(source, split, scene_id, draft, factor))
                    draft.json(_ORIGIN, origin)
            count += len(objects(target, split, scene_id))
    return count, broken


def _refuse_other_factor(folder: Path, factor: int) -> None:
    if (folder / _ORIGIN).is_file():
        found = read_json(folder / _ORIGIN).get("factor")
        if found != factor:
            raise ValueError(f"{folder} was shrunk by {found}, now {factor}: choose another target")


def _is_of(folder: Path, origin: dict[str, Any]) -> bool:
    return (folder / _ORIGIN).is_file() and read_json(folder / _ORIGIN) == origin


def _shrink_scene(source: Path, split: str, scene_id: str, draft: Draft, factor: int) -> dict[str, str]:
    folder, broken = source / split / scene_id, {}
    for uid in objects(source, split, scene_id):
        views, reasons = read_views(source, split, scene_id, uid)
        broken.update({f"{scene_id}/{name}": reason for name, reason in reasons.items()})
        entries = []
        for view in views:
            try:
                entry = _shrink_view(view, draft, factor)
            except ValueError as error:
                broken[f"{scene_id}/uid_{uid}/{view.original.name}"] = str(error)
                continue
            if entry is not None:
                entries.append(entry)
        write_entries(draft, scene_id, uid, entries)
    if (folder / "scene.json").is_file():
        draft.json("scene.json", _shrink_facts(folder, read_json(folder / "scene.json"), draft, factor))
    return broken


def _shrink_view(view: ViewFiles, draft: Draft, factor: int) -> dict | None:
    """Write the smaller pictures of a view; None if nothing is left of its mask, which cannot be asked for any more."""
    mask = shrink_mask(read_mask(view.mask), factor)
    if not mask.any():
        return None
    folder = f"uid_{view.uid}"
    names = {"original": f"{view.original.stem}.png", "mask": f"{view.mask.stem}.png", "inpainted": ""}
    pictures = {"original": view.original}
    if view.inpainted is not None:
        names["inpainted"] = f"{view.inpainted.stem}.png"
        pictures["inpainted"] = view.inpainted
    shrunk = {kind: shrink_picture(read_picture(path), factor) for kind, path in pictures.items()}
    for kind, picture in shrunk.items():
        draft.picture(f"{folder}/{names[kind]}", picture)
        depth = depth_path(pictures[kind])
        if depth.is_file():
            draft.picture(f"{folder}/{depth.name}", shrink_picture(read_picture(depth), factor))
    draft.picture(f"{folder}/{names['mask']}", mask.astype(np.uint8) * 255)
    if view.mask_dilated is not None:
        dilated = shrink_mask(read_mask(view.mask_dilated), factor)
        draft.picture(f"{folder}/{view.mask_dilated.stem}.png", dilated.astype(np.uint8) * 255)
    return entry_of(view.scene_id, view.uid, view.label, view.frame_id, mask, names)


def _shrink_facts(folder: Path, facts: dict, draft: Draft, factor: int) -> dict:
    """The facts of a scene with sizes in the smaller pixels, after its frames and referring masks."""
    small = copy.deepcopy(facts)
    small["size"] = [n // factor for n in facts["size"]]
    for frame in small["frames"].values():
        picture = folder / frame["picture"]
        frame["picture"] = f"frames/{picture.stem}.png"
        draft.picture(frame["picture"], shrink_picture(read_picture(picture), factor))
        depth = depth_path(picture)
        if depth.is_file():
            draft.picture(f"frames/{depth.name}", shrink_picture(read_picture(depth), factor))
        for seen in frame["objects"].values():
            seen["counts"] = [n // factor**2 for n in seen["counts"]]
            seen["area"] //= factor**2
            seen["border_distance"] //= factor
            seen["box"] = None if seen["box"] is None else [n // factor for n in seen["box"]]
    small["referring"] = [phrase for phrase in small["referring"] if _shrink_phrase(folder, phrase, draft, factor)]
    return small


def _shrink_phrase(folder: Path, phrase: dict, draft: Draft, factor: int) -> bool:
    """Write a phrase's smaller mask; False if one of its points is not on it any more."""
    if phrase["mask"] is None:
        return True
    mask = shrink_mask(read_mask(folder / phrase["mask"]), factor)
    h, w = mask.shape
    if not all(mask[int(y * h), int(x * w)] for x, y in phrase["points"]):
        return False
    draft.picture(phrase["mask"], mask.astype(np.uint8) * 255)
    return True
