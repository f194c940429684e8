"""How models of each family are asked on the public benchmarks, and which published parser reads them.

The names and instructions are those of RefSpatial-Bench's published scripts, but chosen by the user of the benchmark,
not guessed from the model's name. How each writes coordinates is the library's own table (conventions.FAMILIES). Other
families of that table are asked in their own words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from roboref_core.prompting import conventions
from roboref_core.prompting.conventions import family_of
from roboref_core.prompting.prompt import SUFFIX

from offline.eval.benches import official
from offline.eval.benches.official import Target


@dataclass(frozen=True)
class Family:
    """One family of models.

    Attributes:
        instruction: with {prompt}, {suffix} and {object} to be filled in.
        coordinates: how it writes them.
        official: (text, width, height) -> targets: the published parser of its answers; may raise LeftOut. None: the
            published scripts know no such family.
        extra: appended to questions that ask for a point and state no format.
    """

    instruction: str
    coordinates: conventions.Family
    official: Callable[[str, int, int], list[Target]] | None
    extra: str = SUFFIX


def _absolute(text: str, width: int, height: int) -> list[Target]:
    return official.parse_tuples(text, width, height, absolute=True)


def _tuples(name: str) -> Family:
    return Family("{prompt} {suffix}", family_of(name), official.parse_tuples)


def _own_words(name: str) -> Family:
    coordinates = family_of(name)
    extra = conventions.restate(SUFFIX, coordinates)
    return Family("{prompt} " + extra.replace("{", "{{").replace("}", "}}"), coordinates, None, extra)


_JSON = "Output the point coordinates in JSON format."
_PUBLISHED = {
    "roborefer": _tuples("roborefer"),
    "robopoint": _tuples("robopoint"),
    "gpt": _tuples("normalised"),
    "claude": _tuples("normalised"),
    "molmo": Family("Locate several points of {object}.", family_of("molmo"), official.parse_xml, extra=""),
    "robobrain": Family(
        "{prompt} Please provide its 2D coordinates.", family_of("robobrain"), _absolute,
        extra="Please provide its 2D coordinates.",
    ),
    "gemini": Family("Locate one point of {object}.", family_of("gemini"), official.parse_json, extra=_JSON),
    "qwen": Family(
        "Locate {object} in this image and output the point coordinates in JSON format.", family_of("qwen2.5-vl"),
        _absolute, extra=_JSON,
    ),
}  # fmt: skip
_OTHERS = ("molmo2", "qwen3-vl", "internvl", "robobrain2.5", "paligemma", "florence", "magma", "kosmos", "thousand")
FAMILIES: dict[str, Family] = {**_PUBLISHED, **{name: _own_words(name) for name in _OTHERS}}
