"""What each ingredient of a fine-tuning is worth: trained with it and without it, equally long, asked the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from offline.eval.records.samples import SampleFile, read_samples
from offline.eval.reporting.table import cell, markdown
from offline.eval.scoring.compare import compare
from offline.eval.scoring.judge import Judged, judge
from offline.eval.scoring.metrics import FIGURES
from offline.eval.scoring.score import overall
from offline.files import read_json, write_bytes, write_json
from offline.train.demo.chain import COLOUR, DEPTH_PARTS, FROZEN_VISION, PARTS, Lesson, answer, fine_tune
from offline.train.demo.config import AblationConfig
from offline.train.demo.demo import mixture, prepare
from offline.train.demo.page import difference
from offline.train.demo.questions import CONCAT, HELD_OUT, TRAIN, hard, negative, without

_FIGURES = ("correct", "hit_at_mask", "balanced_accuracy", "false_refusals")
_COMPARED = ("correct", "hit_at_mask", "balanced_accuracy")
CONCAT_TRAIN, CONCAT_HELD_OUT = CONCAT
_OTHERS = TRAIN[1:]
"""All tasks but T1, whose form is ablated."""
_SHARED = tuple(f"{name}*0.5" for name in (TRAIN[0], CONCAT_TRAIN))


@dataclass(frozen=True)
class Recipe:
    """One way to train; every recipe takes the same number of steps of as many samples.

    Attributes:
        lessons: what is learned, one after the other.
        parts: of the model, that learn.
        depth: pictures come with depth, in training and when asked.
    """

    lessons: tuple[Lesson, ...]
    parts: tuple[str, ...] = PARTS
    depth: bool = False


@dataclass(frozen=True)
class Ablation:
    """Recipes that differ in one thing.

    Attributes:
        title: what that is.
        recipes: by name; all are compared with the first.
        grid: also ask with a grid over the pictures.
    """

    title: str
    recipes: Mapping[str, Recipe]
    grid: bool = False


def _plain(names: Sequence[str] = TRAIN, suffix: str = "", grids: Sequence[str] = ("",)) -> Recipe:
    return Recipe((Lesson(mixture(names, grids, suffix)),))


EVERYTHING = Recipe((Lesson(mixture(grids=("", "_grid"))),))
ABLATIONS: dict[str, Ablation] = {
    "grid": Ablation(
        "training questions with a grid among them",
        {"with_grids": EVERYTHING, "no_grid": _plain()},
        grid=True,
    ),
    "negatives": Ablation(
        "questions about what is not there, and in which order they come",
        {
            "all_negatives": _plain(),
            "no_negatives": _plain(suffix="_visible"),
            "curriculum": Recipe(
                (
                    Lesson(mixture(grids=("",), suffix="_visible"), 0.2),
                    Lesson(mixture(grids=("",), suffix="_easy"), 0.5),
                    Lesson(mixture(grids=("",))),
                )
            ),
        },
    ),
    "form": Ablation(
        "two pictures, or both side by side in one",
        {
            "multi": _plain(),
            "concat": _plain((CONCAT_TRAIN, *_OTHERS)),
            "both_forms": Recipe((Lesson("+".join((*_SHARED, mixture(_OTHERS, ("",))))),)),
        },
    ),
    "depth": Ablation(
        "depth pictures beside the colour ones",
        {"colour": _plain(), "colour_and_depth": replace(_plain(suffix="_rgbd"), parts=DEPTH_PARTS, depth=True)},
    ),
    "vision": Ablation(
        "vision that learns, or stays as it is",
        {"vision_learns": _plain(), "vision_frozen": replace(_plain(), parts=FROZEN_VISION)},
    ),
}


@dataclass(frozen=True, eq=False)
class Asked:
    """One model, asked the held-out questions of all tasks in one way.

    Attributes:
        recipe: by which the model was trained.
        shown: how it was asked.
    """

    recipe: str
    shown: str
    judged: Judged


def ablate(config: AblationConfig) -> str:
    """Trains, asks and compares; writes ablations.md and ablations.json, and returns the tables.

    Raises:
        ValueError: something is wrong, or missing; or no such ablation.
        Preempted: a signal asked to stop.
    """
    if unknown := set(config.only) - set(ABLATIONS):
        raise ValueError(f"no ablation {', '.join(sorted(unknown))}; there are {', '.join(ABLATIONS)}")
    chosen = {name: one for name, one in ABLATIONS.items() if not config.only or name in config.only}
    questions = prepare(config.out, config.data, config.tuning)
    registry = write_variants(questions, config.out)
    held_out = joined([read_samples(questions / f"{name}.json") for name in (*HELD_OUT, CONCAT_HELD_OUT)])
    models: dict[Recipe, tuple[str, Path]] = {}
    asked: dict[str, list[Asked]] = {}
    for name, ablation in chosen.items():
        for title, recipe in ablation.recipes.items():
            if recipe not in models:
                plan = config.out / f"{title}.yaml"
                models[recipe] = (title, fine_tune(plan, config.tuning, registry, recipe.lessons, recipe.parts))
            trained, model = models[recipe]
            for grid in (False, True) if ablation.grid else (False,):
                show = replace(COLOUR, grid=grid, depth=recipe.depth)
                shown = "with a grid" if grid else "plain"
                out = config.out / "answers" / f"{trained}{'_grid' if grid else ''}.jsonl"
                judged = judge(held_out.samples, answer(model, trained, held_out, out, show))
                asked.setdefault(name, []).append(Asked(title, shown, judged))
    scores = {name: {f"{one.recipe}, {one.shown}": overall(one.judged) for one in of} for name, of in asked.items()}
    write_json(config.out / "ablations.json", scores)
    text = "\n\n".join(table(ABLATIONS[name], of) for name, of in asked.items())
    write_bytes(config.out / "ablations.md", f"{text}\n".encode())
    print(f"{text}\n\n{config.out / 'ablations.md'}")
    return text


def table(ablation: Ablation, asked: Sequence[Asked]) -> str:
    """Markdown: figures of each recipe over all tasks, and its difference from the first, asked in the same way."""
    first = next(iter(ablation.recipes))
    bases = {one.shown: one.judged for one in asked if one.recipe == first}
    rows = []
    for one in asked:
        found = overall(one.judged)
        figures = compare(bases[one.shown], one.judged)["figures"]
        against = ["" if one.recipe == first else difference(figures[name]) for name in _COMPARED]
        shown = [cell(found["figures"][name]) for name in _FIGURES]
        rows.append([one.recipe, one.shown, str(found["samples"]), *shown, *against])
    titles = [FIGURES[name].title for name in _FIGURES]
    differences = [f"{FIGURES[name].title}, against {first}" for name in _COMPARED]
    head = f"{ablation.title[0].upper()}{ablation.title[1:]} (paired, 95 % by room, all tasks together):"
    return f"{head}\n\n{markdown(['trained with', 'asked', 'questions', *titles, *differences], rows)}"


def joined(files: Sequence[SampleFile]) -> SampleFile:
    """All files' samples as one file, so that one figure speaks for all tasks."""
    return SampleFile("held_out", tuple(sample for data in files for sample in data.samples), {}, {})


_UNWANTED: dict[str, Callable[[dict], bool]] = {"_visible": negative, "_easy": hard}


def write_variants(questions: Path, out: Path) -> Path:
    """The registry of all training files; of the same without negatives, and without hard ones, which are written to
    ``out``; and with depth."""
    entries: dict[str, Any] = {}
    names = [*(f"{name}{grid}" for name in TRAIN for grid in ("", "_grid")), CONCAT_TRAIN]
    for file in (questions / f"{name}.json" for name in names):
        entries[file.stem] = {"json": str(file.absolute())}
        if any("depth" in sample for sample in read_json(file)):
            entries[f"{file.stem}_rgbd"] = entries[file.stem] | {"depth_root": "/"}
        for suffix, unwanted in _UNWANTED.items():
            target = out / "questions_without" / f"{file.stem}{suffix}.json"
            if not target.exists():
                without(file, target, unwanted)
            entries[target.stem] = {"json": str(target.absolute())}
    registry = out / "registry.yaml"
    write_bytes(registry, yaml.safe_dump(entries).encode())
    return registry
