"""RefSpatial's folders: JSON lists beside folders of pictures and of depth pictures, read and written.

Which pictures belong to which list is RefSpatial's own table (its README). Where an entry does not name its depth
pictures they have the names of its pictures.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from offline.data_engine.task_files import pictures_of, read_samples, turns
from offline.files import write_json

# (folder, list) -> (picture folder, depth folder)
LISTS = {
    ("2D", "choice_qa"): ("image", "depth"),
    ("2D", "reasoning_template_qa"): ("image", "depth"),
    ("3D", "choice_qa"): ("image", "depth"),
    ("3D", "multi_view_qa"): ("image_multi_view", "depth_multi_view"),
    ("3D", "reasoning_template_qa"): ("image", "depth"),
    ("3D", "vacant_qa"): ("image", "depth"),
    ("3D", "visual_choice_qa"): ("image_visual_choice", "depth"),
    ("Simulator", "metadata"): ("image", "depth"),
}


@dataclass(frozen=True)
class RefSpatialList:
    """One list of a RefSpatial tree and the folders of its pictures."""

    name: str
    json: Path
    images: Path
    depths: Path


def find_lists(root: Path) -> list[RefSpatialList]:
    """The lists that a tree has. Raises ValueError if there are none, saying what was looked for."""
    found = [
        RefSpatialList(f"{folder}_{name}", path, root / folder / images, root / folder / depths)
        for (folder, name), (images, depths) in LISTS.items()
        if (path := root / folder / f"{name}.json").is_file()
    ]
    if not found:
        raise ValueError(f"{root}: no RefSpatial list, expected for example {root / '3D' / 'choice_qa.json'}")
    return found


def read_list(source: RefSpatialList, with_depth: bool = True) -> Iterator[dict]:
    """Training samples of a list: absolute picture and depth paths, no placeholders in the text.

    Raises ValueError naming the entry if it has no conversations, or a picture is missing.
    """
    for where, sample in read_samples(source.json):
        if not isinstance(sample, dict) or "conversations" not in sample:
            raise ValueError(f"{where}: expected an object with conversations")
        names = pictures_of(sample)
        images = [source.images / name for name in names]
        depths = [source.depths / name for name in pictures_of(sample, "depth") or names]
        for path in images + (depths if with_depth else []):
            if not path.is_file():
                raise ValueError(f"{where}: {path} is missing")
        clean = [
            {"from": turn["from"], "value": turn["value"].replace("<image>\n", "").replace("<image>", "").strip()}
            for turn in sample["conversations"]
        ]
        yield {
            "id": str(sample.get("id", where)),
            "image": _one_or_list(images),
            "conversations": clean,
            "task": f"refspatial_{source.name}",
        } | ({"depth": _one_or_list(depths)} if with_depth and images else {})


def list_for(sample: dict) -> tuple[str, str] | None:
    """The list that one of our samples belongs to: free space, single view, or two views; None for the others."""
    if sample["grid"] or "depth" not in sample:
        return None
    if sample["task"] == "referring":
        return ("3D", "vacant_qa" if sample["relation"].startswith("free_") else "reasoning_template_qa")
    return ("3D", "multi_view_qa") if sample["task"] == "t1" and sample["form"] == "multi" else None


def write_tree(root: Path, samples: Iterable[dict]) -> dict[str, int]:
    """Write our samples as a RefSpatial tree, copying their pictures; returns list -> number of samples."""
    lists: dict[tuple[str, str], list[dict]] = {}
    for sample in samples:
        target = list_for(sample)
        if target is None:
            continue
        folder, name = target
        image_folder, depth_folder = LISTS[target]
        names, depth_names = [], []
        for picture, depth in zip(pictures_of(sample), pictures_of(sample, "depth"), strict=True):
            path = Path(picture)
            # One depth folder serves several picture folders: names must be unique over scenes and objects.
            names.append("_".join((sample["scene_id"], path.parent.name, path.name)))
            _copy(path, root / folder / image_folder / names[-1])
            depth_names.append(str(Path(names[-1]).with_suffix(".png")))
            _copy(Path(depth), root / folder / depth_folder / depth_names[-1])
        question, answer = turns(sample, "human")[0], turns(sample, "gpt")[0]
        lists.setdefault(target, []).append(
            {
                "id": sample["id"],
                "image": _one_or_list(names),
                "depth": _one_or_list(depth_names),
                "conversations": [
                    {"from": "human", "value": "<image>\n" * len(names) + question},
                    {"from": "gpt", "value": answer},
                ],
            }
        )
    for (folder, name), entries in lists.items():
        write_json(root / folder / f"{name}.json", entries)
    return {f"{folder}/{name}": len(entries) for (folder, name), entries in sorted(lists.items())}


def _one_or_list(paths: list) -> str | list[str]:
    texts = [str(path) for path in paths]
    return texts[0] if len(texts) == 1 else texts


def _copy(source: Path, target: Path) -> None:
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        shutil.copyfile(source, part)
        part.replace(target)
