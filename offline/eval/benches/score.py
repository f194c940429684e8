"""Scores of a public benchmark, as its published scorer counts and as it should be counted; baselines beside them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from roboref_core.models.model_answer import Outcome
from roboref_core.prompting.conventions import Convention
from roboref_core.prompting.final_answer import unwrapped, without_thoughts

from offline.eval.benches import official, strict
from offline.eval.benches.families import Family
from offline.eval.benches.items import Item
from offline.eval.records.predictions import Predictions
from offline.eval.scoring.intervals import ClusterBootstrap, wilson
from offline.eval.scoring.steps import count_name, step_count


def score(
    items: Sequence[Item],
    predictions: Predictions,
    family: Family,
    combine: Callable[[dict[str, float | None]], float | None] | None = None,
) -> dict:
    """Per group, by number of reasoning steps where the benchmark states it, and overall (every question weighs the
    same), JSON-ready: strict, and official where there is one.

    ``strict``: every question counts; ``unparsable``, ``not_visible`` and ``missing`` are among the wrong.
    ``official``: the published scorer's mean over the questions that it does not leave out, its own last line, and how
    many it left out; a missing prediction is left out too, as it was never in the published answer file.

    Args:
        combine: how the published overall figure follows from those of the groups; None: every question weighs alike.
    """
    groups = list(dict.fromkeys(item.group for item in items))
    judged = [_judge(item, predictions, family) for item in items]
    found = {name: _figures([one for one in judged if one.item.group == name], family) for name in groups}
    overall = _figures(judged, family)
    if combine is not None and "official" in overall:
        figures = {name: one["official"]["value"] for name, one in found.items() if one.get("official")}
        overall["official"] = overall["official"] | {"value": combine(figures), "interval": None}
    counts = [step_count(item.sample) for item in items]
    by_steps = {
        count_name(count): _figures([one for one, own in zip(judged, counts, strict=True) if own == count], family)
        for count in sorted({count for count in counts if count is not None})
    }
    steps = {"steps": by_steps} if by_steps else {}
    return {"groups": found, "overall": overall, "questions": len(items)} | steps


@dataclass(frozen=True)
class _Judged:
    """Strict score, what was wrong ("" if nothing), and the published scorer's score (None: left out)."""

    item: Item
    strict: float
    wrong: str
    official: float | None


def _judge(item: Item, predictions: Predictions, family: Family) -> _Judged:
    line = predictions.by_id.get(item.sample.id)
    if line is None or not isinstance(line.get("text"), str):
        return _Judged(item, 0.0, "missing", None)
    text = line["text"]
    published = item.official_text(text) if item.official_text else None
    if item.mask is None:
        named = choice(text, item.choices)
        return _Judged(item, float(named == item.answer), "" if named else "unparsable", published)
    mask = item.mask()
    height, width = mask.shape
    outcome, targets = _targets(line, family, item, (width, height))
    parser = item.official or family.official
    if item.soft_mask is not None and parser is not None:
        try:
            parsed = parser(text, width, height)
            published = _accuracy(item, parsed, official.accuracy(parsed, item.soft_mask()))
        except official.LeftOut:
            published = None
    wrong = "" if targets else outcome.value
    return _Judged(item, _accuracy(item, targets, strict.accuracy(targets, mask)), wrong, published)


def _accuracy(item: Item, targets: Sequence[object], share: float) -> float:
    """The score of an answer of which ``share`` is inside the mask."""
    if item.count is not None and len(targets) != item.count:
        return 0.0
    return float(share == 1.0) if item.all_inside else share


def _targets(
    line: dict, family: Family, item: Item, size: tuple[int, int]
) -> tuple[Outcome, Sequence[tuple[float, ...]]]:
    """What the answer names, from its text under the family's convention.

    Pixels are those of a picture that only the backend knows: there its own reading counts.
    """
    points = line.get("points")
    if family.coordinates.convention is Convention.PIXELS and line.get("visible") is True and points:
        in_unit = all(len(p) == 2 and all(v is not None and 0.0 <= v <= 1.0 for v in p) for p in points)
        return (Outcome.VISIBLE, [(x, y) for x, y in points]) if in_unit else (Outcome.UNPARSABLE, [])
    found = strict.read(line["text"], family, size, item.sample.prompt)
    return found.outcome, found.places


def choice(text: str, choices: tuple[str, ...] = ("A", "B", "C", "D")) -> str:
    """The one choice that an answer names, after its thoughts; "" if it names none, or several different ones.

    Letters count in upper case only, words in any.
    """
    answer = without_thoughts(text)
    if answer is None:
        return ""
    letters = all(len(one) == 1 for one in choices)
    pattern = "|".join(re.escape(one) for one in choices)
    found = re.findall(rf"(?<![A-Za-z])({pattern})(?![A-Za-z])", unwrapped(answer), 0 if letters else re.IGNORECASE)
    named = {one if letters else one.lower() for one in found}
    return named.pop() if len(named) == 1 else ""


def _figures(judged: Sequence[_Judged], family: Family) -> dict:
    values = np.array([one.strict for one in judged])
    wrong = [one.wrong for one in judged]
    found = {
        "strict": _mean(values) | {kind: wrong.count(kind) for kind in ("unparsable", "not_visible", "missing")},
        "questions": len(judged),
    }
    if any(_has_published_scorer(one.item, family) for one in judged):
        loose = [one.official for one in judged]
        kept = np.array([value for value in loose if value is not None])
        found["official"] = _mean(kept) | {"left_out": len(loose) - len(kept), "line": official.summary(loose)}
    return found


def _has_published_scorer(item: Item, family: Family) -> bool:
    parser = item.official or family.official
    return item.official_text is not None or (item.soft_mask is not None and parser is not None)


def _mean(values: np.ndarray) -> dict:
    """Mean with a 95 % interval: Wilson's if every question is right or wrong, else the bootstrap's over questions."""
    if len(values) == 0:
        return {"value": None, "interval": None}
    if np.isin(values, (0.0, 1.0)).all():
        return {"value": float(values.mean()), "interval": wilson(int(values.sum()), len(values))}
    bootstrap = ClusterBootstrap(np.arange(len(values)))
    sums = bootstrap.sums(values[:, None])
    return {"value": float(values.mean()), "interval": bootstrap.interval(sums[:, 0] / len(values))}
