"""The data engine's questions as the demo asks them: answers in the model's own coordinates, few held out, some learned
by heart."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from roboref_core.answer_text import NotVisible, Point, parse
from roboref_core.models.roborefer.config import checkpoint_root
from roboref_core.models.roborefer.prompt_text import load_tokenizer

from offline.data_engine.files import read_json, write_json
from offline.data_engine.seeds import rng_of
from offline.data_engine.task_files import turns
from offline.eval.answers import Answer, Answers
from offline.eval.judge import judge
from offline.eval.samples import Sample, read_samples
from offline.nano.vocabulary import respelled, spelled_coordinates

TASKS = ("t1_{}_multi", "t2a_{}_multi", "t2b_{}_multi", "referring_{}")
"""Task files without grid; {} is the split."""
TRAIN, HELD_OUT = tuple(task.format("train") for task in TASKS), tuple(task.format("val") for task in TASKS)
BY_HEART = "by_heart"


def coordinates_of(base: Path) -> tuple[float, ...]:
    """The coordinates that a checkpoint's tokenizer has a token of its own for."""
    return spelled_coordinates(load_tokenizer(checkpoint_root(base) / "llm", use_depth=False))


def write_questions(source: Path, target: Path, base: Path, held_out: int, by_heart: int, seed: int = 0) -> None:
    """Task files for the demo, from those of the data engine. What is there is not made again.

    All training files, with their answers spelled in the coordinates of ``base``; of the held-out ones at most
    ``held_out`` questions each, as they are; and ``by_heart.json``: training questions of all tasks alike, whose right
    answer is right in the model's coordinates too.

    Raises ValueError naming a file that is missing or has too few questions.
    """
    if target.exists():
        return
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    coordinates = coordinates_of(base)
    for name in TRAIN:
        for file in (f"{name}.json", f"{name}_grid.json"):
            write_json(part / file, [_respelled(sample, coordinates) for sample in read_json(source / file)])
    for name in HELD_OUT:
        found = read_json(source / f"{name}.json")
        chosen = rng_of("train-demo", seed, name).permutation(len(found))[:held_out]
        write_json(part / f"{name}.json", [found[index] for index in sorted(chosen)])
    learned = []
    for number, name in enumerate(TRAIN):
        wanted = by_heart // len(TRAIN) + (number < by_heart % len(TRAIN))
        learned += _some_solvable(part / f"{name}.json", source / f"{name}.json", wanted, seed)
    write_json(part / f"{BY_HEART}.json", learned)
    part.rename(target)


def negative(answer: str) -> bool:
    """Whether the right answer is that there is nothing to be seen."""
    return isinstance(parse(answer), NotVisible)


def without(file: Path, target: Path, unwanted: Callable[[str], bool]) -> None:
    """Writes the questions of a task file whose right answer is not ``unwanted``."""
    write_json(target, [sample for sample in read_json(file) if not any(map(unwanted, turns(sample, "gpt")))])


def _respelled(sample: dict, coordinates: Sequence[float]) -> dict:
    said = [
        turn | {"value": respelled(turn["value"], coordinates)} if turn["from"] == "gpt" else turn
        for turn in sample["conversations"]
    ]
    return sample | {"conversations": said}


def _some_solvable(file: Path, source: Path, count: int, seed: int) -> list[dict]:
    """``count`` questions of ``file`` whose answer, given to the same question of ``source``, is right."""
    entries = {sample["id"]: sample for sample in read_json(file)}
    samples = read_samples(source).samples
    good = solvable(samples, [turns(entries[sample.id], "gpt")[0] for sample in samples])
    usable = [sample.id for sample, right in zip(samples, good, strict=True) if right]
    if len(usable) < count:
        raise ValueError(f"{source}: expected {count} questions to learn by heart, found {len(usable)}: more rooms or "
                         "frames have more")  # fmt: skip
    chosen = rng_of("train-demo", seed, "by heart", file.stem).permutation(len(usable))[:count]
    return [entries[usable[index]] for index in sorted(chosen)]


def solvable(samples: Sequence[Sample], texts: Sequence[str]) -> np.ndarray:
    """(N,) bool: whether a text answers its sample right, as models' answers are judged."""
    given = Answers.blank("truth", len(samples))
    for index, text in enumerate(texts):
        read = parse(text)
        if isinstance(read, Point):
            given.answer[index], given.point[index] = Answer.POINT, read.points[0]
        else:
            given.answer[index] = Answer.NOT_VISIBLE
    judged = judge(samples, given)
    return np.where(judged.visible, judged.hit, judged.refused)
