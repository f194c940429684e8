"""RoboSpatial-Home, Point-Bench, CV-Bench and BLINK in their published layouts, with their published scorers.

CV-Bench and BLINK are published as parquet files. They are read as what these hold: one JSON line a row, pictures as
files; ``benchmarks.BENCHMARKS`` says how to get them so.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from offline.eval.benches import official
from offline.eval.benches.families import Family
from offline.eval.benches.items import Item, existing, sample_of, text_of
from offline.eval.records.json_lines import read_lines
from offline.files import read_json

YES_NO = ("yes", "no")
# BLINK's tasks about space and correspondence.
BLINK_TASKS = (
    "Spatial_Relation", "Relative_Depth", "Multi-view_Reasoning", "Object_Localization", "Visual_Correspondence",
    "Semantic_Correspondence", "Functional_Correspondence",
)  # fmt: skip
_PAIRS = (r"\(\s*(\d+\.?\d*)\s*,\s*(\d+\.?\d*)\s*\)", r"\[\s*(\d+\.?\d*)\s*,\s*(\d+\.?\d*)\s*\]")


def read_robospatial(root: Path, family: Family) -> list[Item]:
    """RoboSpatial-Home as its own download script writes it: ``{root}/annotations.json`` (category, question, answer,
    img) and ``images/``. Answers are yes, no, or a polygon of (x, y) in [0, 1], as text.
    """
    path = root / "annotations.json"
    items = []
    for number, question in enumerate(_questions(path)):
        group, text, answer, name = (
            text_of(question, key, path, number) for key in ("category", "question", "answer", "img")
        )
        image = existing(root / name, path)
        sample = sample_of(f"robospatial/{number}", group, text, (image,))
        truth = answer.strip().lower()
        if truth in YES_NO:
            items.append(Item(sample, group, answer=truth, choices=YES_NO, official_text=_starts_with(truth)))
            continue
        polygon = _polygon(answer, path, number)
        items.append(
            Item(
                sample,
                group,
                mask=partial(_filled, polygon, image),
                official_text=partial(_first_pair_in, polygon),
            )
        )
    return items


def _starts_with(truth: str) -> Callable[[str], float]:
    return lambda text: float(text.strip().lower().startswith(truth))


def _first_pair_in(polygon: list[tuple[float, float]], text: str) -> float:
    """The published rule: the first (x, y), or else the first [x, y], in [0, 1], inside the polygon by ray casting."""
    for pattern in _PAIRS:
        if found := re.search(pattern, text):
            x, y = float(found.group(1)), float(found.group(2))
            inside = False
            for (x0, y0), (x1, y1) in zip(polygon, [polygon[-1], *polygon[:-1]], strict=True):
                if (y0 > y) != (y1 > y) and x < (x1 - x0) * (y - y0) / (y1 - y0) + x0:
                    inside = not inside
            return float(inside)
    return 0.0


def _polygon(answer: str, path: Path, number: int) -> list[tuple[float, float]]:
    try:
        points = [(float(x), float(y)) for x, y in ast.literal_eval(answer)]
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        points = []
    if len(points) < 3 or not all(math.isfinite(value) for point in points for value in point):
        raise ValueError(
            f"{path}, question {number}: expected yes, no or a polygon of three points or more, found {answer[:80]!r}"
        )
    return points


def _filled(polygon: list[tuple[float, float]], image: Path) -> np.ndarray:
    """(h, w) bool of the picture's size."""
    picture = cv2.imread(str(image))
    if picture is None:
        raise ValueError(f"{image}: the picture cannot be read")
    height, width = picture.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.rint(np.array(polygon) * (width, height) - 0.5).astype(np.int32)], 1)
    return mask.astype(bool)


def read_pointbench(root: Path, family: Family) -> list[Item]:
    """Point-Bench: ``{root}/data.json`` (image_filename, mask_filename, category, user_input, count), pictures in
    ``images/{category}/``, masks in ``masks/``, inside above 127.

    Published rule: every point is inside the mask, and for counting there are as many as the question has.
    """
    path = root / "data.json"
    items = []
    for number, question in enumerate(_questions(path)):
        if not isinstance(question, dict) or "mask_filename" not in question:
            continue  # as published
        keys = ("image_filename", "mask_filename", "category", "user_input")
        name, mask_name, group, text = (text_of(question, key, path, number) for key in keys)
        image = existing(root / "images" / group / name, path)
        mask = existing(root / "masks" / mask_name, path)
        wanted = question.get("count", 1)
        if not isinstance(wanted, int) or wanted < 1:
            raise ValueError(f"{path}, question {number}: expected a count of at least 1, found {wanted!r}")
        counted = wanted if group == "counting" else None
        items.append(
            Item(
                sample_of(f"pointbench/{number}", group, f"{text} {family.extra}".strip(), (image,)),
                group,
                mask=partial(_any_channel, mask),
                soft_mask=partial(_any_channel, mask),
                count=counted,
                all_inside=True,
            )
        )
    return items


def _any_channel(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError(f"{path}: the mask cannot be read")
    return np.asarray(image > 127 if image.ndim == 2 else (image > 127).any(axis=2))


def read_cvbench(root: Path, family: Family) -> list[Item]:
    """CV-Bench: ``{root}/test.jsonl`` with the published rows (idx, source, prompt, answer "(A)", filename)."""
    path = root / "test.jsonl"
    items = []
    for number, question in enumerate(value for _, value in read_lines(path)):
        group, text, answer, name = (
            text_of(question, key, path, number) for key in ("source", "prompt", "answer", "filename")
        )
        items.append(_choice(f"cvbench/{number}", group, text, answer, (existing(root / name, path),), path, number))
    return items


def combine_cvbench(figures: dict[str, float | None]) -> float | None:
    """The published overall figure: the mean of 2D (the mean of ADE20K and COCO) and 3D (Omni3D)."""
    found = [figures.get(source) for source in ("ADE20K", "COCO", "Omni3D")]
    if any(value is None for value in found):
        return None
    ade20k, coco, omni3d = (float(value) for value in found if value is not None)
    return ((ade20k + coco) / 2 + omni3d) / 2


def read_blink(root: Path, family: Family) -> list[Item]:
    """BLINK: ``{root}/{task}/val.jsonl`` with the published rows (idx, sub_task, prompt, answer "(A)", image_1 to
    image_4 as paths, or null), for the tasks about space and correspondence.
    """
    items = []
    for task in BLINK_TASKS:
        path = root / task / "val.jsonl"
        for number, question in enumerate(value for _, value in read_lines(path)):
            text, answer, name = (text_of(question, key, path, number) for key in ("prompt", "answer", "idx"))
            names = [question.get(f"image_{i}") for i in range(1, 5)]
            images = tuple(existing(root / task / str(one), path) for one in names if one)
            if not images:
                raise ValueError(f"{path}, question {number}: expected at least image_1, found none")
            items.append(_choice(name, task, text, answer, images, path, number))
    return items


def combine_mean(figures: dict[str, float | None]) -> float | None:
    """The published overall figure: every task weighs the same."""
    known = [value for value in figures.values() if value is not None]
    return float(np.mean(known)) if known else None


def _choice(name: str, group: str, text: str, answer: str, images: tuple[Path, ...], path: Path, number: int) -> Item:
    letter = answer.strip().strip("().").upper()
    choices = ("A", "B", "C", "D", "E", "F")
    if letter not in choices:
        raise ValueError(f"{path}, question {number}: expected an answer (A) to (F), found {answer!r}")
    return Item(
        sample_of(name, group, text, images), group, answer=letter, choices=choices,
        official_text=partial(official.letter_matches, letter=letter),
    )  # fmt: skip


def _questions(path: Path) -> list[object]:
    questions = read_json(path)
    if not isinstance(questions, list):
        raise ValueError(f"{path}: expected a JSON list of questions, found {type(questions).__name__}")
    return questions
