"""The published scorers of RefSpatial-Bench and Where2Place: what they parse, what they drop, what they average.

RefSpatial-Bench's rules (Zhoues/RoboRefer at d97a995ad283; recordings of it are in test/fixtures): points are
tuples of plain decimals in round brackets, scaled if one of the two has a decimal point; four numbers are a box of
pixels, ends excluded, unclipped; a question whose answer raises is left out of the mean. Where2Place's
(wentaoyuan/RoboPoint at 9d54aacae60a) are their origin: boxes are clipped, and scaled if their first number has a
decimal point. What is wrong with them is mended in ``strict``; this module is for comparing with published figures.

Boxes are kept as boxes: ``(10, 20, 30, 40)`` means some 10^8 pixels after scaling, which the published code allocates.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_TUPLE = re.compile(r"\(([-+]?\d+\.?\d*(?:,\s*[-+]?\d+\.?\d*)*?)\)")
_XML_POINT = re.compile(r'x\d+="(-?\d+\.?\d*)"\s+y\d+="(-?\d+\.?\d*)"')
_JSON_BLOCK = re.compile(r"```(?:\w+)?\n(.*?)```", re.DOTALL)

_BRACKETED = re.compile(r"\(([A-F])\)")
_BARE = re.compile(r"([A-F])(?:[.:)\s]|$)")


class LeftOut(ValueError):
    """The published scorer raises on this answer, and leaves its question out of the mean."""


@dataclass(frozen=True)
class Box:
    """All pixels with x0 <= x < x1 and y0 <= y < y1."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def count(self) -> int:
        return (self.x1 - self.x0) * (self.y1 - self.y0)

    def inside(self, mask: np.ndarray) -> float:
        """Sum of the mask's values over the box's pixels; those outside the picture count 0."""
        return float(mask[max(self.y0, 0) : max(self.y1, 0), max(self.x0, 0) : max(self.x1, 0)].sum())


Target = tuple[float, float] | Box


def parse_tuples(text: str, width: int, height: int, absolute: bool = False, clipped: bool = False) -> list[Target]:
    """Points and boxes of models that write tuples.

    Args:
        absolute: numbers are pixels as they are (RoboBrain, Qwen); else as above (RoboRefer, RoboPoint, ...).
        clipped: boxes as Where2Place's scorer reads them.

    Raises LeftOut where the published parser raises.
    """
    targets: list[Target] = []
    x: float
    y: float
    for match in _TUPLE.finditer(text):
        numbers = [float(n) if "." in n else int(n) for n in match.group(1).split(",")]
        if len(numbers) == 2:
            x, y = numbers
            if not absolute and (isinstance(x, float) or isinstance(y, float)):
                x, y = int(x * width), int(y * height)
            targets.append((x, y))
        elif len(numbers) == 4:
            box = _clipped_box if clipped else _box
            targets.append(box(numbers, width, height, absolute))
    return targets


def _clipped_box(numbers: Sequence[float], width: int, height: int, absolute: bool) -> Box:
    x0, y0, x1, y1 = numbers
    if isinstance(x0, float) and not absolute:
        x0, y0, x1, y1 = x0 * width, y0 * height, x1 * width, y1 * height
    x0, x1 = (int(np.clip(int(x), 0, width)) for x in (x0, x1))
    y0, y1 = (int(np.clip(int(y), 0, height)) for y in (y0, y1))
    return Box(x0, y0, max(x0, x1), max(y0, y1))


def _box(numbers: Sequence[float], width: int, height: int, absolute: bool) -> Box:
    if absolute and any(isinstance(number, float) for number in numbers):
        raise LeftOut("a box of pixels must be of integers")
    scale = (1, 1) if absolute else (width, height)
    x0, y0, x1, y1 = (int(number * scale[i % 2]) for i, number in enumerate(numbers))
    if x1 < x0 or y1 < y0:
        raise LeftOut("negative dimensions are not allowed")
    return Box(x0, y0, x1, y1)


def parse_xml(text: str, width: int, height: int) -> list[Target]:
    """Molmo's ``<points x1="10" y1="20" x2=...>`` in percent: negative ones too, none with spaces around ``=``, and no
    single ``<point x="..." y="...">``.
    """
    return [(int(float(x) / 100 * width), int(float(y) / 100 * height)) for x, y in _XML_POINT.findall(text)]


def parse_json(text: str, width: int, height: int) -> list[Target]:
    """Gemini's ``[{"point": [y, x], ...}]`` in thousandths, in the first fenced block that begins on a line of its own.

    Without a block, or with one that is not JSON, there is no point, and the question counts as wrong. Entries without
    a pair under "point" are passed over. Raises LeftOut where the published parser raises: for JSON of another shape.
    """
    block = _JSON_BLOCK.search(text)
    if block is None:
        return []
    try:
        entries = json.loads(block.group(1).strip())
    except json.JSONDecodeError:
        return []
    except (ValueError, RecursionError) as error:
        raise LeftOut(f"JSON that cannot be read: {error}") from error
    targets: list[Target] = []
    try:
        for entry in entries:
            if "point" in entry and isinstance(entry["point"], list) and len(entry["point"]) == 2:
                y, x = entry["point"]
                targets.append((int(x / 1000 * width), int(y / 1000 * height)))
    except (ValueError, TypeError, OverflowError) as error:
        raise LeftOut(f"JSON of another shape: {error}") from error
    return targets


def accuracy(targets: Sequence[Target], mask: np.ndarray) -> float:
    """Mean over all predicted pixels of the mask's value (0 to 1) there; 0 without any.

    Args:
        mask: (h, w), 1 inside. Pixels outside of it count 0.
    """
    hits, total = 0.0, 0
    for target in targets:
        if isinstance(target, Box):
            hits, total = hits + target.inside(mask), total + target.count
        else:
            x, y = int(target[0]), int(target[1])
            inside = 0 <= x < mask.shape[1] and 0 <= y < mask.shape[0]
            hits, total = hits + (float(mask[y, x]) if inside else 0.0), total + 1
    return hits / total if total else 0.0


def summary(accuracies: Sequence[float | None]) -> str:
    """The published scorer's last line. None: left out."""
    kept = [value for value in accuracies if value is not None]
    mean = float(np.mean(kept)) if kept else float("nan")
    return f"Accuracy: {mean:.4f}, Evaluated: {len(kept)}, Total: {len(accuracies)}"


def letter_matches(text: str, letter: str) -> float:
    """A choice by its letter: "(A)" anywhere, or the answer is "A", "A." or begins with "A. ".

    The published scripts of CV-Bench and BLINK compare "(A)" with what was taken from the answer; where nothing can be
    taken, BLINK's asks a language model, which is not done here: that counts as wrong.
    """
    bracketed = _BRACKETED.findall(text)
    if bracketed:
        return float(bracketed[0] == letter)
    bare = _BARE.match(text.strip())
    return float(bare is not None and bare.group(1) == letter)
