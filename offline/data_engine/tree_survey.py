"""A five_frames tree of any origin, looked through once: which views can be used, and what is wrong with the others.

Every picture and mask is decoded. A view that cannot be used is set aside with the file that is to blame; the scene
stays as long as it has views enough.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from offline.data_engine.five_frames import ViewFiles, json_path, mask_box, objects, read_views
from offline.files import read_json, read_mask, read_picture, write_json

MIN_VIEWS = 2
"""A scene with fewer usable views has nothing to ask across views."""
_BOX_TOLERANCE = 0.02
"""Share of the picture by which a box of the JSON may differ from its mask's."""
_TAIL = 64


@dataclass
class Survey:
    """What was found in one scene.

    Attributes:
        views: uid -> names of the originals of its usable views.
        without_inpainted: names of originals (with their ``uid_<n>/``) whose inpainted picture cannot be used.
        quarantined: file, relative to the scene's folder -> why it is not used.
        defects: kind -> number of views that have it and are used all the same.
        fingerprint: of the scene's files, see ``fingerprint``.
    """

    views: dict[int, list[str]] = field(default_factory=dict)
    without_inpainted: list[str] = field(default_factory=list)
    quarantined: dict[str, str] = field(default_factory=dict)
    defects: Counter[str] = field(default_factory=Counter)
    fingerprint: str = ""

    @property
    def count(self) -> int:
        """Number of usable views."""
        return sum(map(len, self.views.values()))

    def usable(self, uid: int, views: list[ViewFiles]) -> list[ViewFiles]:
        """Those of an object's views that can be used, without the inpainted pictures that cannot."""
        kept = [view for view in views if view.original.name in self.views.get(uid, ())]
        return [
            dataclasses.replace(view, inpainted=None)
            if f"uid_{uid}/{view.original.name}" in self.without_inpainted
            else view
            for view in kept
        ]

    def to_json(self) -> dict[str, Any]:
        return {
            "views": {str(uid): names for uid, names in sorted(self.views.items())},
            "without_inpainted": sorted(self.without_inpainted),
            "quarantined": self.quarantined,
            "defects": dict(self.defects),
            "fingerprint": self.fingerprint,
        }


def read_survey(path: Path) -> Survey:
    """What ``write_survey`` wrote. Raises ValueError naming the file."""
    content = read_json(path)
    try:
        return Survey(
            {int(uid): list(names) for uid, names in content["views"].items()},
            list(content["without_inpainted"]),
            dict(content["quarantined"]),
            Counter(content["defects"]),
            str(content["fingerprint"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path}: not a survey of a tree ({error!r})") from error


def write_survey(path: Path, tree: Path, split: str, scene_id: str) -> Survey:
    """Look through a scene and keep what was found.

    Raises ValueError, naming up to five files, if fewer than ``MIN_VIEWS`` views can be used.
    """
    survey = survey_scene(tree, split, scene_id)
    write_json(path, survey.to_json())
    if survey.count < MIN_VIEWS:
        reasons = [f"{file}: {reason}" for file, reason in sorted(survey.quarantined.items())]
        raise ValueError(
            f"{tree / split / scene_id}: {survey.count} usable views, expected at least {MIN_VIEWS}; "
            + ("; ".join(reasons[:5]) or "its object folders are empty")
        )
    return survey


def survey_scene(tree: Path, split: str, scene_id: str) -> Survey:
    """Look through one scene of a tree; raises nothing for what is wrong with its files."""
    survey = Survey(fingerprint=fingerprint(tree, split, scene_id))
    for uid in objects(tree, split, scene_id):
        views, broken = read_views(tree, split, scene_id, uid)
        survey.quarantined.update(broken)
        if not json_path(tree, split, scene_id, uid).is_file():
            survey.defects["no_json"] += 1
        elif any(name.endswith(".json") for name in broken):
            survey.defects["unreadable_json"] += 1
        usable = [view.original.name for view in views if _look_at(view, survey)]
        if usable:
            survey.views[uid] = usable
    return survey


def _look_at(view: ViewFiles, survey: Survey) -> bool:
    """Can the view be used? Notes what is wrong with it."""
    folder = f"uid_{view.uid}/"
    at = folder + view.original.name
    try:
        at = folder + view.mask.name
        mask = read_mask(view.mask)
        if not mask.any():
            raise ValueError("the mask is empty")
        if mask.shape[::-1] != view.size:
            raise ValueError(f"{mask.shape[1]}x{mask.shape[0]}, expected its picture's {view.size[0]}x{view.size[1]}")
        at = folder + view.original.name
        read_picture(view.original)
    except ValueError as error:
        survey.quarantined[at] = _reason(error)
        return False
    if view.inpainted is None:
        survey.defects["no_inpainted"] += 1
    else:
        try:
            shape = read_picture(view.inpainted).shape
            if shape[1::-1] != view.size:
                raise ValueError(f"{shape[1]}x{shape[0]}, expected its original's {view.size[0]}x{view.size[1]}")
        except ValueError as error:
            survey.quarantined[folder + view.inpainted.name] = _reason(error)
            survey.without_inpainted.append(folder + view.original.name)
    if not view.label:
        survey.defects["no_label"] += 1
    _compare_annotation(view, mask, survey)
    return True


def _compare_annotation(view: ViewFiles, mask, survey: Survey) -> None:
    """Count what the JSON says of sizes and boxes that pictures and masks contradict; these are what is used."""
    stated = [_number(view.annotation.get(key)) for key in ("img_w", "img_h")]
    if "img_w" in view.annotation and tuple(stated) != view.size:
        survey.defects["json_size_differs"] += 1
    box = [_number(view.annotation.get(key)) for key in ("x0", "y0", "x1", "y1")]
    w, h = view.size
    for said, found, size, whole in zip(box, mask_box(mask), (w, h, w, h), stated * 2, strict=True):
        if said is None or not whole:
            return
        if abs(said / whole - found / size) > _BOX_TOLERANCE:
            survey.defects["json_box_differs"] += 1
            return


def fingerprint(tree: Path, split: str, scene_id: str) -> str:
    """A hash that changes with any JSON or picture of a scene.

    Of PNG files, name, size and the last bytes are taken, which hold the checksum of their pixels; other files are read
    as a whole.
    """
    folder = tree / split / scene_id
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")):
        digest.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n".encode())
        with open(path, "rb") as file:
            if path.suffix == ".png":
                file.seek(max(0, path.stat().st_size - _TAIL))
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _reason(error: ValueError) -> str:
    """The error without the path in front, which is the key already."""
    return str(error).rpartition("png: ")[2] or str(error)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
