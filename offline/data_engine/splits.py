"""Splits by scene: official lists, or a hash of the place. Never by frame, never by scan of the same place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
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


def assign(
    scene_ids: Iterable[str],
    train: Iterable[str] = (),
    validation: Iterable[str] = (),
    validation_share: float = 0.1,
    seed: int = 0,
) -> dict[str, str]:
    """Scene id -> "train" or "validation".

    With lists, a scene that is in neither is left out (ScanNet's test scans). Without, places are drawn by hash.

    Raises:
        ValueError: the lists put one place into both splits.
    """
    train, validation = set(train), set(validation)
    given = {scene: "train" for scene in train} | {scene: "validation" for scene in validation}
    check_leakage({"train": train, "validation": validation})
    if given:
        return {scene: given[scene] for scene in scene_ids if scene in given}
    return {
        scene: "validation" if fraction_of("split", seed, space_of(scene)) < validation_share else "train"
        for scene in scene_ids
    }


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
