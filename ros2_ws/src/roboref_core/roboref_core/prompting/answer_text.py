"""Answer text to points and back: the one parser and the one formatter.

The answer grammar is ``[(0.ddd, 0.ddd), ...] | NOT_VISIBLE``; the parser also takes what models write
around it. A text costs no more than its length, whatever it holds: brackets are paired in one pass, each
character is looked at in one group only, and a number has a longest form. Nothing guesses a scale.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

NOT_VISIBLE = "NOT_VISIBLE"

_CLOSING = {"(": ")", "[": "]"}
_NUMBER = r"[+-]?(?:[0-9]{1,64}(?:\.[0-9]{0,64})?|\.[0-9]{1,64})(?:[eE][+-]?[0-9]{1,3})?"
_PAIR = re.compile(rf"\s{{0,16}}({_NUMBER})\s{{0,16}},\s{{0,16}}({_NUMBER})\s{{0,16}}")
_LONGEST_PAIR = 400


@dataclass(frozen=True)
class Point:
    """The model points. ``points``: (x, y) in [0, 1] of the answered image, in the order of the text; at least one."""

    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class NotVisible:
    """The model says that what was asked for is not to be seen."""


@dataclass(frozen=True)
class Unparsable:
    """The text is neither of the others; ``reason`` says why."""

    reason: str


def parse(
    text: str, full_scale: tuple[float, float] = (1.0, 1.0), brackets: str = "("
) -> Point | NotVisible | Unparsable:
    """Read an answer.

    A text with ``NOT_VISIBLE`` anywhere is NotVisible. Otherwise every innermost bracket that holds exactly
    two decimal numbers is a point; brackets with anything else in them are passed over. One coordinate
    outside the image makes the whole answer Unparsable: it is in another scale than the one agreed on.

    Args:
        text: what the model wrote.
        full_scale: (x, y) of the image's far corner in the convention that the model was asked to use:
            (1, 1) normalised, (1000, 1000), or the image's width and height.
        brackets: opening brackets that may hold a pair, of "(" and "[" (JSON).
    """
    if NOT_VISIBLE in text:
        return NotVisible()
    points = []
    for first, second in _pairs(text, brackets):
        x, y = float(first) / full_scale[0], float(second) / full_scale[1]
        if not (0.0 <= x <= 1.0 and 0.0 <= y <= 1.0):
            expected = " x ".join(f"[0, {limit:g}]" for limit in full_scale)
            return Unparsable(f"point ({first[:20]}, {second[:20]}) lies outside {expected}")
        points.append((x, y))
    if not points:
        return Unparsable(f"expected {NOT_VISIBLE} or (x, y), found {text[:80]!r}")
    return Point(tuple(points))


def _pairs(text: str, brackets: str) -> Iterable[tuple[str, str]]:
    opening = None
    for bracket in re.finditer(r"[()\[\]]", text):
        if bracket.group() in _CLOSING:
            opening = bracket
            continue
        if opening is not None and _CLOSING[opening.group()] == bracket.group() and opening.group() in brackets:
            start, end = opening.end(), bracket.start()
            pair = _PAIR.fullmatch(text, start, end) if end - start <= _LONGEST_PAIR else None
            if pair:
                yield pair.groups()
        opening = None


def format_answer(points: Iterable[Sequence[float]] | None) -> str:
    """Write an answer in the grammar: three decimals a coordinate; None, or no point at all, is NOT_VISIBLE.

    Coordinates are in [0, 1]; what would round up to 1 is written 0.999, the last place of the grammar.
    """
    pairs = [] if points is None else [(float(x), float(y)) for x, y in points]
    for x, y in pairs:
        if not (0.0 <= x <= 1.0 and 0.0 <= y <= 1.0):
            raise ValueError(f"an answer's coordinates must lie in [0, 1], found ({x}, {y})")
    if not pairs:
        return NOT_VISIBLE
    return "[" + ", ".join(f"({_digits(x)}, {_digits(y)})" for x, y in pairs) + "]"


def _digits(value: float) -> str:
    return f"{abs(min(value, 0.999)):.3f}"  # abs: the grammar has no "-0.000"
