"""What the published scorers get wrong, mended: one stated scale, every question counts, edges belong to the picture.

An answer is read under the convention that its family states, never by the look of its numbers: points and boxes in
brackets, or Molmo's and Gemini's forms. A coordinate outside the picture, a box inside out, or nothing to read make
the whole answer unparsable, and that counts as wrong. x = 1 is the last pixel. Each point counts its mask pixel and
each box its share of mask pixels; an answer counts the mean of what it names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from roboref_core.prompting.prompt import Convention

from offline.eval.benches.families import Family

_NUMBER = r"[+-]?(?:\d{1,32}(?:\.\d{0,32})?|\.\d{1,32})(?:[eE][+-]?\d{1,3})?"
_BRACKET = re.compile(r"[(\[]([^()\[\]]{1,400})[)\]]")
_LIST = re.compile(rf"\s{{0,16}}{_NUMBER}\s{{0,16}}(?:,\s{{0,16}}{_NUMBER}\s{{0,16}}){{1,3}}")
_ATTRIBUTE_POINT = re.compile(
    rf'\bx(?P<n>\d{{0,4}})\s{{0,16}}=\s{{0,16}}"({_NUMBER})"\s{{1,16}}y(?P=n)\s{{0,16}}=\s{{0,16}}"({_NUMBER})"'
)


def read(text: str, family: Family, size: tuple[int, int]) -> list[tuple[float, ...]] | None:
    """The points (x, y) and boxes (x0, y0, x1, y1) of an answer, in [0, 1]; None: unparsable.

    Args:
        size: (width, height) of the picture that pixels refer to.
    """
    full = {Convention.NORMALISED: (1.0, 1.0), Convention.THOUSAND: (1000.0, 1000.0), Convention.PIXELS: size}
    scale = np.array((100.0, 100.0) if family.percent else full[family.convention])
    targets = []
    for numbers in _attributes(text) if family.percent else _brackets(text):
        values = np.array(numbers)
        values = (values.reshape(-1, 2)[:, ::-1] if family.y_first else values.reshape(-1, 2)) / scale
        if not ((values >= 0.0) & (values <= 1.0)).all():
            return None
        if len(values) == 2 and not (values[1] > values[0]).all():
            return None
        targets.append(tuple(values.ravel().tolist()))
    return targets or None


def _brackets(text: str) -> Iterator[tuple[float, ...]]:
    """Innermost brackets that hold exactly two or four decimal numbers."""
    for bracket in _BRACKET.finditer(text):
        inside = bracket.group(1)
        if _LIST.fullmatch(inside) and inside.count(",") in (1, 3):
            yield tuple(float(number) for number in inside.split(","))


def _attributes(text: str) -> Iterator[tuple[float, float]]:
    for found in _ATTRIBUTE_POINT.finditer(text):
        yield float(found.group(2)), float(found.group(3))


def accuracy(targets: list[tuple[float, ...]] | None, mask: np.ndarray) -> float:
    """Mean over points and boxes of what they have in the mask (h, w) bool; 0 for an unparsable answer."""
    if not targets:
        return 0.0
    return float(np.mean([_share(target, mask) for target in targets]))


def _share(target: tuple[float, ...], mask: np.ndarray) -> float:
    size = np.array(mask.shape[::-1])
    first = np.minimum(np.floor(np.array(target[:2]) * size), size - 1).astype(int)
    if len(target) == 2:
        return float(mask[first[1], first[0]])
    # Pixels that the box touches; at least one.
    end = np.maximum(np.minimum(np.ceil(np.array(target[2:]) * size), size).astype(int), first + 1)
    return float(mask[first[1] : end[1], first[0] : end[0]].mean())
