"""Splits by scene: official lists, or a hash of the place. Never by frame, never by scan of the same place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from roboref_core.seeds import fraction_of

_SCAN = re.compile(r"(scene\d{4})_\d{2}")


def space_of(scene_id: str) -> str:
    """The place that was scanned: ScanNet's scene0000_00 and scene0000_01 are one; other ids stand for themselves."""
    found = _SCAN.fullmatch(scene_id)
    return found[1] if found else scene_id


def read_list(path: Path) -> list[str]:
    """Scene ids of an official list, one per line. Raises ValueError naming the file if there are none."""
    try:
        lines = path.read_text(encoding="utf-8").split()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    if not lines:
        raise ValueError(f"{path}: expected scene ids, one per line, found none")
    return lines


@dataclass(frozen=True)
class Assignment:
    """Which scene is in which split.

    Attributes:
        splits: scene id -> "train" or "validation"; scenes that it lacks are left out.
        notes: what a person should know: scenes left out, list entries without a scan, a split without scenes.
    """

    splits: dict[str, str]
    notes: tuple[str, ...] = ()


def assign(
    scene_ids: Iterable[str],
    train: Iterable[str] = (),
    validation: Iterable[str] = (),
    validation_share: float = 0.1,
    seed: int = 0,
) -> Assignment:
    """Assign scenes to splits.

    With lists, a scene that is in neither is left out (ScanNet's test scans). Without, places are drawn by hash; of two
    places or more each split has at least one, unless the share is 0 or 1.

    Raises:
        ValueError: the lists put one place into both splits, or several scans of a single place are to be divided.
    """
    scenes, train, validation = sorted(scene_ids), set(train), set(validation)
    check_leakage({"train": train, "validation": validation})
    if not 0 <= validation_share <= 1:
        raise ValueError(f"validation_share must lie in [0, 1], found {validation_share}")
    if train or validation:
        given = {scene: "train" for scene in train} | {scene: "validation" for scene in validation}
        splits = {scene: given[scene] for scene in scenes if scene in given}
        return Assignment(splits, _notes_on_lists(scenes, train, validation) + _notes_on_empty(splits))
    splits = _drawn(scenes, validation_share, seed)
    return Assignment(splits, _notes_on_empty(splits) if 0 < validation_share < 1 else ())


def _drawn(scenes: list[str], share: float, seed: int) -> dict[str, str]:
    number = {place: fraction_of("split", seed, place) for place in map(space_of, scenes)}
    held_out = {place for place, value in number.items() if value < share}
    if 0 < share < 1:
        if len(number) == 1 and len(scenes) > 1:
            raise ValueError(
                f"all {len(scenes)} scans are of one place, {next(iter(number))}: they cannot be divided into training "
                "and validation; give --validation-share 0 (or 1), or lists"
            )
        if len(number) > 1 and not held_out:
            held_out = {min(number, key=lambda place: (number[place], place))}
        elif len(number) > 1 and len(held_out) == len(number):
            held_out.remove(max(number, key=lambda place: (number[place], place)))
        elif len(number) == 1:
            held_out = set()
    return {scene: "validation" if space_of(scene) in held_out else "train" for scene in scenes}


def _notes_on_lists(scenes: list[str], train: set[str], validation: set[str]) -> tuple[str, ...]:
    notes = []
    for name, wanted in (("train", train), ("validation", validation)):
        missing = sorted(wanted - set(scenes))
        if missing:
            notes.append(
                f"{len(missing)} of the {len(wanted)} scenes of the {name} list are not there: {_some(missing)}"
            )
    ignored = [scene for scene in scenes if scene not in train | validation]
    if ignored:
        notes.append(f"{len(ignored)} scenes are in neither list and are left out: {_some(ignored)}")
    return tuple(notes)


def _notes_on_empty(splits: Mapping[str, str]) -> tuple[str, ...]:
    there = set(splits.values())
    return tuple(
        f"no scene is in the split {split}" for split in ("train", "validation") if there and split not in there
    )


def _some(names: list[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def check_leakage(splits: Mapping[str, Iterable[str]]) -> None:
    """Raise ValueError if two splits share a place, naming both scans."""
    owner: dict[str, tuple[str, str]] = {}
    for split in sorted(splits):
        for scene in sorted(splits[split]):
            known = owner.setdefault(space_of(scene), (split, scene))
            if known[0] != split:
                raise ValueError(
                    f"leakage: {scene} in {split} and {known[1]} in {known[0]} are scans of the same place"
                )
