"""The data engine's questions as the demo asks them: in the model's own coordinates, few held out, phrases in
other words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from roboref_core.atomic import replacing_folder
from roboref_core.models.model_answer import Outcome
from roboref_core.models.roborefer.checkpoint.config import checkpoint_root
from roboref_core.models.roborefer.prompt_text import load_tokenizer
from roboref_core.prompting.answer_text import parse
from roboref_core.seeds import rng_of

from offline.data_engine.task_files import pictures_of, turns
from offline.files import read_json, write_json
from offline.train.nano.vocabulary import respelled, spelled_coordinates

TASKS = ("t1_{}_multi", "t2a_{}_multi", "t2b_{}_multi", "referring_{}")
"""Task files without grid; {} is the split."""
TRAIN, HELD_OUT = tuple(task.format("train") for task in TASKS), tuple(task.format("val") for task in TASKS)
CONCAT = ("t1_train_concat", "t1_val_concat")
"""T1 with both views in one picture."""
TUNING = tuple(f"tuning_{name}" for name in TRAIN if "t2b" not in name)
"""Questions about rooms set aside, of the tasks that have something to refuse."""
_NEGATIVES = 0.6
"""Share of the negatives about marks that is trained on."""
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


def write_questions(
    source: Path,
    target: Path,
    base: Path,
    most: int,
    in_other_words: bool,
    aside: Collection[str] = (),
    seed: int = 0,
    variants: bool = False,
) -> None:
    """Task files for the demo, from those of the data engine. What is there is not made again.

    All training files, with their answers spelled in the coordinates of ``base``, fewer negatives, and phrases about
    one picture in one dialogue; at most ``most`` questions of each held-out file, and of each file of ``TUNING``.

    Args:
        in_other_words: see ``reworded``.
        aside: scenes of the training split that are not trained on, but asked about in ``TUNING``.
        variants: those with grids and with both views in one picture, too; with all negatives, each by itself.
    Raises:
        ValueError: naming a file that is missing.
    """
    if target.exists():
        return
    coordinates = coordinates_of(base)
    with replacing_folder(target) as part:

        def said(samples: list[dict]) -> list[dict]:
            return [reworded(sample) if in_other_words else sample for sample in samples]

        def write(name: str, samples: list[dict]) -> None:
            write_json(part / f"{name}.json", samples)

        def drawn(name: str, samples: list[dict]) -> list[dict]:
            chosen = rng_of("train-demo", seed, name).permutation(len(samples))[:most]
            return [samples[index] for index in sorted(chosen)]

        names, forms = ((*TRAIN, CONCAT[0]), ("", "_grid")) if variants else (TRAIN, ("",))
        for name in (f"{name}{grid}" for name in names for grid in forms):
            found = read_json(source / f"{name}.json")
            learned = [sample for sample in found if not _scenes(sample) & set(aside)]
            learned = said([_respelled(sample, coordinates) for sample in learned])
            write(name, learned if variants else dialogues(fewer_negatives(learned)))
            if (tuning := f"tuning_{name}") in TUNING:
                write(tuning, said(drawn(tuning, [sample for sample in found if sample["scene_id"] in aside])))
        for name in (*HELD_OUT, CONCAT[1]) if variants else HELD_OUT:
            write(name, said(drawn(name, read_json(source / f"{name}.json"))))


def fewer_negatives(samples: Sequence[dict]) -> list[dict]:
    """All positives, and some of the negatives; all phrases.

    Of marks nearly half are negative, and the first steps of a training teach to refuse nearly all of them.
    """
    kept = (s["task"] == "referring" or rng_of("negatives", s["id"]).random() < _NEGATIVES for s in samples)
    return [s for s, keep in zip(samples, kept, strict=True) if keep or not negative(s)]


def dialogues(samples: Sequence[dict]) -> list[dict]:
    """One sample for all questions about the same pictures, one after the other, in an order of their own each.

    Pictures are what a step spends its time on; they serve every question about them.
    """
    together: dict[tuple[str, ...], list[dict]] = {}
    for sample in samples:
        together.setdefault(tuple(pictures_of(sample)), []).append(sample)
    return [_dialogue(members) for members in together.values()]


def _dialogue(members: Sequence[dict]) -> dict:
    first = members[0]
    order = rng_of("dialogue", first["id"]).permutation(len(members))
    return {
        "id": first["id"],
        "task": first["task"],
        "scene_id": first["scene_id"],
        "image": first["image"],
        "conversations": [turn for index in order for turn in members[index]["conversations"]],
    }


def _scenes(sample: dict) -> set[str]:
    """The scenes that a sample's pictures show."""
    return {sample["scene_id"], (sample.get("visibility") or {}).get("query_scene", sample["scene_id"])}


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
