"""What the grid and the negatives are worth to the demo's model: trained without them, equally long, asked the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from offline.eval import ablation
from offline.eval.asking.predictor import ModelConfig
from offline.eval.asking.predictors import load_predictor
from offline.eval.records.samples import SampleFile, read_samples
from offline.eval.reporting.table import cell, markdown
from offline.eval.scoring.compare import compare
from offline.eval.scoring.judge import Judged, judge
from offline.eval.scoring.metrics import FIGURES
from offline.eval.scoring.score import score
from offline.files import write_bytes, write_json
from offline.train.demo.chain import COLOUR, answer, fine_tune
from offline.train.demo.config import AblationConfig
from offline.train.demo.demo import mixture, prepare
from offline.train.demo.page import difference
from offline.train.demo.questions import HELD_OUT, TRAIN, negative, without

_FIGURES = ("correct", "hit_at_mask", "balanced_accuracy", "false_refusals")
_COMPARED = ("correct", "hit_at_mask", "balanced_accuracy")
EVERYTHING, NO_GRID, NO_NEGATIVES = "everything", "no_grid", "no_negatives"


@dataclass(frozen=True, eq=False)
class Asked:
    """One model, asked the held-out questions of all tasks as one variant shows them.

    Attributes:
        trained: with what the model was trained.
        variant: how the questions were shown.
    """

    trained: str
    variant: ablation.Variant
    judged: Judged

    @property
    def shown(self) -> str:
        return "with a grid" if self.variant.show.grid else "plain"


def ablate(config: AblationConfig) -> str:
    """Trains, asks and compares; writes ablations.md and ablations.json, and returns the tables.

    Raises:
        ValueError: something is wrong, or missing.
        Preempted: a signal asked to stop.
    """
    _, questions = prepare(config.rooms_of, config.data, config.tuning)
    registry = _registry(questions, config.out)
    held_out = joined([read_samples(questions / f"{name}.json") for name in HELD_OUT])
    asked = []
    for trained, terms in _mixtures().items():
        data = {"registry": str(registry.absolute()), "mixture": terms}
        model = fine_tune(config.out / f"{trained}.yaml", config.tuning, data, config.tuning.steps, config.tuning.lr)
        predictor = load_predictor(ModelConfig("roborefer", path=str(model)), held_out.samples)
        for variant in ablation.variants([held_out], predictor, COLOUR):
            out = config.out / "answers" / f"{trained}_{variant.name}.jsonl"
            judged = judge(held_out.samples, answer(model, trained, held_out, out, variant.show))
            asked.append(Asked(trained, variant, judged))
    scores = {f"{one.trained}, {one.shown}": score(one.judged) for one in asked}
    write_json(config.out / "ablations.json", scores)
    text = tables(asked, list(scores.values()))
    write_bytes(config.out / "ablations.md", f"{text}\n".encode())
    print(f"{text}\n\n{config.out / 'ablations.md'}")
    return text


def tables(asked: Sequence[Asked], scores: Sequence[dict]) -> str:
    """Markdown: all figures; trained without against with; asked with a grid against without.

    Args:
        scores: of ``asked``, in their order.
    """
    titles = [FIGURES[name].title for name in _FIGURES]
    rows = []
    for one, found in zip(asked, scores, strict=True):
        groups = {"all tasks": found["overall"], **found["groups"]["split"]}
        rows += [
            [one.trained, one.shown, name, str(group["samples"]), *(cell(group["figures"][n]) for n in _FIGURES)]
            for name, group in groups.items()
        ]
    whole = {one.shown: one for one in asked if one.trained == EVERYTHING}
    against = [
        [one.trained, one.shown, *(difference(_compared(whole[one.shown], one)[name]) for name in _COMPARED)]
        for one in asked
        if one.trained != EVERYTHING
    ]
    at_evaluation = [
        [trained, *row]
        for trained in dict.fromkeys(one.trained for one in asked)
        for row in ablation.differences({one.variant: one.judged for one in asked if one.trained == trained})
    ]
    return "\n\n".join(
        [
            markdown(["trained with", "shown", "task", "questions", *titles], rows),
            f"Training without, against training with {EVERYTHING}; paired, 95 % by room, all tasks together:",
            markdown(["trained with", "shown", *(FIGURES[name].title for name in _COMPARED)], against),
            "A grid when asking, all tasks together:",
            markdown(["trained with", "adding", "to", "", "difference", "95 % by room", "verdict"], at_evaluation),
        ]
    )


def _compared(whole: Asked, other: Asked) -> dict:
    return compare(whole.judged, other.judged)["figures"]


def joined(files: Sequence[SampleFile]) -> SampleFile:
    """All files' samples as one file, so that one figure speaks for all tasks."""
    return SampleFile("held_out", tuple(sample for data in files for sample in data.samples), {}, {})


def _mixtures() -> dict[str, str]:
    return {
        EVERYTHING: mixture(),
        NO_GRID: mixture(grids=("",)),
        NO_NEGATIVES: mixture(suffix="_visible"),
    }


def _registry(questions: Path, out: Path) -> Path:
    """The registry of all training files, and of the same without negatives, which are written to ``out``."""
    entries: dict[str, Any] = {}
    for file in (questions / f"{name}{grid}.json" for name in TRAIN for grid in ("", "_grid")):
        visible = out / "questions" / f"{file.stem}_visible.json"
        if not visible.exists():
            without(file, visible, negative)
        entries |= {path.stem: {"json": str(path.absolute())} for path in (file, visible)}
    registry = out / "registry.yaml"
    write_bytes(registry, yaml.safe_dump(entries).encode())
    return registry
