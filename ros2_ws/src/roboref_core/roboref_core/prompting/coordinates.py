"""Coordinates in text, in the forms in which vision-language models write them; no scale is applied here.

Each form is read in one pass. Brackets are paired with a bounded stack, numbers have a longest form, and no more than
``MAX_PLACES`` places are kept, so that a text costs no more than its length.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

MAX_PLACES = 512
_DEEPEST = 64
_LONGEST = 400
_CLOSING = {"(": ")", "[": "]"}
_N = r"[+-]?(?:[0-9]{1,64}(?:\.[0-9]{0,64})?|\.[0-9]{1,64})(?:[eE][+-]?[0-9]{1,3})?"
_S = r"\s{0,16}"
_COMMA = rf"{_S},{_S}"
_NUMBERS = re.compile(rf"{_S}{_N}{_COMMA}{_N}(?:{_COMMA}{_N}{_COMMA}{_N})?{_S}")
_IS = rf"{_S}:{_S}"
# Places that are named rather than put into one pair of brackets.
_NAMED = (
    rf'"x"{_IS}(?P<x>{_N}){_COMMA}"y"{_IS}(?P<y>{_N})',
    rf'"x_?(?:1|min)"{_IS}(?P<a>{_N}){_COMMA}"y_?(?:1|min)"{_IS}(?P<b>{_N})'
    rf'{_COMMA}"x_?(?:2|max)"{_IS}(?P<c>{_N}){_COMMA}"y_?(?:2|max)"{_IS}(?P<d>{_N})',
    rf"<point>{_S}(?P<px>{_N})\s{{1,16}}(?P<py>{_N}){_S}</point>",
    rf"<bbox>{_S}(?P<b0>{_N})\s{{1,16}}(?P<b1>{_N})\s{{1,16}}(?P<b2>{_N})\s{{1,16}}(?P<b3>{_N}){_S}</bbox>",
    # A box as two corners: Qwen-VL and Qwen2-VL, and JSON of boxes as pairs of points.
    rf"<(?:\|box_start\||box)>{_S}\((?P<e>{_N}),{_S}(?P<f>{_N})\){_S},?{_S}\((?P<g>{_N}),{_S}(?P<h>{_N})\)",
    rf'"(?:bbox|box)(?:_2d)?"{_IS}\[{_S}\[{_S}(?P<i>{_N}){_COMMA}(?P<j>{_N}){_S}\]{_COMMA}'
    rf"\[{_S}(?P<k>{_N}){_COMMA}(?P<l>{_N}){_S}\]{_S}\]",
)
_TOKEN = re.compile(r"[()\[\]]|" + "|".join(_NAMED))
_QUOTED = r"""=\s{0,16}["']\s{0,16}"""
_ATTRIBUTES = re.compile(
    rf"""\bx(?P<n>\d{{0,4}})\s{{0,16}}{_QUOTED}(?P<x>{_N})\s{{0,16}}["']\s{{1,16}}"""
    rf"""y(?P=n)\s{{0,16}}{_QUOTED}(?P<y>{_N})\s{{0,16}}["']"""
)
_COORDS = re.compile(r"""\bcoords\s{0,16}=\s{0,16}["']([0-9 \t.;:,]{1,20000})["']""")
_INDEXED = re.compile(r"(?<![0-9.])([0-9]{1,4}) ([0-9]{3,4}) ([0-9]{3,4})(?![0-9.])")
_RUNS = {
    "loc": re.compile(r"(?:<loc\d{4}>){1,64}"),
    "bin": re.compile(r"(?:<loc_\d{1,4}>){1,64}"),
    "patch": re.compile(r"(?:<patch_index_\d{4}>){1,64}"),
}
_DIGITS = re.compile(r"\d{1,4}")


class AnswerForm(Enum):
    """How coordinates are written."""

    LIST = "list"
    """Pairs or boxes in brackets, JSON included: [(0.5, 0.4)], [{"point_2d": [500, 400]}]."""
    ATTRIBUTES = "attributes"
    """Molmo's <point x="50.0" y="40.0"> and <points x1="50.0" y1="40.0" x2=...>."""
    INDEXED = "indexed"
    """Molmo 2's <points coords="1 1 500 400 2 ...">: picture, then number, x and y of each point."""
    LOC_TOKENS = "loc"
    """PaliGemma's <loc0512>, two for a point, four for a box."""
    BIN_TOKENS = "bin"
    """Florence's <loc_500>, two for a point, four for a box."""
    PATCH_TOKENS = "patch"
    """Kosmos' <patch_index_0512>: cells of a 32 x 32 grid, two for the corners of a box."""


@dataclass(frozen=True)
class Place:
    """One point (2 numbers) or box (4 numbers: the first corner, then the opposite one), as written.

    Attributes:
        start, end: where it stands in the text.
        numbers: in the order of the text; tokens count from 0 to their number of bins.
    """

    start: int
    end: int
    numbers: tuple[float, ...]


@dataclass(frozen=True)
class Places:
    """What a text holds.

    Attributes:
        places: in the order of the text, the last ``MAX_PLACES`` of them.
        lists: (start, end) of the outermost square brackets with places in them.
        dropped: how many places came before those kept.
    """

    places: list[Place]
    lists: list[tuple[int, int]] = field(default_factory=list)
    dropped: int = 0


def find_places(text: str, form: AnswerForm = AnswerForm.LIST, brackets: str = "([") -> Places:
    """Every point and box of a text.

    Args:
        brackets: opening brackets that may hold a place, of "(" and "["; LIST only.
    """
    if form is AnswerForm.LIST:
        return _bracketed(text, brackets)
    found = {
        AnswerForm.ATTRIBUTES: _attributes,
        AnswerForm.INDEXED: _indexed,
    }.get(form)
    kept: deque[Place] = deque(maxlen=MAX_PLACES)
    count = 0
    for place in found(text) if found else _tokens(text, form):
        kept.append(place)
        count += 1
    return Places(list(kept), dropped=count - len(kept))


def _bracketed(text: str, brackets: str) -> Places:
    kept: deque[Place] = deque(maxlen=MAX_PLACES)
    lists: list[tuple[int, int]] = []
    stack: deque[tuple[str, int]] = deque(maxlen=_DEEPEST)
    count, innermost = 0, False
    for token in _TOKEN.finditer(text):
        bracket = token.group()
        if bracket in _CLOSING:
            stack.append((bracket, token.start()))
            innermost = True
            continue
        if len(bracket) > 1:
            kept.append(Place(token.start(), token.end(), tuple(float(n) for n in token.groups() if n is not None)))
            count, innermost = count + 1, False
            continue
        opening, start = stack.pop() if stack else ("", 0)
        if _CLOSING.get(opening) != bracket:
            stack.clear()
        elif innermost:
            if opening in brackets and token.start() - start <= _LONGEST:
                inside = _NUMBERS.fullmatch(text, start + 1, token.start())
                if inside:
                    numbers = tuple(float(number) for number in inside.group().split(","))
                    kept.append(Place(start, token.end(), numbers))
                    count += 1
        elif opening == "[" and kept and kept[-1].start > start:
            while lists and lists[-1][0] > start:
                lists.pop()
            lists.append((start, token.end()))
            del lists[:-MAX_PLACES]
        innermost = False
    return Places(list(kept), lists, count - len(kept))


def _attributes(text: str) -> Iterator[Place]:
    for found in _ATTRIBUTES.finditer(text):
        yield Place(found.start(), found.end(), (float(found.group("x")), float(found.group("y"))))


def _indexed(text: str) -> Iterator[Place]:
    """Points of the last picture that is named: answers are about the last picture."""
    for attribute in _COORDS.finditer(text):
        last = re.split(r"[;:,\t]", attribute.group(1).strip())[-1]
        _, _, points = last.strip().partition(" ")
        for found in _INDEXED.finditer(points):
            yield Place(attribute.start(), attribute.end(), (float(found.group(2)), float(found.group(3))))


def _tokens(text: str, form: AnswerForm) -> Iterator[Place]:
    for run in _RUNS[form.value].finditer(text):
        values = [float(digits.group()) for digits in _DIGITS.finditer(run.group())]
        size = 4 if len(values) % 4 == 0 else 2
        if form is AnswerForm.PATCH_TOKENS:
            # A cell is a row and a column; from here on it is the place of its centre.
            if len(values) % 2:
                continue
            cells = [divmod(int(value), 32) for value in values]
            values = [coordinate + 0.5 for row, column in cells for coordinate in (column, row)]
            size = 4
        elif len(values) % 4 and len(values) != 2:
            continue  # a polygon
        elif form is AnswerForm.BIN_TOKENS:
            values = [value + 0.5 for value in values]
        for i in range(0, len(values), size):
            yield Place(run.start(), run.end(), tuple(values[i : i + size]))
