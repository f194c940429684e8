"""Answer text to points and back: the one parser and the one formatter.

The answer grammar is ``[(0.ddd, 0.ddd), ...] | NOT_VISIBLE``; the parser also takes what models write around it:
thoughts, wrappers, fences, prose, other brackets. A text costs no more than its length, whatever it holds, and
nothing guesses a scale.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from roboref_core.models.model_answer import Outcome
from roboref_core.prompting.coordinates import MAX_PLACES, AnswerForm, Place, Places, find_places
from roboref_core.prompting.final_answer import fenced_blocks, unwrapped, without_thoughts

NOT_VISIBLE = "NOT_VISIBLE"

# Markdown escapes the underscore.
_NOT_VISIBLE = re.compile(r"NOT\\?_VISIBLE")
_LABEL = re.compile(r'"label"\s{0,16}:\s{0,16}"([^"\\]{0,200})"')
_BARE_LINE = re.compile(r"\s{0,64}(?:[-*•]|\d{1,3}[.):])?\s{0,16}[(\[{<]")
# Full-width punctuation and digits, as Chinese and Japanese texts have them.
_FULL_WIDTH = str.maketrans("（）［］【】，．－＋０１２３４５６７８９", "()[][],.-+0123456789")
_HAS_FULL_WIDTH = re.compile("[（［【]")


@dataclass(frozen=True)
class ParsedAnswer:
    """What a text says.

    Attributes:
        outcome: visible, not visible or unparsable.
        points: (x, y) in [0, 1] of the answered image, in the order of the text; at least one if visible, else none.
        reason: why the text is unparsable; empty otherwise.
        labels: what the text calls each point, if it names all of them; else empty.
    """

    outcome: Outcome
    points: tuple[tuple[float, float], ...] = ()
    reason: str = ""
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class ParsedPlaces:
    """As ParsedAnswer, but ``places`` are points (x, y) and boxes (x0, y0, x1, y1)."""

    outcome: Outcome
    places: tuple[tuple[float, ...], ...] = ()
    reason: str = ""
    labels: tuple[str, ...] = ()


def parse(
    text: str,
    full_scale: tuple[float, float] = (1.0, 1.0),
    brackets: str = "(",
    form: AnswerForm = AnswerForm.LIST,
    y_first: bool = False,
) -> ParsedAnswer:
    """Read an answer.

    Thoughts are left out; a thought that does not end makes the answer unparsable. What stands in ``<answer>``,
    ``\\boxed{}`` or the last fenced block with an answer in it comes before what stands around it, a list in square
    brackets before coordinates in prose, and a later line before an earlier one. NOT_VISIBLE decides over
    coordinates of its own line and of lines before it.

    Two numbers are a point. Four are a box and count as its centre, unless there are points too. One coordinate
    outside the image makes the whole answer unparsable: it is in another scale than the one agreed on.

    Args:
        text: what the model wrote.
        full_scale: (x, y) of the image's far corner in the convention that the model was asked to use:
            (1, 1) normalised, (1000, 1000), or the image's width and height.
        brackets: opening brackets that may hold coordinates, of "(" and "[" (JSON).
        form: how the model writes coordinates.
        y_first: it writes y before x.
    """
    return centres(parse_places(text, full_scale, brackets, form, y_first))


def parse_places(
    text: str,
    full_scale: tuple[float, float] = (1.0, 1.0),
    brackets: str = "(",
    form: AnswerForm = AnswerForm.LIST,
    y_first: bool = False,
) -> ParsedPlaces:
    """As ``parse``, with boxes as boxes."""
    answer = without_thoughts(text)
    if answer is None:
        return _unparsable("the model's thoughts do not end, so there is no answer yet")
    answer = unwrapped(answer)
    if _HAS_FULL_WIDTH.search(answer):
        answer = answer.translate(_FULL_WIDTH)
    for part in (*fenced_blocks(answer), answer):
        found = find_places(part, form, brackets)
        if found.places or _NOT_VISIBLE.search(part):
            return _decide(part, found, full_scale, y_first)
    return _unparsable(f"expected {NOT_VISIBLE} or (x, y), found {answer.strip()[:80]!r}")


def _decide(text: str, found: Places, full_scale: tuple[float, float], y_first: bool) -> ParsedPlaces:
    start, end = _chosen(text, found)
    if any(refusal.start() >= _line_start(text, start) for refusal in _NOT_VISIBLE.finditer(text)):
        return ParsedPlaces(Outcome.NOT_VISIBLE)
    chosen = [place for place in found.places if start <= place.start and place.end <= end]
    if len(chosen) == MAX_PLACES and found.dropped:
        return _unparsable(f"more than {MAX_PLACES} points")
    points = [place for place in chosen if len(place.numbers) == 2] or chosen
    read = []
    for place in points:
        scaled = _scaled(place, full_scale, y_first)
        if isinstance(scaled, str):
            return _unparsable(scaled)
        read.append(scaled)
    labels = _LABEL.findall(text, start, end)
    return ParsedPlaces(Outcome.VISIBLE, tuple(read), labels=tuple(labels) if len(labels) == len(read) else ())


def _chosen(text: str, found: Places) -> tuple[int, int]:
    """Where the places that count stand: the last list, or else the last line with places, or list of such lines."""
    if not found.places:
        return 0, len(text)
    if found.lists:
        return found.lists[-1]
    last = found.places[-1]
    start = _line_start(text, last.start)
    for place in reversed(found.places):
        if place.start >= start:
            continue
        line = _line_start(text, place.start)
        # Consecutive lines that begin with coordinates are one list.
        if not _BARE_LINE.match(text, start) or not _BARE_LINE.match(text, line) or text.count("\n", line, start) > 1:
            break
        start = line
    return start, last.end


def _line_start(text: str, position: int) -> int:
    return text.rfind("\n", 0, position) + 1


def _scaled(place: Place, full_scale: tuple[float, float], y_first: bool) -> tuple[float, ...] | str:
    """The place in [0, 1], x before y; or why it cannot be."""
    numbers = place.numbers
    if y_first:
        numbers = tuple(number for i in range(0, len(numbers), 2) for number in (numbers[i + 1], numbers[i]))
    scaled = [number / full_scale[i % 2] for i, number in enumerate(numbers)]
    if not all(0.0 <= number <= 1.0 for number in scaled):
        written = ", ".join(f"{number:g}" for number in place.numbers)
        kind = "point" if len(numbers) == 2 else "box"
        return f"{kind} ({written}) lies outside {' x '.join(f'[0, {limit:g}]' for limit in full_scale)}"
    if len(scaled) == 4 and (scaled[2] < scaled[0] or scaled[3] < scaled[1]):
        return f"box ({', '.join(f'{number:g}' for number in place.numbers)}) ends before it begins"
    return tuple(scaled)


def centres(found: ParsedPlaces) -> ParsedAnswer:
    """Boxes as their centres."""
    points = tuple(((place[0] + place[-2]) / 2, (place[1] + place[-1]) / 2) for place in found.places)
    return ParsedAnswer(found.outcome, points, found.reason, found.labels)


def _unparsable(reason: str) -> ParsedPlaces:
    return ParsedPlaces(Outcome.UNPARSABLE, reason=reason)


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
