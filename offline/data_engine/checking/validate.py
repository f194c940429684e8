"""Checks of task files, ours or foreign: what trains silently on the wrong thing is found here, by name."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image
from roboref_core.models.model_answer import Outcome
from roboref_core.progress import Progress
from roboref_core.prompting.answer_text import NOT_VISIBLE, parse

from offline.data_engine.splits import space_of
from offline.data_engine.task_files import (
    answer_points,
    form_of,
    mask_path,
    picture_path,
    pictures_of,
    read_samples,
    turns,
)
from offline.data_engine.tasks.kinds import TASKS
from offline.files import read_mask

_PLACEHOLDERS = ("<image>", "<depth>", "<video>")
NOT_CHECKED = "not_checked"
"""Kind of findings that are not faults: what could not be checked, and why."""
_PAIR = re.compile(r"[\[(]\s*(-?\d+(?:\.\d+)?(?:e-?\d+)?)\s*,\s*(-?\d+(?:\.\d+)?(?:e-?\d+)?)")
_ATTRIBUTES = re.compile(r"\bx\d*\s*=\s*\"(-?\d+(?:\.\d+)?)\"\s+y\d*\s*=\s*\"(-?\d+(?:\.\d+)?)\"")
"""Points as attributes of a tag, <point x="51.2" y="20.1">: they are in percent."""
_NUMBERS = re.compile(r"\s*-?\d+(?:\.\d+)?(?:[\s,]+-?\d+(?:\.\d+)?)(?:(?:[\s,]+-?\d+(?:\.\d+)?){2})?\s*")
"""An answer of two or four bare numbers: a point or a box."""
_SLACK = 0.005
"""Foreign coordinates are rounded; beyond [0, 1] by more than this they are wrong, or pixels."""


@dataclass(frozen=True)
class Finding:
    """Something wrong: its kind, the sample's place, and the facts."""

    kind: str
    where: str
    detail: str


def validate_files(paths: list[Path], image_root: Path = Path("/")) -> list[Finding]:
    """Check files and what they share: duplicate ids, and places in more than one split.

    A file's split is read from its name ("train", "val"); one without is in no split. Raises ValueError if a file
    is no JSON.
    """
    findings: list[Finding] = []
    ids: dict[str, str] = {}
    places: dict[str, dict[str, str]] = defaultdict(dict)
    for path in paths:
        split = _split_of(path)
        for where, sample in Progress(read_samples(path), desc=path.name, leave=False):
            if not isinstance(sample, dict):
                findings.append(Finding("not_a_sample", where, f"expected an object, found {type(sample).__name__}"))
                continue
            findings += check_sample(sample, where, image_root)
            if "id" in sample:
                first = ids.setdefault(sample["id"], where)
                if first != where:
                    findings.append(Finding("duplicate_id", where, f"{sample['id']} is also {first}"))
            if split and sample.get("scene_id"):
                places[space_of(str(sample["scene_id"]))].setdefault(split, where)
    for place, by_split in sorted(places.items()):
        if len(by_split) > 1:
            detail = ", ".join(f"{split} at {where}" for split, where in sorted(by_split.items()))
            findings.append(Finding("split_leakage", place, f"the place is in {detail}"))
    return findings


def check_sample(sample: dict, where: str, image_root: Path = Path("/")) -> Iterator[Finding]:
    """All that is wrong with one sample."""
    if not _well_formed(sample):
        yield Finding("malformed_conversation", where, "expected turns {from: human|gpt, value: text}, human first")
        return
    pictures, task = pictures_of(sample), task_of(sample)
    pointing = task in TASKS
    said = turns(sample, "human") + turns(sample, "gpt")
    found = sum(text.count("<image>") for text in said)
    if pointing and "task" in sample and any(token in text for token in _PLACEHOLDERS for text in said):
        yield Finding("placeholder_in_text", where, "the loader adds <image>: with one in the text pictures shift")
    elif not (pointing and "task" in sample) and found not in (0, len(pictures)):
        # Records of other programs write their placeholders themselves: then there is one for each picture.
        yield Finding("placeholder_count", where, f"{found} <image> for {len(pictures)} pictures")
    if pointing and "task" in sample:
        form = form_of(sample)
        expected = TASKS[task].get(form)
        if len(pictures) != expected:
            detail = f"{task} {form} has {expected} pictures, found {len(pictures)}"
            yield Finding("image_count", where, detail)
    sizes = []
    for name in pictures:
        size, problem = _size_of(picture_path(name, image_root))
        sizes.append(size)
        if problem:
            yield Finding("bad_image", where, problem)
    yield from _check_depth(sample, where, image_root, pictures, sizes)
    outside = _outside(turns(sample, "gpt"))
    if outside:
        yield Finding("coordinates", where, f"{outside} lies outside [0, 1]: pixels, or another picture's coordinates")
    elif pointing and pictures and all(sizes):
        yield from _check_answer(sample, where, image_root, sizes)
    elif not pointing and _PAIR.search(" ".join(turns(sample, "gpt"))):
        yield Finding(NOT_CHECKED, where, f"task {task!r}: the range of its coordinates is checked, not their place")
    elif not pointing:
        yield Finding(NOT_CHECKED, where, f"task {task!r}: its answer is text, and whether it is true is not checked")


def task_of(sample: dict) -> str:
    """A sample's task; of a foreign sample that names none, one whose answers have the same form, else ""."""
    if isinstance(sample.get("task"), str):
        return sample["task"]
    answers = turns(sample, "gpt")
    if len(answers) != 1 or parse(answers[0]).outcome is Outcome.UNPARSABLE:
        return ""
    return "t1" if len(pictures_of(sample)) > 1 else "referring"


def _outside(answers: list[str]) -> str:
    """The first pair of coordinates that cannot be of a picture's [0, 1], "" if there is none."""
    for text in answers:
        bare = _NUMBERS.fullmatch(text)
        pairs = [tuple(text.replace(",", " ").split()[:2])] if bare else []
        for x, y in pairs + _PAIR.findall(text) + _ATTRIBUTES.findall(text):
            if not all(-_SLACK <= float(value) <= 1 + _SLACK for value in (x, y)):
                return f"({x}, {y})"
    return ""


def _well_formed(sample: dict) -> bool:
    conversation = sample.get("conversations")
    return (
        isinstance(conversation, list)
        and len(conversation) >= 2
        and all(isinstance(turn, dict) and isinstance(turn.get("value"), str) for turn in conversation)
        and [turn.get("from") for turn in conversation] == ["human", "gpt"] * (len(conversation) // 2)
    )


def _check_depth(sample, where, image_root, pictures, sizes) -> Iterator[Finding]:
    depths = pictures_of(sample, "depth")
    if depths and len(depths) != len(pictures):
        yield Finding("depth_count", where, f"{len(depths)} depth pictures for {len(pictures)} pictures")
        return
    for name, size in zip(depths, sizes, strict=False):
        path = picture_path(name, image_root)
        depth_size, problem = _size_of(path)
        if problem:
            yield Finding("bad_depth", where, problem)
        elif size and depth_size != size:
            yield Finding("depth_size", where, f"{path} is {depth_size}, its picture {size}")
        elif _mode_of(path) != "RGB":
            yield Finding("depth_channels", where, f"{path} has mode {_mode_of(path)}, expected 8-bit with 3 channels")


def _check_answer(sample, where, image_root, sizes) -> Iterator[Finding]:
    text = turns(sample, "gpt")[0]
    answer = parse(text)
    facts = sample.get("visibility") if isinstance(sample.get("visibility"), dict) else {}
    visible = facts.get("visible")
    if answer.outcome is Outcome.UNPARSABLE:
        yield Finding("unparsable_answer", where, answer.reason)
        return
    if (answer.outcome is Outcome.NOT_VISIBLE) != (text.strip() == NOT_VISIBLE):
        yield Finding("unparsable_answer", where, f"{NOT_VISIBLE} with other text: {text[:60]!r}")
    if visible is not None and visible != (answer.outcome is Outcome.VISIBLE):
        yield Finding("visibility_contradicts", where, f"visibility says {visible}, the answer is {text[:40]!r}")
    if answer.outcome is Outcome.NOT_VISIBLE:
        if visible is not None and not facts.get("reason"):
            yield Finding("no_reason", where, "a negative without the reason why it is one")
        if sample.get("mask"):
            yield Finding("mask_of_negative", where, f"NOT_VISIBLE, but there is a mask {sample['mask']}")
        return
    path = mask_path(sample, image_root)
    if path is None:
        # Ours have one; foreign files need not.
        kind = "no_mask" if "task" in sample and "visibility" in sample else NOT_CHECKED
        yield Finding(kind, where, "a point without a mask to check it by")
        return
    try:
        mask = _mask(path)
    except ValueError as error:
        yield Finding("bad_mask", where, str(error))
        return
    yield from _check_points(sample, where, path, mask, sizes[-1], image_root)


def _check_points(
    sample: dict, where: str, path: Path, mask: np.ndarray, size: tuple[int, int], image_root: Path
) -> Iterator[Finding]:
    h, w = mask.shape
    points = np.array(answer_points(turns(sample, "gpt")[0]))
    if form_of(sample) == "concat" or ("task" not in sample and size[0] > w and size[1] >= h):
        if size[0] <= w or size[1] < h:
            yield Finding("mask_size", where, f"mask {(w, h)} does not fit the right part of a picture of {size}")
            return
        points = (points * size - (size[0] - w, 0)) / (w, h)
    elif size != (w, h):
        yield Finding("mask_size", where, f"mask {(w, h)}, picture {size}")
        return
    u, v = np.floor(points * (w, h)).astype(int).T
    inside = (u >= 0) & (u < w) & (v >= 0) & (v < h)
    hit = inside.copy()
    hit[inside] = mask[v[inside], u[inside]]
    if not hit.all():
        yield Finding("point_off_mask", where, f"{turns(sample, 'gpt')[0]} is not on {path}")


@lru_cache(maxsize=65536)
def _size_of(path: Path) -> tuple[tuple[int, int] | None, str]:
    """(width, height) from the header alone, or what is wrong with the file."""
    try:
        with Image.open(path) as image:
            return image.size, ""
    except OSError as error:
        return None, f"{path}: {error}"


@lru_cache(maxsize=65536)
def _mode_of(path: Path) -> str:
    with Image.open(path) as image:
        return image.mode


@lru_cache(maxsize=64)
def _mask(path: Path) -> np.ndarray:
    return read_mask(path)


def _split_of(path: Path) -> str:
    words = path.stem.lower().replace("-", "_").split("_")
    for split, names in {"train": ("train", "training"), "val": ("val", "validation", "test")}.items():
        if any(name in words for name in names):
            return split
    return ""


def faults(findings: list[Finding]) -> list[Finding]:
    """Those that say something is wrong."""
    return [finding for finding in findings if finding.kind != NOT_CHECKED]


def summarise(findings: list[Finding], limit: int) -> str:
    """Findings in words: how many of each kind, with the first ones in full; then what could not be checked."""
    wrong = faults(findings)
    lines = [] if wrong else ["nothing wrong in what could be checked" if findings else "nothing wrong"]
    for kind, count in Counter(finding.kind for finding in wrong).most_common():
        lines.append(f"{kind}: {count}")
        shown = [finding for finding in wrong if finding.kind == kind][:limit]
        lines += [f"  {finding.where}: {finding.detail}" for finding in shown]
    unchecked = [finding for finding in findings if finding.kind == NOT_CHECKED]
    if unchecked:
        lines.append(f"not checked: {len(unchecked)} samples")
        for detail, count in Counter(finding.detail for finding in unchecked).most_common(limit):
            lines.append(f"  {count:9d}  {detail}")
    return "\n".join(lines)
