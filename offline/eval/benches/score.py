"""Scores of a public benchmark, as its published scorer counts and as it should be counted; baselines beside them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from offline.eval.benches import official, strict
from offline.eval.benches.families import Family
from offline.eval.benches.items import Item
from offline.eval.records.predictions import Predictions
from offline.eval.scoring.intervals import ClusterBootstrap, wilson

_LETTER = re.compile(r"(?<![A-Za-z])\(?([A-D])\)?(?![A-Za-z])")


def score(items: Sequence[Item], predictions: Predictions, family: Family) -> dict:
    """Per group and overall (every question weighs the same), JSON-ready: strict, and official where there is one.

    ``strict``: every question counts; ``unparsable`` and ``missing`` are among the wrong. ``official``: the published
    scorer's mean over the questions that it does not leave out, its own last line, and how many it left out; a
    missing prediction is left out too, as it was never in the published answer file.
    """
    groups = list(dict.fromkeys(item.group for item in items))
    judged = [(item, *_judge(item, predictions, family)) for item in items]
    found = {name: _figures([row for row in judged if row[0].group == name]) for name in groups}
    return {"groups": found, "overall": _figures(judged), "questions": len(items)}


def _judge(item: Item, predictions: Predictions, family: Family) -> tuple[float, str, float | None]:
    """(strict score, "" or what was wrong, official score or None)."""
    line = predictions.by_id.get(item.sample.id)
    if line is None or not isinstance(line.get("text"), str):
        return 0.0, "missing", None
    text = line["text"]
    if item.mask is None:
        letter = choice(text)
        return float(letter == item.letter), "" if letter else "unparsable", None
    mask = item.mask()
    height, width = mask.shape
    targets = _targets(line, family, (width, height))
    loose = None
    if item.soft_mask is not None:
        try:
            parsed = (item.official or family.official)(text, width, height)
            loose = official.accuracy(parsed, item.soft_mask())
        except official.LeftOut:
            loose = None
    return strict.accuracy(targets, mask), "" if targets else "unparsable", loose


def _targets(line: dict, family: Family, size: tuple[int, int]) -> list[tuple[float, ...]] | None:
    """As the backend read them under its own convention, or, where it found no point, from the text."""
    points = line.get("points")
    if line.get("visible") is True and points:
        in_unit = all(len(p) == 2 and all(v is not None and 0.0 <= v <= 1.0 for v in p) for p in points)
        return [(x, y) for x, y in points] if in_unit else None
    return strict.read(line["text"], family, size)


def choice(text: str) -> str:
    """The one letter A to D that an answer names; "" if it names none, or several different ones."""
    letters = set(_LETTER.findall(text))
    return letters.pop() if len(letters) == 1 else ""


def _figures(judged: Sequence[tuple[Item, float, str, float | None]]) -> dict:
    values = np.array([value for _, value, _, _ in judged])
    wrong = [why for _, _, why, _ in judged]
    found = {
        "strict": _mean(values) | {"unparsable": wrong.count("unparsable"), "missing": wrong.count("missing")},
        "questions": len(judged),
    }
    if any(item.soft_mask is not None for item, *_ in judged):
        loose = [value for _, _, _, value in judged]
        kept = np.array([value for value in loose if value is not None])
        found["official"] = _mean(kept) | {"left_out": len(loose) - len(kept), "line": official.summary(loose)}
    return found


def _mean(values: np.ndarray) -> dict:
    """Mean with a 95 % interval: Wilson's if every question is right or wrong, else the bootstrap's over questions."""
    if len(values) == 0:
        return {"value": None, "interval": None}
    if np.isin(values, (0.0, 1.0)).all():
        return {"value": float(values.mean()), "interval": wilson(int(values.sum()), len(values))}
    bootstrap = ClusterBootstrap(np.arange(len(values)))
    sums = bootstrap.sums(values[:, None])
    return {"value": float(values.mean()), "interval": bootstrap.interval(sums[:, 0] / len(values))}
