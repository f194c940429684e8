"""ScanNet's label table, and which labels name the building rather than an object."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from offline.data_engine.sources.damaged import read_text

LABEL_FILE = "scannetv2-labels.combined.tsv"

# NYU40 classes that are the building, by family. Doors and windows belong to it: they are fixed and may be open.
_FAMILY_OF_NYU40 = {1: "wall", 2: "floor", 22: "ceiling", 8: "door", 9: "window"}
_NYU40 = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture", "counter",
    "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor mat", "clothes", "ceiling", "books",
    "refridgerator", "television", "paper", "towel", "shower curtain", "box", "whiteboard", "person", "night stand",
    "toilet", "sink", "lamp", "bathtub", "bag", "otherstructure", "otherfurniture", "otherprop",
)  # fmt: skip
"""NYU40 classes by id from 1, as published ("refridgerator" sic)."""
_NYU40_SPELLINGS = {"refrigerator": "refridgerator", "tv": "television", "nightstand": "night stand"}
_NYU40_PREFIX = "nyu40:"
# The last word of a label names the thing ("closet walls" are walls, a "wall lamp" is a lamp).
_FAMILY_OF_NOUN = {
    "wall": "wall",
    "floor": "floor",
    "flooring": "floor",
    "ceiling": "ceiling",
    "door": "door",
    "doorframe": "door",
    "doorway": "door",
    "window": "window",
    "windowsill": "window",
    "windowframe": "window",
    "column": "column",
    "pillar": "column",
    "beam": "column",
    "stair": "stairs",
    "staircase": "stairs",
    "stairway": "stairs",
    "banister": "stairs",
    "rail": "stairs",
    "railing": "stairs",
    "handrail": "stairs",
    "structure": "structure",
}
# "door frame", "window sill": part of what the word before names.
_PARTS = {"frame", "sill", "trim"}


def normalise_label(label: str) -> str:
    """A label without stray spaces and capitals, as the table's raw_category is compared."""
    return " ".join(label.split()).lower()


@dataclass(frozen=True)
class LabelTable:
    """`scannetv2-labels.combined.tsv`: rows of annotators' spellings.

    Attributes:
        nyu40_of: normalised raw_category -> NYU40 id.
        category_of: normalised raw_category -> category (spelling unified).
        raw_categories_of: ScanNet label id -> its raw categories; ids are neither unique per row nor row numbers.
    """

    nyu40_of: dict[str, int]
    category_of: dict[str, str]
    raw_categories_of: dict[int, tuple[str, ...]]

    @cached_property
    def categories(self) -> frozenset[str]:
        return frozenset(self.category_of.values())

    @classmethod
    def read(cls, path: str | Path) -> LabelTable:
        """Read the table in any of its circulating variants: LF, CRLF or doubled CR, fields with stray spaces.

        Raises ValueError naming file and line for a missing column or an id that is not a number.
        """
        lines = read_text(Path(path)).replace("\r", "").split("\n")
        columns = [field.strip() for field in lines[0].split("\t")]
        needed = ("id", "raw_category", "category", "nyu40id")
        missing = [name for name in needed if name not in columns]
        if missing:
            raise ValueError(f"{path}: no column {', '.join(missing)}; found {', '.join(columns)}")
        i_id, i_raw, i_category, i_nyu40 = (columns.index(name) for name in needed)
        table = cls({}, {}, {})
        for number, line in enumerate(lines[1:], start=2):
            if not line.strip():
                continue
            fields = [field.strip() for field in line.split("\t")]
            try:
                label_id, nyu40 = int(fields[i_id]), int(fields[i_nyu40])
                raw, category = normalise_label(fields[i_raw]), normalise_label(fields[i_category])
            except (IndexError, ValueError) as error:
                raise ValueError(f"{path} line {number}: expected numbers in id and nyu40id, found {line!r}") from error
            table.nyu40_of.setdefault(raw, nyu40)
            table.category_of.setdefault(raw, category)
            table.raw_categories_of[label_id] = (*table.raw_categories_of.get(label_id, ()), raw)
        return table


def wanted_categories(names: Iterable[str], table: LabelTable | None) -> frozenset[str]:
    """The categories that a user's label names mean.

    A name is a raw spelling or a category (ScanNet200's names are both), or a NYU40 class; "nyu40:table" is the class
    where both have the name.
    """
    found: set[str] = set()
    for name in map(normalise_label, names):
        nyu40 = _nyu40_id(name)
        if table is not None and (name in table.category_of or name in table.categories):
            found.add(table.category_of.get(name, name))
        elif table is not None and nyu40 is not None:
            found |= {table.category_of[raw] for raw, number in table.nyu40_of.items() if number == nyu40}
        else:
            found.add(name)
    return frozenset(found)


def unknown_labels(names: Iterable[str], table: LabelTable | None, occurring: Callable[[], Iterable[str]]) -> list[str]:
    """What is wrong with a user's label names, one line for each that names nothing.

    Args:
        occurring: labels of the scans themselves, looked up only if the table does not know a name.
    """
    known = {*table.category_of, *table.categories, *_NYU40, *_NYU40_SPELLINGS} if table is not None else set()
    wanted = list(names)
    strange = [name for name in wanted if normalise_label(name) not in known and not _is_class(name, table)]
    if not strange:
        return []
    there = {normalise_label(label) for label in occurring()}
    lines = []
    for name in strange:
        plain = normalise_label(name)
        if plain in there:
            continue
        near = difflib.get_close_matches(plain.removeprefix(_NYU40_PREFIX), sorted(known | there), 1, 0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        if table is None and _nyu40_id(plain) is not None:
            hint = f"; as a NYU40 class it needs the label table ({LABEL_FILE})"
        lines.append(f"no label {name!r}{hint}")
    return lines


def _is_class(name: str, table: LabelTable | None) -> bool:
    return table is not None and _nyu40_id(normalise_label(name)) is not None


def _nyu40_id(name: str) -> int | None:
    """Of a class as published, or in today's spelling, with or without the prefix."""
    plain = name.removeprefix(_NYU40_PREFIX).strip()
    plain = _NYU40_SPELLINGS.get(plain, plain)
    tight = [known.replace(" ", "") for known in _NYU40]
    return tight.index(plain.replace(" ", "")) + 1 if plain.replace(" ", "") in tight else None


def structural_family(label: str, table: LabelTable | None = None) -> str | None:
    """The family of a label that names a part of the building, None for an object.

    The noun decides, so that spellings no table lists ("garage door", "door frame") are recognised; a table adds
    what its NYU40 class says.

    Returns:
        "wall", "floor", "ceiling", "door", "window", "column", "stairs", "structure", or None.
    """
    words = normalise_label(label).replace("-", " ").split()
    if len(words) > 1 and _singular(words[-1]) in _PARTS:
        family = _FAMILY_OF_NOUN.get(_singular(words[-2]))
        if family:
            return family
    family = _FAMILY_OF_NOUN.get(_singular(words[-1])) if words else None
    if family is None and table is not None:
        family = _FAMILY_OF_NYU40.get(table.nyu40_of.get(normalise_label(label), 0))
    return family


def _singular(noun: str) -> str:
    return noun[:-1] if noun.endswith("s") else noun
