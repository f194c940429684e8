"""Reading task files, ours or foreign: a JSON list of samples in LLaVA's form, or JSON lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from roboref_core.prompting.answer_text import parse

from offline.files import read_json

_MASK_KINDS = ("mask_dialated", "mask_dilated", "mask")
_QUERY_KINDS = re.compile(r"(original|inpainted)(?=\.[A-Za-z]+$)")


def read_samples(path: Path) -> Iterator[tuple[str, object]]:
    """Samples of a file, each with where it stands (``file[3]``, or ``file:4`` for JSON lines).

    Raises ValueError naming the file, if it is neither a list nor JSON lines.
    """
    if path.suffix == ".jsonl":
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    try:
                        yield f"{path}:{number}", json.loads(line)
                    except ValueError as error:
                        raise ValueError(f"{path}:{number}: not valid JSON ({error})") from error
        return
    samples = read_json(path)
    if not isinstance(samples, list):
        raise ValueError(f"{path}: expected a list of samples, found {type(samples).__name__}")
    for number, sample in enumerate(samples):
        yield f"{path}[{number}]", sample


def pictures_of(sample: dict, key: str = "image") -> list[str]:
    """The picture paths of a sample as a list. ``images`` is read as ``image`` (manipulation records use it)."""
    value = sample.get(key, sample.get("images") if key == "image" else None)
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def picture_path(name: str, root: Path) -> Path:
    """Where a picture named in a sample lies."""
    path = Path(name)
    return path if path.is_absolute() else root / path


def form_of(sample: dict) -> str:
    """How a sample shows its views: "multi", "concat" or "single"; foreign files do not say it in so many words."""
    if sample.get("form"):
        return str(sample["form"])
    if len(pictures_of(sample)) > 1:
        return "multi"
    return "concat" if sample.get("task") == "t1" else "single"


def mask_path(sample: dict, root: Path) -> Path | None:
    """A sample's mask: the one it names, else the one beside its query picture in a five_frames tree."""
    if sample.get("mask"):
        return picture_path(str(sample["mask"]), root)
    pictures = pictures_of(sample)
    query = picture_path(str(sample.get("query_original") or (pictures[-1] if pictures else "")), root)
    return mask_beside(query)


def mask_beside(query: Path) -> Path | None:
    """The mask beside a picture of a five_frames tree: ``original`` or ``inpainted`` becomes ``mask_dialated`` if
    there is one, else ``mask``; None if the name is of neither kind or there is no such file."""
    if not _QUERY_KINDS.search(query.name):
        return None
    named = (query.with_name(_QUERY_KINDS.sub(kind, query.name)) for kind in _MASK_KINDS)
    return next((path for path in named if path.is_file()), None)


def turns(sample: dict, who: str) -> list[str]:
    """What "human" or "gpt" says in a sample, turn by turn."""
    return [turn["value"] for turn in sample["conversations"] if turn.get("from") == who]


def answer_points(text: str) -> list[tuple[float, float]]:
    """The points of an answer text; none if it is NOT_VISIBLE or has none."""
    return list(parse(text).points)
