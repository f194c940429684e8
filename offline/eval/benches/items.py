"""Questions of public benchmarks, all in one form, and the readers of their published layouts."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from roboref_core.prompting.prompt import Form

from offline.eval.benches import official
from offline.eval.benches.families import Family
from offline.eval.benches.official import Target
from offline.eval.records.json_lines import read_lines
from offline.eval.records.samples import Sample
from offline.files import read_json, read_mask

REFSPATIAL_TASKS = ("Location", "Placement", "Unseen")
_CROSSPOINT_POINTING = ("Fine-grained Grounding", "Correspondence-Pointing")
_CROSSPOINT_CHOICE = ("Visibility Reasoning", "Correspondence-Judgement")


@dataclass(frozen=True)
class Item:
    """One question.

    Attributes:
        sample: what is shown and asked; its ``truth`` is empty: any point of the mask is right.
        group: task that scores are reported for.
        mask: reads the mask, (h, w) bool; None for a choice.
        answer: the right choice; "" for a point.
        choices: what may be chosen.
        soft_mask: reads the mask as the published scorer weighs it, (h, w) in [0, 1]; None: there is no published
            scorer here.
        official: the published parser of this benchmark, if it is not the family's.
        official_text: the published verdict on a whole answer, 0 to 1, where it is not by pixels.
        all_inside: an answer is right if all its points are inside, else it counts the share of them.
        count: how many points there must be; None: any number.
    """

    sample: Sample
    group: str
    mask: Callable[[], np.ndarray] | None = None
    answer: str = ""
    choices: tuple[str, ...] = ("A", "B", "C", "D")
    soft_mask: Callable[[], np.ndarray] | None = None
    official: Callable[[str, int, int], list[Target]] | None = None
    official_text: Callable[[str], float] | None = None
    all_inside: bool = False
    count: int | None = None


def read_refspatial(root: Path, family: Family) -> list[Item]:
    """RefSpatial-Bench: ``{root}/{Location,Placement,Unseen}/question.json`` with image and mask paths beside it.

    Raises ValueError naming the file and question of what is missing or of another form.
    """
    items = []
    for task in REFSPATIAL_TASKS:
        folder, path = root / task, root / task / "question.json"
        questions = read_json(path)
        if not isinstance(questions, list):
            raise ValueError(f"{path}: expected a JSON list of questions, found {type(questions).__name__}")
        for number, question in enumerate(questions):
            prompt, suffix, thing, rgb, mask = (
                text_of(question, key, path, number) for key in ("prompt", "suffix", "object", "rgb_path", "mask_path")
            )
            text = family.instruction.format(prompt=prompt, suffix=suffix, object=thing)
            image, mask_path = existing(folder / rgb, path), existing(folder / mask, path)
            sample = replace(sample_of(f"{task}/{number}", task, text, (image,)), extra=question)
            items.append(
                Item(
                    sample,
                    task,
                    mask=partial(read_mask, mask_path),
                    soft_mask=partial(_binary, mask_path),
                )
            )
    return items


def read_where2place(root: Path, family: Family) -> list[Item]:
    """Where2Place: ``{root}/point_questions.jsonl`` (question_id, image, text), ``images/`` and ``masks/``.

    The mask of question k is the k-th, ``{k:02d}.jpg``; JPEG's ringing is cut at half its scale in the strict mode,
    and weighed as it is by the published scorer. The questions state their own answer format, in [0, 1].
    """
    path = root / "point_questions.jsonl"
    items = []
    for number, question in enumerate(value for _, value in read_lines(path)):
        text, image = (text_of(question, key, path, number) for key in ("text", "image"))
        mask_path = existing(root / "masks" / f"{number:02d}.jpg", path)
        image_path = existing(root / "images" / image, path)
        items.append(
            Item(
                sample_of(f"where2place/{number}", "Where2Place", text, (image_path,)),
                "Where2Place",
                mask=partial(_bright, mask_path),
                soft_mask=partial(_share, mask_path),
                # The published scorer assumes 640x480, whatever the picture's size.
                official=lambda text, w, h: official.parse_tuples(text, 640, 480, clipped=True),
            )
        )
    return items


def read_crosspoint(root: Path, family: Family) -> list[Item]:
    """CrossPoint-Bench: ``{root}/CrossPoint-Bench.jsonl`` (idx, type, images, question, answer) and ``image/``.

    Answers of pointing questions are masks, as base64 PNG files, inside above 128; of the others a letter.
    """
    path = root / "CrossPoint-Bench.jsonl"
    items = []
    for number, question in enumerate(value for _, value in read_lines(path)):
        kind, text, answer = (text_of(question, key, path, number) for key in ("type", "question", "answer"))
        names = question.get("images")
        if not isinstance(names, list) or not names:
            raise ValueError(f"{path}, question {number}: expected a list of images, found {names!r}")
        images = tuple(existing(root / "image" / str(name), path) for name in names)
        if kind in _CROSSPOINT_POINTING:
            mask = _base64_mask(answer, path, number)
            text = f"{text} {family.extra}".strip()
            sample = sample_of(f"crosspoint/{number}", kind, text, images)
            items.append(Item(sample, kind, mask=partial(np.copy, mask)))
        elif kind in _CROSSPOINT_CHOICE:
            sample = sample_of(f"crosspoint/{number}", kind, text, images)
            items.append(Item(sample, kind, answer=answer.strip().strip("().").upper()))
        else:
            known = ", ".join((*_CROSSPOINT_POINTING, *_CROSSPOINT_CHOICE))
            raise ValueError(f"{path}, question {number}: expected a type of {known}, found {kind!r}")
    return items


def sample_of(name: str, task: str, text: str, images: tuple[Path, ...]) -> Sample:
    """Named by its place in the file: ids of the files are not unique everywhere."""
    return Sample(
        id=name, task=task, form=Form.MULTI, images=images, prompt=text, truth=(), scene=name, query=images[-1]
    )


def text_of(question: object, key: str, path: Path, number: int) -> str:
    value = question.get(key) if isinstance(question, dict) else None
    if not isinstance(value, str):
        raise ValueError(f"{path}, question {number}: expected a text {key!r}, found {value!r}")
    return value


def existing(path: Path, source: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"{source}: {path} is missing")
    return path


def first_channel(path: Path) -> np.ndarray:
    """(h, w) uint8: the first channel in the file's own order (RGB)."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError(f"{path}: the mask cannot be read")
    return image if image.ndim == 2 else image[..., 2]


def _binary(path: Path) -> np.ndarray:
    return (first_channel(path) > 0).astype(np.float64)


def _bright(path: Path) -> np.ndarray:
    return np.asarray(first_channel(path) > 127)


def _share(path: Path) -> np.ndarray:
    return first_channel(path) / 255.0


def _base64_mask(text: str, path: Path, number: int) -> np.ndarray:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{path}, question {number}: the mask is not base64 ({error})") from error
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) if data else None
    if image is None:
        raise ValueError(f"{path}, question {number}: the mask is not a picture ({len(data)} bytes)")
    return image > 128
