"""How models of each family are asked on the public benchmarks, and in which scale they answer.

The families and instructions are those of RefSpatial-Bench's published scripts, but chosen by whoever runs the
benchmark, not guessed from the model's name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from roboref_core.prompting.prompt import SUFFIX, Convention

from offline.eval.benches import official
from offline.eval.benches.official import Target


@dataclass(frozen=True)
class Family:
    """One family of models.

    Attributes:
        instruction: with {prompt}, {suffix} and {object} to be filled in.
        convention: scale of the coordinates it writes.
        official: (text, width, height) -> targets: the published parser of its answers; may raise LeftOut.
        percent: it writes Molmo's attributes, x1="10" y1="20", in percent whatever the convention.
        y_first: it writes [y, x], as Gemini does.
        extra: appended to questions that ask for a point and state no format.
    """

    instruction: str
    convention: Convention
    official: Callable[[str, int, int], list[Target]]
    percent: bool = False
    y_first: bool = False
    extra: str = SUFFIX


def _absolute(text: str, width: int, height: int) -> list[Target]:
    return official.parse_tuples(text, width, height, absolute=True)


_TUPLES = Family("{prompt} {suffix}", Convention.NORMALISED, official.parse_tuples)
_JSON = "Output the point coordinates in JSON format."
FAMILIES: dict[str, Family] = {
    "roborefer": _TUPLES,
    "robopoint": _TUPLES,
    "gpt": _TUPLES,
    "claude": _TUPLES,
    "molmo": Family(
        "Locate several points of {object}.", Convention.NORMALISED, official.parse_xml, percent=True, extra=""
    ),
    "robobrain": Family(
        "{prompt} Please provide its 2D coordinates.", Convention.PIXELS, _absolute,
        extra="Please provide its 2D coordinates.",
    ),
    "gemini": Family(
        "Locate one point of {object}.", Convention.THOUSAND, official.parse_json, y_first=True, extra=_JSON
    ),
    "qwen": Family(
        "Locate {object} in this image and output the point coordinates in JSON format.", Convention.PIXELS,
        _absolute, extra=_JSON,
    ),
}  # fmt: skip
