"""How each family of models writes coordinates: one table for the backends, the benchmarks and the documentation.

The configuration of a model states its family, or for models that are not listed the scale alone ("normalised",
"thousand", "pixels"). Nothing is guessed from a model's name or from the size of its numbers. A question that states
its own scale, as some benchmarks' do, is read in that one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from roboref_core.prompting.coordinates import AnswerForm
from roboref_core.prompting.prompt import SUFFIX


class Convention(Enum):
    """A scale of coordinates."""

    NORMALISED = "normalised"
    """[0, 1] of the picture's width and height."""
    PERCENT = "percent"
    """0 to 100 of the picture's width and height."""
    THOUSAND = "thousand"
    """0 to 1000 of the picture's width and height."""
    PIXELS = "pixels"
    """Pixels of the picture in the size in which the model's own preprocessing, or the sender, resized it."""
    BINS_1024 = "1024 bins"
    """0 to 1023 of the picture's width and height."""
    CELLS_32 = "32 cells"
    """Columns and rows of a 32 x 32 grid."""

    def full_scale(self, size: tuple[int, int]) -> tuple[float, float]:
        """(x, y) of the far corner of a picture of ``size`` (width, height)."""
        side = {"normalised": 1.0, "percent": 100.0, "thousand": 1000.0, "1024 bins": 1024.0, "32 cells": 32.0}
        if self is Convention.PIXELS:
            return float(size[0]), float(size[1])
        return side[self.value], side[self.value]


@dataclass(frozen=True)
class Family:
    """How one family of models is asked for points, and answers.

    Attributes:
        name: by which backends and benchmarks know it.
        models: what it holds.
        convention: scale of its coordinates.
        form: how they are written.
        example: the point a quarter from the left and three quarters from the top of a 400 x 200 picture.
        suffix: asks for that form, in place of RoboRefer's own words; may hold {width} and {height}.
        y_first: it writes y before x.
        source: where its form is described.
    """

    name: str
    models: str
    convention: Convention
    form: AnswerForm
    example: str
    suffix: str
    y_first: bool = False
    source: str = ""


_LIST_OF_TUPLES, _, _ = SUFFIX.partition(" The coordinates should be ")
_THOUSAND = (
    f"{_LIST_OF_TUPLES} The coordinates should be integers between 0 and 1000, relative to the width and the height of "
    "the image."
)
_PIXELS = (
    f"{_LIST_OF_TUPLES} The coordinates should be pixels of the image, which is {{width}} wide and {{height}} high."
)
_ROBOPOINT = (
    "Your answer should be formatted as a list of tuples, i.e. [(x1, y1), (x2, y2), ...], where each tuple contains "
    "the x and y coordinates of a point satisfying the conditions above. The coordinates should be between 0 and 1, "
    "indicating the normalized pixel locations of the points in the image."
)
_QWEN_JSON = 'Output the point coordinates in JSON format, i.e. [{{"point_2d": [x, y], "label": "name"}}].'
_POINT_2D = '[{{"point_2d": [{x}, {y}], "label": "mug"}}]'
_LIST = AnswerForm.LIST

_TABLE = (
    Family(
        "roborefer", "RoboRefer, NVILA trained on its data, LLaVA-OneVision for robots", Convention.NORMALISED, _LIST,
        "[(0.250, 0.750)]", SUFFIX, source="RoboRefer, arXiv 2506.04308",
    ),
    Family(
        "robopoint", "RoboPoint", Convention.NORMALISED, _LIST, "[(0.250, 0.750)]", _ROBOPOINT,
        source="RoboPoint, arXiv 2406.10721",
    ),
    Family(
        "molmo", "Molmo 7B, 72B and MolmoE", Convention.PERCENT, AnswerForm.ATTRIBUTES,
        '<point x="25.0" y="75.0" alt="mug">mug</point>', "Point to it.", source="Molmo, arXiv 2409.17146",
    ),
    Family(
        "molmo2", "Molmo 2", Convention.THOUSAND, AnswerForm.INDEXED, '<points coords="1 1 250 750">mug</points>',
        "Point to it.", source="the model cards of Molmo 2",
    ),
    Family(
        "qwen2.5-vl", "Qwen2.5-VL", Convention.PIXELS, _LIST, _POINT_2D.format(x=100, y=150),
        f"{_QWEN_JSON} Coordinates are pixels of the image, which is {{width}} wide and {{height}} high.",
        source="Qwen2.5-VL, arXiv 2502.13923, and its cookbooks",
    ),
    Family(
        "qwen3-vl", "Qwen3-VL and later Qwen models with vision", Convention.THOUSAND, _LIST,
        _POINT_2D.format(x=250, y=750), f"{_QWEN_JSON} Coordinates are relative, from 0 to 1000.",
        source="Qwen3-VL's cookbooks",
    ),
    Family(
        "internvl", "InternVL 2 to 3.5", Convention.THOUSAND, _LIST, "<ref>mug</ref><box>[[200, 700, 300, 800]]</box>",
        _THOUSAND, source="InternVL's documentation, grounding",
    ),
    Family(
        "gemini", "Gemini 2 and later, Gemini Robotics-ER", Convention.THOUSAND, _LIST,
        '```json\n[{"point": [750, 250], "label": "mug"}]\n```',
        'The answer should follow the JSON format: [{{"point": [y, x], "label": "name"}}]. The points are in [y, x] '
        "format normalized to 0-1000.",
        y_first=True, source="Gemini API documentation, robotics",
    ),
    Family(
        "robobrain", "RoboBrain 2.0", Convention.PIXELS, _LIST, "[(100, 150)]",
        f"{_LIST_OF_TUPLES} The coordinates should be integers, indicating the absolute pixel locations of the points "
        "in the image, which is {width} wide and {height} high.",
        source="RoboBrain 2.0, arXiv 2507.02029",
    ),
    Family(
        "robobrain2.5", "RoboBrain 2.5", Convention.THOUSAND, _LIST, "[(250, 750)]", _THOUSAND,
        source="RoboBrain 2.5, arXiv 2601.14352",
    ),
    Family(
        "paligemma", "PaliGemma 1 and 2", Convention.BINS_1024, AnswerForm.LOC_TOKENS,
        "<loc0717><loc0205><loc0819><loc0307> mug", "", y_first=True, source="PaliGemma, arXiv 2407.07726",
    ),
    Family(
        "florence", "Florence-2", Convention.THOUSAND, AnswerForm.BIN_TOKENS,
        "mug<loc_200><loc_700><loc_299><loc_799>", "", source="Florence-2, arXiv 2311.06242",
    ),
    Family(
        "magma", "Magma", Convention.NORMALISED, _LIST, "Coordinate: (0.25, 0.75), Mark: 3", SUFFIX,
        source="Magma, arXiv 2502.13130",
    ),
    Family(
        "kosmos", "Kosmos-2", Convention.CELLS_32, AnswerForm.PATCH_TOKENS,
        "<phrase>mug</phrase><object><patch_index_0742><patch_index_0809></object>", "",
        source="Kosmos-2, arXiv 2306.14824",
    ),
    Family(
        "normalised", "any other that writes 0 to 1", Convention.NORMALISED, _LIST, "[(0.250, 0.750)]", SUFFIX,
    ),
    Family(
        "thousand", "any other that writes 0 to 1000", Convention.THOUSAND, _LIST, "[(250, 750)]", _THOUSAND,
    ),
    Family(
        "pixels", "any other that writes pixels of the picture as it sees it", Convention.PIXELS, _LIST, "[(100, 150)]",
        _PIXELS,
    ),
)  # fmt: skip
FAMILIES = {family.name: family for family in _TABLE}


def family_of(convention: Family | Convention | str) -> Family:
    """The family of a name or a bare scale. Raises ValueError with the list of all for any other name."""
    if isinstance(convention, Family):
        return convention
    name = convention.value if isinstance(convention, Convention) else convention
    if name not in FAMILIES:
        raise ValueError(
            f"unknown convention of coordinates {name!r}: state the model's family or scale, one of "
            f"{', '.join(FAMILIES)}"
        )
    return FAMILIES[name]


def restate(text: str, convention: Family | Convention | str, size: tuple[int, int] = (1, 1)) -> str:
    """The same prompt asking for coordinates as a family writes them: replaces SUFFIX, where the text has it.

    Args:
        size: (width, height) of the answered picture as the model sees it; for PIXELS only.
    """
    family = family_of(convention)
    if family.suffix == SUFFIX or SUFFIX not in text:
        return text
    suffix = family.suffix
    if "{{" in suffix or "{width}" in suffix:
        suffix = suffix.format(width=size[0], height=size[1])
    return text.replace(SUFFIX, suffix).rstrip()


_STATED = (
    (Convention.THOUSAND, re.compile(r"(?:\b0(?:\.0)?\s?(?:and|to|-|–|~|,)\s?1,?000\b)|\bper ?mille\b", re.IGNORECASE)),
    (Convention.PERCENT, re.compile(r"\b0(?:\.0)?\s?(?:and|to|-|–|~|,)\s?100\b(?![.,]?\d)", re.IGNORECASE)),
    (Convention.NORMALISED, re.compile(r"\b0(?:\.0+)?\s?(?:and|to|-|–|~|,)\s?1(?:\.0+)?\b(?![.,]?\d)", re.IGNORECASE)),
    (Convention.PIXELS, re.compile(r"\babsolute pixel|\bin pixels?\b|\bpixel coordinates\b", re.IGNORECASE)),
)


def stated_scale(text: str) -> Convention | None:
    """The scale that a question states for its answer; None if it states none, more than one, or asks by SUFFIX.

    SUFFIX is restated for each family (see ``restate``), so it says nothing about what comes back.
    """
    if SUFFIX in text:
        return None
    found = [scale for scale, pattern in _STATED if pattern.search(text)]
    return found[0] if len(found) == 1 else None
