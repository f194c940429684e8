"""What a replay stores: each question with its truth, the node's answer, and how long it took; one JSON line each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError
from roboref_core.views.visibility import Visibility

from offline.eval.records.json_lines import read_lines, write_lines
from offline.eval.records.node_answer import NodeAnswer

Fate = Literal["unchanged", "moved", "removed"]
Point3 = tuple[float, float, float]
Pixel = tuple[float, float]
HIDDEN = (Visibility.OCCLUDED, Visibility.OUT_OF_FRUSTUM, Visibility.CONFLICT)
"""Truths to which NOT_VISIBLE is the right answer."""
# What may differ between two replays of the same bag: clocks, and ids that are unique over restarts.
_VOLATILE = ("latency", "queue_time", "inference_time", "view_id", "reference_view_id")
# What follows from the rest of a record.
_DERIVED = ("in_camera",)


@dataclass(frozen=True)
class Truth:
    """The right answer to "where is this point now?".

    Attributes:
        visibility: VISIBLE, OCCLUDED, OUT_OF_FRUSTUM, UNKNOWN: in sight, but the sensor has no depth there, or
            CONFLICT: its place is in sight, but it was taken away (or, undecidable, mesh and sensor disagree there).
        decidable: False within a few pixels of an outline or of the picture's border, or if hidden by a hair.
        point: (x, y, z) in the world [m]; where it was if it was taken away; None for what was only named and is not
            in sight.
        pixel: where it projects in the query frame, None behind the camera.
        in_camera: the same point in the optical frame of the query frame's camera, at its true pose [m].
    """

    visibility: Visibility
    decidable: bool
    point: Point3 | None
    pixel: Pixel | None
    in_camera: Point3 | None = None

    @property
    def hidden(self) -> bool:
        """NOT_VISIBLE is the right answer."""
        return self.visibility in HIDDEN


@dataclass(frozen=True)
class Question:
    """One question of a replay.

    Attributes:
        question_id: unique within the replay.
        text: referring expression.
        object_id, label: of the object that the mark lies on.
        reference, query: positions in the scene of the marked frame and of the newest frame when it is asked.
        mark: (u, v) in the reference frame [pixel]; both are None for a question in words alone.
        truth: the right answer.
        fate: what happened to the object, between reference and query.
    """

    question_id: str
    text: str
    object_id: int
    label: str
    reference: int | None
    query: int
    mark: Pixel | None
    truth: Truth
    fate: Fate


@dataclass(frozen=True)
class Record:
    """One question of a replay and what came of it.

    Attributes:
        latency: from the call to the reply, at the client [s].
        files: names of the pictures that belong to it ("query", "reference", "mask"), relative to ``folder``.
        folder: where they lie.
    """

    question: Question
    answer: NodeAnswer
    latency: float
    files: dict[str, str]
    folder: Path = Path()

    def to_json(self) -> dict[str, Any]:
        asked = asdict(self.question)
        asked["truth"]["visibility"] = self.question.truth.visibility.value
        return {"question": asked, "answer": self.answer.message, "latency": self.latency, "files": self.files}

    @property
    def file(self) -> dict[str, Path]:
        """``files`` as paths."""
        return {kind: self.folder / name for kind, name in self.files.items()}


def write_records(records: Iterable[Record], path: Path) -> None:
    """One JSON line each; the whole file or nothing."""
    write_lines(path, (record.to_json() for record in records))


def read_records(path: Path) -> list[Record]:
    """Raises ValueError naming file, line and field of what is not a record."""
    records = []
    for where, value in read_lines(path):
        try:
            stored = _STORED.validate_python(value)
            answer = NodeAnswer.from_message(stored.answer)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise ValueError(f"{where}, field {field!r}: {first['msg']}, found {str(first['input'])[:80]}") from error
        records.append(Record(stored.question, answer, stored.latency, stored.files, path.parent))
    return records


def digest(records: Iterable[Record]) -> str:
    """A hash over everything in the records but clocks and run-specific ids: equal for equal answers."""

    def stable(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: stable(v) for key, v in value.items() if key not in (*_VOLATILE, *_DERIVED)}
        if isinstance(value, list):
            return [stable(v) for v in value]
        return value

    text = json.dumps([stable(record.to_json()) for record in records], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def pooled(runs: Iterable[tuple[str, Iterable[Record]]]) -> list[Record]:
    """The records of several folders beside each other, with file names relative to the folder above them."""
    return [
        replace(
            record,
            files={kind: f"{folder}/{name}" for kind, name in record.files.items()},
            folder=record.folder.parent,
        )
        for folder, records in runs
        for record in records
    ]


@dataclass(frozen=True)
class _Stored:
    question: Question
    answer: dict[str, Any]
    latency: float
    files: dict[str, str]


_STORED = TypeAdapter(_Stored)
