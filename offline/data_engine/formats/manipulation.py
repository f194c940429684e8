"""Manipulation records in LLaVA's form: box, contact point, trajectory, choice and planning questions.

The form of RoboInter-VQA (its data card) and of RoboInter-VLM's LLaVA-OneVision data: ``{"id", "images": [relative
paths], "conversations"}``, often with ``"task"`` and the picture's ``"h"`` and ``"w"``. ``<image>`` is in the text.
Answers are ``{"current_bbox": [[x, y], [x, y]]}`` or the bare list, in [0, 1] of the picture (``llava_format``), an
option's letter, Yes or No, or free text. The forms with pixel coordinates do not say of which size: a record that
has them is left out by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from offline.data_engine.task_files import picture_path, pictures_of, read_samples, turns
from offline.files import write_json

_NUMBER = r"-?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_PAIRS = re.compile(rf"[\[(]\s*({_NUMBER})\s*,\s*({_NUMBER})\s*(?:,\s*({_NUMBER})\s*,\s*({_NUMBER})\s*)?[\])]")
_LETTER = re.compile(r"\s*\(?([A-Z])\)?[.:)]?(?:\s.*)?", re.DOTALL)
_DECISION = re.compile(r"\s*(yes|no)\s*[.!]?\s*", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"<image>\n?")


class Kind(Enum):
    """What an answer is. SEVERAL: one answer states several things, each under its own name."""

    BOX = "box"
    POINT = "point"
    TRAJECTORY = "trajectory"
    CHOICE = "choice"
    TEXT = "text"
    SEVERAL = "several"


# The names under which published answers state their coordinates.
ANSWER_NAMES = {
    "future_traj": Kind.TRAJECTORY,
    "gripper_det_bbox": Kind.BOX,
    "contact_point": Kind.POINT,
    "contact_bbox": Kind.BOX,
    "current_bbox": Kind.BOX,
    "final_bbox": Kind.BOX,
}
_NAMED = re.compile(rf"[\"']({'|'.join(ANSWER_NAMES)})[\"']\s*:")
# What names of tasks and of files, and then questions, call the kinds; the first that is found holds.
_WORDS = (
    (re.compile(r"choice|decide"), Kind.CHOICE),
    (re.compile(r"planning"), Kind.TEXT),
    (re.compile(r"traj|waypoint"), Kind.TRAJECTORY),
    (re.compile(r"box|gripper_det"), Kind.BOX),
    (re.compile(r"point"), Kind.POINT),
)
_COUNTS = {Kind.BOX: (2, 2), Kind.POINT: (1, 2), Kind.TRAJECTORY: (2, 10_000)}
"""How many coordinates an answer of each kind has; a gripper touches with one finger or two."""


@dataclass(frozen=True)
class GroundingRecord:
    """One question about pictures.

    Attributes:
        record_id: unique in its file.
        images: picture paths, as in the file.
        question: without placeholders.
        kind: of the answer.
        coordinates: (n, 2) in [0, 1] of the last picture: two corners of a box, one or two contact points, or a path;
            empty otherwise.
        text: the answer as written.
        task: what the file calls the record's task; "" where it does not say.
        size: (width, height) of the original picture [px], where the file states it.
    """

    record_id: str
    images: tuple[str, ...]
    question: str
    kind: Kind
    coordinates: tuple[tuple[float, float], ...]
    text: str
    task: str = ""
    size: tuple[int, int] | None = None

    def __post_init__(self):
        for x, y in self.coordinates:
            if not (0.0 <= x <= 1.0 and 0.0 <= y <= 1.0):
                raise ValueError(
                    f"record {self.record_id}: coordinate ({x:g}, {y:g}) lies outside [0, 1]: is this the form with "
                    "pixel coordinates?"
                )
        fewest, most = _COUNTS.get(self.kind, (0, 0))
        if not fewest <= len(self.coordinates) <= most:
            raise ValueError(
                f"record {self.record_id}: a {self.kind.value} has {fewest} to {most} coordinates, "
                f"found {len(self.coordinates)}"
            )
        if self.kind is Kind.BOX and not all(a < b for a, b in zip(*self.coordinates, strict=True)):
            raise ValueError(f"record {self.record_id}: the corners of the box are not top left and bottom right")
        if self.kind is Kind.CHOICE and self.choice is None:
            raise ValueError(f"record {self.record_id}: expected a letter, Yes or No, found {self.text[:40]!r}")

    @property
    def choice(self) -> str | None:
        """A choice's letter, or "yes" or "no"; None for the other kinds."""
        if self.kind is not Kind.CHOICE:
            return None
        if decision := _DECISION.fullmatch(self.text):
            return decision[1].lower()
        found = _LETTER.fullmatch(self.text)
        return found[1] if found else None


@dataclass(frozen=True)
class LeftOut:
    """A record that cannot be used: where it stands, and why."""

    where: str
    reason: str


@dataclass(frozen=True)
class GroundingFile:
    """A file's usable records, and those that were left out."""

    records: tuple[GroundingRecord, ...]
    left_out: tuple[LeftOut, ...]


def is_grounding(entry: object) -> bool:
    """Is an entry of a task file a manipulation record: in the published form, or converted to ours?"""
    return isinstance(entry, dict) and ("answer_kind" in entry or ("images" in entry and "image" not in entry))


def read_grounding(path: Path) -> GroundingFile:
    """The records of a file; several turns of one conversation become several records.

    Raises:
        ValueError: the file cannot be read, or not one of its records can be used; the first reason is named.
    """
    found: list[GroundingRecord | LeftOut] = []
    for where, sample in read_samples(path):
        found += grounding_records(sample, where, path.stem)
    records = tuple(one for one in found if isinstance(one, GroundingRecord))
    left_out = tuple(one for one in found if isinstance(one, LeftOut))
    if left_out and not records:
        first = left_out[0]
        raise ValueError(f"none of {len(left_out)} records can be used, the first: {first.where}: {first.reason}")
    return GroundingFile(records, left_out)


def grounding_records(sample: object, where: str, file_name: str = "") -> Iterator[GroundingRecord | LeftOut]:
    """The records of one entry of a file, one a turn; each that cannot be used is left out by itself.

    Args:
        where: names the entry.
        file_name: published files name the task of their records in their own names.
    """
    try:
        if not isinstance(sample, dict) or "conversations" not in sample:
            raise ValueError("expected an object with conversations")
        asked, said = turns(sample, "human"), turns(sample, "gpt")
        if len(asked) != len(said):
            raise ValueError(f"{len(asked)} questions and {len(said)} answers")
        images = tuple(pictures_of(sample))
        if not all(isinstance(text, str) for text in (*asked, *said, *images)):
            raise ValueError("expected texts in conversations, and paths of pictures")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        yield LeftOut(where, str(error) if isinstance(error, ValueError) else "conversations that cannot be read")
        return
    task = sample["task"] if isinstance(sample.get("task"), str) else ""
    for number, (question, answer) in enumerate(zip(asked, said, strict=True)):
        record_id = str(sample.get("id", where)) + (f"_{number}" if len(asked) > 1 else "")
        question = _PLACEHOLDER.sub("", question).strip()
        try:
            kind = _stated_kind(sample) or _kind_of(task, file_name, question, answer)
            coordinates = coordinates_in(answer) if kind in _COUNTS else ()
            yield GroundingRecord(record_id, images, question, kind, coordinates, answer, task, _size(sample))
        except ValueError as error:
            yield LeftOut(where, str(error))


def coordinates_in(text: str) -> tuple[tuple[float, float], ...]:
    """All (x, y) of a text in order; four numbers in one bracket are two of them."""
    found: list[tuple[float, float]] = []
    for x0, y0, x1, y1 in _PAIRS.findall(text):
        found.append((float(x0), float(y0)))
        if x1:
            found.append((float(x1), float(y1)))
    return tuple(found)


def _stated_kind(sample: dict) -> Kind | None:
    stated = sample.get("answer_kind")
    return None if stated is None else Kind(stated)


def _size(sample: dict) -> tuple[int, int] | None:
    w, h = sample.get("w"), sample.get("h")
    return (w, h) if isinstance(w, int) and isinstance(h, int) and w > 0 and h > 0 else None


def _kind_of(task: str, file_name: str, question: str, answer: str) -> Kind:
    """The kind of an answer: by the name it gives itself, its task's or its file's, else by question and answer."""
    names = set(_NAMED.findall(answer))
    if names:
        return ANSWER_NAMES[names.pop()] if len(names) == 1 else Kind.SEVERAL
    count = len(coordinates_in(answer))
    named = _kind_in(task) or _kind_in(file_name)
    if count == 0:
        if _DECISION.fullmatch(answer) or (_LETTER.fullmatch(answer) and len(answer.strip()) <= 3):
            return Kind.CHOICE
        return named or Kind.TEXT
    if named is not None:
        return named
    asked = _kind_in(question)
    if asked in _COUNTS and _COUNTS[asked][0] <= count <= _COUNTS[asked][1]:
        return asked
    return Kind.POINT if count == 1 else Kind.TRAJECTORY


def _kind_in(words: str) -> Kind | None:
    return next((kind for pattern, kind in _WORDS if pattern.search(words.lower())), None)


def write_grounding(path: Path, records: Iterable[GroundingRecord]) -> int:
    """Write records; returns how many."""
    samples = [
        {
            "id": record.record_id,
            "images": list(record.images),
            "conversations": [
                {"from": "human", "value": "<image>\n" * len(record.images) + record.question},
                {"from": "gpt", "value": record.text},
            ],
        }
        | _facts(record)
        for record in records
    ]
    write_json(path, samples)
    return len(samples)


def training_sample(record: GroundingRecord, image_root: Path) -> dict:
    """The record as our trainers read it: ``image`` absolute, no placeholder in the text, its own task kept."""
    images = [str(picture_path(name, image_root)) for name in record.images]
    return {
        "id": record.record_id,
        "image": images[0] if len(images) == 1 else images,
        "conversations": [{"from": "human", "value": record.question}, {"from": "gpt", "value": record.text}],
        "task": f"grounding_{record.kind.value}",
        "answer_kind": record.kind.value,
    } | _facts(record)


def _facts(record: GroundingRecord) -> dict:
    facts: dict = {"task": record.task} if record.task else {}
    return facts | ({"w": record.size[0], "h": record.size[1]} if record.size else {})


def coordinates_text(coordinates: Iterable[tuple[float, float]]) -> str:
    """``[[0.102, 0.305], [0.410, 0.562]]``"""
    return "[" + ", ".join(f"[{x:.3f}, {y:.3f}]" for x, y in coordinates) + "]"
