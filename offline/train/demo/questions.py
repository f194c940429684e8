"""The data engine's questions as the demo asks them: answers in the model's own coordinates, few held out, some learned
by heart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from roboref_core.atomic import replacing_folder
from roboref_core.models.model_answer import Outcome
from roboref_core.models.roborefer.checkpoint.config import checkpoint_root
from roboref_core.models.roborefer.prompt_text import load_tokenizer
from roboref_core.prompting.answer_text import parse
from roboref_core.seeds import rng_of

from offline.data_engine.task_files import turns
from offline.eval.records.answers import Answer, Answers
from offline.eval.records.samples import Sample, SampleFile, read_samples
from offline.eval.scoring.judge import Judged, judge
from offline.files import read_json, write_json
from offline.train.nano.vocabulary import respelled, spelled_coordinates

TASKS = ("t1_{}_multi", "t2a_{}_multi", "t2b_{}_multi", "referring_{}")
"""Task files without grid; {} is the split."""
TRAIN, HELD_OUT = tuple(task.format("train") for task in TASKS), tuple(task.format("val") for task in TASKS)
BY_HEART = "by_heart"
# The base model gets most questions right.
_ASKED_PER_LEARNED = 8


def coordinates_of(base: Path) -> tuple[float, ...]:
    """The coordinates that a checkpoint's tokenizer has a token of its own for."""
    return spelled_coordinates(load_tokenizer(checkpoint_root(base) / "llm", use_depth=False))


def write_questions(source: Path, target: Path, base: Path, held_out: int, seed: int = 0) -> None:
    """Task files for the demo, from those of the data engine. What is there is not made again.

    All training files, with their answers spelled in the coordinates of ``base``, and of the held-out ones at most
    ``held_out`` questions each, as they are.

    Raises ValueError naming a file that is missing.
    """
    if target.exists():
        return
    coordinates = coordinates_of(base)
    with replacing_folder(target) as part:
        for name in TRAIN:
            for file in (f"{name}.json", f"{name}_grid.json"):
                write_json(part / file, [_respelled(sample, coordinates) for sample in read_json(source / file)])
        for name in HELD_OUT:
            found = read_json(source / f"{name}.json")
            chosen = rng_of("train-demo", seed, name).permutation(len(found))[:held_out]
            write_json(part / f"{name}.json", [found[index] for index in sorted(chosen)])


def write_by_heart(
    source: Path, questions: Path, count: int, solved: Callable[[SampleFile], np.ndarray], seed: int = 0
) -> None:
    """Writes ``by_heart.json``: training questions, of all tasks alike, whose answer in ``questions`` is right.

    Those that the base model gets wrong come first, so that it has something to learn. What is there is not made again.

    Args:
        source: task files of the data engine.
        questions: folder of ``write_questions``.
        solved: (N,) bool, whether the base model answers each sample of a file right.
    Raises:
        ValueError: naming the file that has too few questions.
    """
    if (target := questions / f"{BY_HEART}.json").exists():
        return
    learned = []
    for number, name in enumerate(TRAIN):
        wanted = count // len(TRAIN) + (number < count % len(TRAIN))
        entries = {sample["id"]: sample for sample in read_json(questions / f"{name}.json")}
        data = read_samples(source / f"{name}.json")
        good = solvable(data.samples, [turns(entries[sample.id], "gpt")[0] for sample in data.samples])
        usable = np.flatnonzero(good)
        if len(usable) < wanted:
            raise ValueError(
                f"{source / name}.json: expected {wanted} questions to learn by heart, found "
                f"{len(usable)}: more rooms or frames have more"
            )
        chosen = rng_of("train-demo", seed, "by heart", name).permutation(usable)[: wanted * _ASKED_PER_LEARNED]
        asked = replace(data, samples=tuple(data.samples[index] for index in chosen))
        first = np.argsort(solved(asked), kind="stable")[:wanted]
        learned += [entries[asked.samples[index].id] for index in sorted(first)]
    write_json(target, learned)


def negative(answer: str) -> bool:
    """Whether the right answer is that there is nothing to be seen."""
    return parse(answer).outcome is Outcome.NOT_VISIBLE


def without(file: Path, target: Path, unwanted: Callable[[str], bool]) -> None:
    """Writes the questions of a task file whose right answer is not ``unwanted``."""
    write_json(target, [sample for sample in read_json(file) if not any(map(unwanted, turns(sample, "gpt")))])


def _respelled(sample: dict, coordinates: Sequence[float]) -> dict:
    said = [
        turn | {"value": respelled(turn["value"], coordinates)} if turn["from"] == "gpt" else turn
        for turn in sample["conversations"]
    ]
    return sample | {"conversations": said}


def solvable(samples: Sequence[Sample], texts: Sequence[str]) -> np.ndarray:
    """(N,) bool: whether a text answers its sample right, as models' answers are judged."""
    given = Answers.blank("truth", len(samples))
    for index, text in enumerate(texts):
        read = parse(text)
        if read.outcome is Outcome.VISIBLE:
            given.answer[index], given.point[index] = Answer.POINT, read.points[0]
        else:
            given.answer[index] = Answer.NOT_VISIBLE
    return right(judge(samples, given))


def right(judged: Judged) -> np.ndarray:
    """(N,) bool: on the mask where it can be seen, whatever the task; refused where it cannot."""
    return np.where(judged.visible, judged.hit, judged.refused)
