"""Manipulation-style grounding records in LLaVA's form: box, point, trajectory and choice questions.

The form of RoboInter-VLM's LLaVA-OneVision data (its README and data card): ``{"id", "images": [relative paths],
"conversations"}`` with ``<image>`` in the text, answers as nested lists of [x, y] in [0, 1] of the picture (a box is
its two corners) or as option letters. The same records with pixel coordinates are refused, not guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
from roboref_core.seeds import rng_of

from offline.data_engine.filters import is_named
from offline.data_engine.five_frames import ViewFiles, mask_box
from offline.data_engine.task_files import picture_path, pictures_of, read_samples, turns
from offline.data_engine.tasks.expressions import could_be_meant
from offline.data_engine.tasks.ground_truth import ground_truth_pixel, normalised
from offline.data_engine.tasks.pairs import SceneViews
from offline.files import read_mask, write_json

_NUMBER = r"-?\d+(?:\.\d+)?"
_PAIR = re.compile(rf"\[\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\]")
_LETTER = re.compile(r"\s*\(?([A-Z])\)?[.:)]?(?:\s.*)?", re.DOTALL)
_LETTERS = "ABCDEFGH"


class Kind(Enum):
    """What an answer is."""

    BOX = "box"
    POINT = "point"
    TRAJECTORY = "trajectory"
    CHOICE = "choice"
    TEXT = "text"


@dataclass(frozen=True)
class GroundingRecord:
    """One question about pictures.

    Attributes:
        record_id: unique in its file.
        images: picture paths, as in the file.
        question: without placeholders.
        kind: of the answer.
        coordinates: (n, 2) in [0, 1] of the last picture: two corners of a box, one point, or a path; empty otherwise.
        text: the answer as written; for a choice its letter first.
    """

    record_id: str
    images: tuple[str, ...]
    question: str
    kind: Kind
    coordinates: tuple[tuple[float, float], ...]
    text: str

    def __post_init__(self):
        for x, y in self.coordinates:
            if not (0.0 <= x <= 1.0 and 0.0 <= y <= 1.0):
                raise ValueError(
                    f"record {self.record_id}: coordinate ({x:g}, {y:g}) lies outside [0, 1]: is this the form with "
                    "pixel coordinates?"
                )
        wanted = {Kind.BOX: (2, 2), Kind.POINT: (1, 1), Kind.TRAJECTORY: (2, 10_000)}.get(self.kind, (0, 0))
        if not wanted[0] <= len(self.coordinates) <= wanted[1]:
            raise ValueError(
                f"record {self.record_id}: a {self.kind.value} has {wanted[0]} to {wanted[1]} coordinates, "
                f"found {len(self.coordinates)}"
            )

    @property
    def choice(self) -> str | None:
        """The letter of a choice, else None."""
        found = _LETTER.fullmatch(self.text) if self.kind is Kind.CHOICE else None
        return found[1] if found else None


def read_grounding(path: Path, kind: Kind | None = None) -> Iterator[GroundingRecord]:
    """The records of a file; several turns of one conversation become several records.

    Args:
        kind: of all answers of the file; by default told from question and answer.

    Raises:
        ValueError: naming file and entry.
    """
    for where, sample in read_samples(path):
        if not isinstance(sample, dict) or "conversations" not in sample:
            raise ValueError(f"{where}: expected an object with conversations")
        asked, said = turns(sample, "human"), turns(sample, "gpt")
        if len(asked) != len(said):
            raise ValueError(f"{where}: {len(asked)} questions and {len(said)} answers")
        for number, (question, answer) in enumerate(zip(asked, said, strict=True)):
            record_id = str(sample.get("id", where)) + (f"_{number}" if len(asked) > 1 else "")
            question = question.replace("<image>\n", "").replace("<image>", "").strip()
            pairs = tuple((float(x), float(y)) for x, y in _PAIR.findall(answer))
            found = kind or _kind_of(question, answer, len(pairs))
            coordinates = pairs if found in (Kind.BOX, Kind.POINT, Kind.TRAJECTORY) else ()
            try:
                yield GroundingRecord(record_id, tuple(pictures_of(sample)), question, found, coordinates, answer)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error


def _kind_of(question: str, answer: str, pairs: int) -> Kind:
    words = question.lower()
    if pairs == 0:
        return Kind.CHOICE if _LETTER.fullmatch(answer) and len(answer.strip()) <= 3 else Kind.TEXT
    if pairs == 1:
        return Kind.POINT
    return Kind.BOX if pairs == 2 and "box" in words and "traj" not in words else Kind.TRAJECTORY


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
        for record in records
    ]
    write_json(path, samples)
    return len(samples)


def training_sample(record: GroundingRecord, image_root: Path) -> dict:
    """The record as our trainers read it: ``image`` absolute, no placeholder in the text."""
    images = [str(picture_path(name, image_root)) for name in record.images]
    return {
        "id": record.record_id,
        "image": images[0] if len(images) == 1 else images,
        "conversations": [{"from": "human", "value": record.question}, {"from": "gpt", "value": record.text}],
        "task": f"grounding_{record.kind.value}",
    }


def coordinates_text(coordinates: Iterable[tuple[float, float]]) -> str:
    """``[[0.102, 0.305], [0.410, 0.562]]``"""
    return "[" + ", ".join(f"[{x:.3f}, {y:.3f}]" for x, y in coordinates) + "]"


def scene_records(scene: SceneViews, image_root: Path, seed: int) -> Iterator[GroundingRecord]:
    """Box, contact point and choice questions from a scene's views.

    Only of objects that "the (label)" means without doubt in their picture. Boxes hold all visible pixels, edge to
    edge. A choice names the object and three labels that nothing in the whole scene has.
    """
    labels = sorted({views[0].label for views in scene.objects.values() if views})
    for uid in sorted(scene.objects):
        for view in scene.objects[uid]:
            if not is_named(view.label) or not _means_one(scene, view):
                continue
            rng = rng_of("grounding", seed, scene.scene_id, uid, view.frame_id)
            mask = read_mask(view.mask)
            h, w = mask.shape
            u0, v0, u1, v1 = mask_box(mask)
            corners = ((u0 / w, v0 / h), ((u1 + 1) / w, (v1 + 1) / h))
            point = normalised(ground_truth_pixel(mask, seed, scene.scene_id, uid, view.frame_id), (w, h))
            image = (view.original.relative_to(image_root).as_posix(),)
            stem = f"{scene.scene_id}_{uid}_{view.view:02d}"
            question = f"Give the bounding box of the {view.label} as its top left and bottom right corners."
            yield GroundingRecord(f"{stem}_box", image, question, Kind.BOX, corners, coordinates_text(corners))
            question = f"Where should the gripper touch the {view.label}? Answer with one point."
            yield GroundingRecord(f"{stem}_point", image, question, Kind.POINT, (point,), coordinates_text((point,)))
            others = [label for label in _COMMON if label not in labels]
            options = [view.label, *(others[k] for k in rng.permutation(len(others))[:3])]
            order = rng.permutation(len(options))
            u, v = np.round(((np.array(corners[0]) + corners[1]) / 2), 3)
            listed = " ".join(f"{_LETTERS[n]}. {options[k]}" for n, k in enumerate(order))
            question = f"What is around ({u:.3f}, {v:.3f})? {listed} Answer with the letter."
            letter = _LETTERS[int(np.flatnonzero(order == 0)[0])]
            yield GroundingRecord(f"{stem}_choice", image, question, Kind.CHOICE, (), letter)


def _means_one(scene: SceneViews, view: ViewFiles) -> bool:
    """Is there nothing else in a view's picture that its object's label could mean, as far as can be told?"""
    if scene.facts is not None and view.frame_id in scene.facts["frames"]:
        seen = scene.facts["frames"][view.frame_id]["objects"]
        labels = [
            scene.facts["objects"][uid]["label"]
            for uid, facts in seen.items()
            if uid != str(view.uid) and not facts["certainly_hidden"]
        ]
    else:
        labels = [views[0].label for uid, views in scene.objects.items() if views and uid != view.uid]
    return not any(could_be_meant(view.label, other) for other in labels)


_COMMON = (
    "bicycle", "umbrella", "suitcase", "guitar", "microwave", "printer", "backpack", "lamp", "plant", "laptop",
    "trash can", "keyboard", "pillow", "telephone", "bucket", "ladder",
)  # fmt: skip
