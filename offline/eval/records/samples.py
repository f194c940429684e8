"""Samples of the spatial tasks as evaluation sees them: what is shown and asked, and what is true.

File format, as the data engine writes it: a JSON list of LLaVA-style samples, ``{"id", "image": path | [paths],
"conversations", "task", "scene_id", "uid", "ref_frame", "query_frame", "query_original", "mask", "visibility":
{"visible", "reason", "baseline", ...}}``, optionally with "depth", "form", "grid" and "label". Prompts hold no
``<image>``. The right answer is the gpt turn's: ``[(x, y)]`` or ``NOT_VISIBLE``.

Manipulation records (see ``offline.data_engine.formats.manipulation``) are samples too, with ``record``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from roboref_core.models.model_answer import Outcome
from roboref_core.prompting.answer_text import parse
from roboref_core.prompting.prompt import Form
from roboref_core.prompting.side_by_side import SideBySide

from offline.data_engine.formats.manipulation import GroundingRecord, LeftOut, grounding_records, is_grounding
from offline.data_engine.task_files import mask_beside
from offline.data_engine.tasks.kinds import TASKS
from offline.files import picture_size, read_json

# Tasks between two views; the others have names of their own in other people's files.
_PAIR_TASKS = {task: forms for task, forms in TASKS.items() if Form.MULTI.value in forms}


@dataclass(frozen=True)
class Sample:
    """One question with its right answer.

    Attributes:
        id: unique in its file.
        task: "t1", "t2a", "t2b", or what the file calls another task.
        form: MULTI: coordinates are those of the last picture; CONCAT: those of the whole picture A | B.
        images: paths in prompt order, the queried picture last.
        depths: paths of 8-bit depth pictures, one per image, or empty.
        prompt: without media placeholders.
        truth: right points, (x, y) in [0, 1] of the answered picture, any of which answers; None: NOT_VISIBLE;
            empty where another truth (a mask, a manipulation record) decides.
        scene: cluster for the bootstrap.
        query: the clean queried picture, in whose coordinates the mask is.
        mask: mask of the object in the queried picture; None where there is none (negatives).
        label: label of the object; "" unknown.
        reason: why a negative is one; "" for positives.
        relation: what a referring expression says of the object ("left", "nearest", "unique", ...); "" for other tasks.
        baseline: between the two viewpoints [m]; None unknown.
        gridded: a coordinate grid is drawn in the last picture already.
        record: the manipulation record that the sample is; None for pointing tasks.
        extra: the file's entry, for what only one reader needs.
    """

    id: str
    task: str
    form: Form
    images: tuple[Path, ...]
    prompt: str
    truth: tuple[tuple[float, float], ...] | None
    scene: str
    query: Path
    mask: Path | None = None
    depths: tuple[Path, ...] = ()
    label: str = ""
    reason: str = ""
    relation: str = ""
    baseline: float | None = None
    gridded: bool = False
    record: GroundingRecord | None = None
    extra: dict = field(default_factory=dict, repr=False, compare=False)

    @property
    def split(self) -> str:
        """Task and form, as the files are named: "t1 multi"."""
        return f"{self.task} {self.form.value}"


@dataclass(frozen=True)
class SampleFile:
    """A file's usable samples, and what was wrong with the others: reason -> how often, with one example each."""

    name: str
    samples: tuple[Sample, ...]
    problems: dict[str, int]
    examples: dict[str, str]


class BadSample(ValueError):
    """One sample that cannot be used; ``kind`` is what it is counted under."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


def read_samples(path: str | Path, image_root: Path | None = None) -> SampleFile:
    """Read a file of samples. Bad ones are left out and counted; the rest of the file stands.

    Args:
        image_root: what relative paths start from; None: the file's folder.

    Raises ValueError naming the file if it is no JSON list or holds no usable sample.
    """
    path = Path(path)
    entries = read_json(path)
    if not isinstance(entries, list):
        raise ValueError(f"{path}: expected a JSON list of samples, found {type(entries).__name__}")
    samples: dict[str, Sample] = {}
    problems: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for number, entry in enumerate(entries):
        for sample in _samples_of(entry, f"entry {number}", path.stem, image_root or path.parent):
            try:
                if isinstance(sample, BadSample):
                    raise sample
                if sample.id in samples:
                    raise BadSample("duplicate id", f"id {sample.id!r} was there before")
            except BadSample as error:
                problems[error.kind] += 1
                examples.setdefault(error.kind, f"entry {number}: {error}")
            else:
                samples[sample.id] = sample
    if not samples:
        why = "; ".join(examples.values()) or "the list is empty"
        raise ValueError(f"{path}: no usable sample ({why})")
    return SampleFile(path.stem, tuple(samples.values()), dict(problems), examples)


def _samples_of(entry: dict, where: str, file_name: str, root: Path) -> Iterator[Sample | BadSample]:
    """The samples of an entry: one, or one for each turn of a manipulation record."""
    if is_grounding(entry):
        for record in grounding_records(entry, where, file_name):
            yield _manipulation(record, entry, root)
        return
    try:
        yield parse_sample(entry, root)
    except BadSample as error:
        yield error


def _manipulation(record: GroundingRecord | LeftOut, entry: dict, root: Path) -> Sample | BadSample:
    if isinstance(record, LeftOut):
        return BadSample("unusable manipulation record", record.reason)
    if not record.images:
        return BadSample("no image", f"sample {record.record_id}: no image")
    images = tuple(_join(str(root), name) for name in record.images)
    return Sample(
        id=record.record_id,
        task=record.task or f"grounding_{record.kind.value}",
        form=Form.MULTI,
        images=images,
        prompt=record.question,
        truth=(),
        scene="",
        query=images[-1],
        record=record,
        extra=entry,
    )


def parse_sample(entry: dict, folder: Path) -> Sample:
    """One entry of a file in ``folder`` (for relative paths). Raises BadSample."""
    if not isinstance(entry, dict):
        raise BadSample("not an object", f"expected an object, found {type(entry).__name__}")
    if not isinstance(entry.get("id"), str | int):
        raise BadSample("no id", f"expected an id, found keys {sorted(entry)[:8]}")
    base = str(folder)
    images = _paths(entry, "image", base)
    if not images:
        raise BadSample("no image", f"sample {entry['id']}: no image")
    depths = _paths(entry, "depth", base)
    if depths and len(depths) != len(images):
        raise BadSample("depth count", f"sample {entry['id']}: {len(images)} images but {len(depths)} depth pictures")
    prompt, truth = _turns(entry)
    task, form = _task(str(entry.get("task", "")), str(entry.get("form", "")), len(images))
    expected = _PAIR_TASKS.get(task, {}).get(form.value)
    if expected is not None and len(images) != expected:
        raise BadSample(
            "image count", f"sample {entry['id']}: {task} {form.value} shows {expected}, found {len(images)}"
        )
    query = _path(entry.get("query_original"), base) or images[-1]
    facts = entry["visibility"] if isinstance(entry.get("visibility"), dict) else {}
    visible = truth is not None
    return Sample(
        id=str(entry["id"]),
        task=task,
        form=form,
        images=images,
        depths=depths,
        prompt=prompt,
        truth=truth,
        scene=str(entry.get("scene_id", "")),
        query=query,
        mask=(_path(entry.get("mask"), base) or mask_beside(query)) if visible else None,
        label=str(entry.get("label", facts.get("label", "")) or ""),
        reason="" if visible else str(facts.get("reason") or entry.get("reason") or "unstated"),
        relation=str(entry.get("relation") or ""),
        baseline=_number(facts.get("baseline", entry.get("baseline"))),
        gridded=entry.get("grid") is True,
        extra=entry,
    )


def side_by_side(sample: Sample, right: tuple[int, int] | None = None) -> SideBySide:
    """The layout of a concat sample's picture A | B, from the sizes of the whole and of B (``query``).

    Args:
        right: B's (width, height), if it is known.

    Raises ValueError naming the file that cannot be read, or the pictures that do not fit.
    """
    width, height = picture_size(sample.images[-1])
    right = right or picture_size(sample.query)
    if width <= right[0] or height < right[1]:
        raise ValueError(
            f"{sample.images[-1]}: {width}x{height} pixels cannot hold two views of which the right one, "
            f"{sample.query.name}, has {right[0]}x{right[1]}"
        )
    return SideBySide((width - right[0], height), right)


@lru_cache
def _task(stated_task: str, stated_form: str, num_images: int) -> tuple[str, Form]:
    words = re.split(r"[\s_/-]+", stated_task.lower())
    stated = next((form for form in Form if form.value in (*words, stated_form.lower())), None)
    task = next((word for word in words if word in _PAIR_TASKS), None) or "_".join(words) or "pointing"
    if stated is None:
        # Only a pair is ever asked about in T1: one picture holds both views.
        stated = Form.CONCAT if task == "t1" and num_images == 1 else Form.MULTI
    return task, stated


def _turns(entry: dict) -> tuple[str, tuple[tuple[float, float], ...] | None]:
    name, turns = entry["id"], entry.get("conversations")
    asked = answered = None
    try:
        asked = next(turn["value"] for turn in turns or () if turn["from"] == "human")
        answered = next(turn["value"] for turn in turns or () if turn["from"] == "gpt")
    except (TypeError, KeyError, StopIteration):
        pass
    if not isinstance(asked, str) or not isinstance(answered, str):
        raise BadSample("no conversation", f"sample {name}: expected a human and a gpt turn, each with text")
    if "<image>" in asked or "<depth>" in asked:
        raise BadSample("media placeholder", f"sample {name}: the prompt must hold no <image> or <depth>")
    answer = parse(answered)
    if answer.outcome is Outcome.NOT_VISIBLE:
        return asked, None
    if answer.outcome is Outcome.VISIBLE:
        return asked, answer.points
    raise BadSample("unusable answer", f"sample {name}: {answer.reason}")


def _paths(entry: dict, key: str, folder: str) -> tuple[Path, ...]:
    value = entry.get(key)
    if value is None:
        return ()
    found = [_path(name, folder) for name in (value if isinstance(value, list) else [value])]
    paths = tuple([path for path in found if path is not None])
    if len(paths) != len(found):
        raise BadSample(f"no {key}", f"sample {entry['id']}: {key} must hold paths, found {value!r}")
    return paths


def _path(value: object, folder: str) -> Path | None:
    return _join(folder, value) if isinstance(value, str) and value else None


@lru_cache(2**18)
def _join(folder: str, name: str) -> Path:
    """Making a Path costs more than all else about a sample, and samples share pictures."""
    return Path(folder, name)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
