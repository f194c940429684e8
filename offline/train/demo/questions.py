"""The data engine's questions as the demo asks them: in the model's own coordinates, few held out, phrases in
other words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from roboref_core.atomic import replacing_folder
from roboref_core.models.model_answer import Outcome
from roboref_core.models.roborefer.checkpoint.config import checkpoint_root
from roboref_core.models.roborefer.prompt_text import load_tokenizer
from roboref_core.prompting.answer_text import parse
from roboref_core.seeds import rng_of

from offline.data_engine.task_files import turns
from offline.files import read_json, write_json
from offline.train.nano.vocabulary import respelled, spelled_coordinates

TASKS = ("t1_{}_multi", "t2a_{}_multi", "t2b_{}_multi", "referring_{}")
"""Task files without grid; {} is the split."""
TRAIN, HELD_OUT = tuple(task.format("train") for task in TASKS), tuple(task.format("val") for task in TASKS)
CONCAT = ("t1_train_concat", "t1_val_concat")
"""T1 with both views in one picture."""
_AFTER_PHRASE = " If it is not visible"
_WORDS = (
    ("Point to every ", "Mark each "),
    ("Point to all instances of the ", "Mark each and every "),
    ("Point to the free space ", "Show me an empty spot "),
    ("Point to a vacant spot ", "Show me an empty spot "),
    ("Point to the ", "Fetch me the "),
    ("Point out the ", "I could do with the "),
    ("Locate the ", "I am looking for the "),
    ("Find the ", "Hand over the "),
    ("Pick the ", "Hand over the "),
    ("Where is the ", "What has become of the "),
    ("Where are the ", "What has become of the "),
    ("to the left of", "on the left-hand side of"),
    ("on the left side of", "on the left-hand side of"),
    ("farthest to the left", "at the left-hand end"),
    ("to the right of", "on the right-hand side of"),
    ("on the right side of", "on the right-hand side of"),
    ("farthest to the right", "at the right-hand end"),
    ("in front of", "on this side of"),
    ("behind", "on the far side of"),
    ("on top of", "resting upon"),
    ("nearest to the camera", "within easiest reach"),
    ("closest to", "right next to"),
)
"""Phrases of the data engine, which the base model knows, and others that say the same."""


def coordinates_of(base: Path) -> tuple[float, ...]:
    """The coordinates that a checkpoint's tokenizer has a token of its own for."""
    return spelled_coordinates(load_tokenizer(checkpoint_root(base) / "llm", use_depth=False))


def write_questions(source: Path, target: Path, base: Path, held_out: int, in_other_words: bool, seed: int = 0) -> None:
    """Task files for the demo, from those of the data engine. What is there is not made again.

    All training files, with their answers spelled in the coordinates of ``base``, and of the held-out ones at most
    ``held_out`` questions each.

    Args:
        in_other_words: see ``reworded``.
    Raises:
        ValueError: naming a file that is missing.
    """
    if target.exists():
        return
    coordinates = coordinates_of(base)
    with replacing_folder(target) as part:
        for name in (*TRAIN, CONCAT[0]):
            for file in (f"{name}.json", f"{name}_grid.json"):
                found = [_respelled(sample, coordinates) for sample in read_json(source / file)]
                write_json(part / file, [reworded(sample) if in_other_words else sample for sample in found])
        for name in (*HELD_OUT, CONCAT[1]):
            found = read_json(source / f"{name}.json")
            chosen = rng_of("train-demo", seed, name).permutation(len(found))[:held_out]
            asked = [found[index] for index in sorted(chosen)]
            write_json(part / f"{name}.json", [reworded(sample) if in_other_words else sample for sample in asked])


def reworded(sample: dict) -> dict:
    """A sample whose phrase, if it has one, is put in words that the data engine never uses."""
    if sample["task"] != "referring":
        return sample
    asked, *rest = sample["conversations"]
    phrase, end, instruction = asked["value"].partition(_AFTER_PHRASE)
    for said, other in _WORDS:
        phrase = phrase.replace(said, other)
    return sample | {"conversations": [asked | {"value": f"{phrase}{end}{instruction}"}, *rest]}


def negative(sample: dict) -> bool:
    """Whether there is nothing to be seen."""
    return parse(turns(sample, "gpt")[0]).outcome is Outcome.NOT_VISIBLE


def hard(sample: dict) -> bool:
    """Whether there is nothing to be seen, for a reason that is hard to tell (tier B)."""
    return negative(sample) and sample["visibility"].get("tier") == "B"


def without(file: Path, target: Path, unwanted: Callable[[dict], bool]) -> None:
    """Writes the questions of a task file that are not ``unwanted``."""
    write_json(target, [sample for sample in read_json(file) if not unwanted(sample)])


def _respelled(sample: dict, coordinates: Sequence[float]) -> dict:
    said = [
        turn | {"value": respelled(turn["value"], coordinates)} if turn["from"] == "gpt" else turn
        for turn in sample["conversations"]
    ]
    return sample | {"conversations": said}
