"""`roboref eval compare`: two models on the same samples; what differs, and what is noise.

    roboref eval compare base.jsonl tuned.jsonl --data t1_val_multi.json

Paired: the same scenes are drawn for both (bootstrap by scene), and McNemar's test counts the samples that only one
of the two solves. A difference counts when its bootstrap interval leaves out zero.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from tyro.conf import Positional

from offline.eval.records.answers import Answer
from offline.eval.records.predictions import read_predictions
from offline.eval.records.samples import read_samples
from offline.eval.reporting.table import HEADLINE, markdown
from offline.eval.scoring.intervals import FEWEST_CLUSTERS, ClusterBootstrap, mcnemar
from offline.eval.scoring.judge import Judged, judge_all
from offline.eval.scoring.metrics import FIGURES, columns
from offline.eval.scoring.score import scenes_of
from offline.files import write_json

_ALPHA = 0.05


@dataclass(frozen=True)
class Config:
    """Compare two predictions files.

    Attributes:
        a, b: predictions of the two models; differences are B - A.
        data: the samples that both answer.
        out: also write the comparison here, as JSON.
        common: leave out samples that either has no answer to, instead of counting them as wrong.
        seed: of the bootstrap.
    """

    a: Positional[Path]
    b: Positional[Path]
    data: Annotated[Path, tyro.conf.arg(metavar="FILE.json")]
    out: Path | None = None
    common: bool = False
    seed: int = 0


def compare(a: Judged, b: Judged, seed: int = 0, common: bool = False) -> dict:
    """B against A, JSON-ready: per figure both values, the difference with its interval, and a verdict.

    Args:
        common: only samples that both answered.

    Raises ValueError if they judge different samples.
    """
    if [sample.id for sample in a.samples] != [sample.id for sample in b.samples]:
        raise ValueError("a paired comparison needs the same samples for both")
    answered = (a.answer != Answer.MISSING) & (b.answer != Answer.MISSING)
    chosen = answered if common else np.ones(len(answered), dtype=bool)
    if not chosen.any():
        raise ValueError("there is no sample that both answer")
    bootstrap = ClusterBootstrap(scenes_of(a.samples), seed=seed)
    tables = columns(a), columns(b)
    only_a, only_b = int((a.correct & ~b.correct)[chosen].sum()), int((b.correct & ~a.correct)[chosen].sum())
    test = {"only_a": only_a, "only_b": only_b, "p": mcnemar(only_a, only_b)}
    return {
        "samples": int(chosen.sum()),
        "scenes": bootstrap.count,
        "answered_by_both": int(answered.sum()),
        "mcnemar": test,
        "figures": {name: _difference(name, *tables, bootstrap, chosen, test) for name in HEADLINE},
        "outcomes": dict(Counter(_changes(a.outcomes[chosen], b.outcomes[chosen])).most_common()),
    }


def _changes(a: np.ndarray, b: np.ndarray) -> list[str]:
    """ "miss -> hit": what came of each sample under A, and under B."""
    return [f"{one} -> {other}" for one, other in zip(a.tolist(), b.tolist(), strict=True)]


def _difference(name: str, a: np.ndarray, b: np.ndarray, bootstrap: ClusterBootstrap, chosen: np.ndarray, test) -> dict:
    figure = FIGURES[name]
    values = [float(figure.statistic(table[chosen].sum(axis=0))) for table in (a, b)]
    if not np.isfinite(values).all():
        return {"a": None, "b": None, "difference": None, "interval": None, "verdict": "not defined"}
    low_high = bootstrap.difference(b, a, figure.statistic, chosen)
    difference = values[1] - values[0]
    if low_high is None:
        # So few scenes say little of others; the sample-wise test holds for these only.
        decided = name == "correct" and test["p"] < _ALPHA
    else:
        decided = not low_high[0] <= 0.0 <= low_high[1]
    better = "B" if difference * figure.better > 0 else "A"
    verdict = f"{better} is better" if decided else "within noise"
    return {"a": values[0], "b": values[1], "difference": difference, "interval": low_high, "verdict": verdict}


HEADER = ("", "A", "B", "B - A", "95 % by scene", "verdict")


def rows(found: dict) -> list[list[str]]:
    """A table's rows under HEADER; figures that either lacks are left out."""
    shown = []
    for name, one in found["figures"].items():
        if one["difference"] is not None:
            interval = "-" if one["interval"] is None else f"{one['interval'][0]:+.3f} to {one['interval'][1]:+.3f}"
            values = [f"{one['a']:.3f}", f"{one['b']:.3f}", f"{one['difference']:+.3f}"]
            shown.append([FIGURES[name].title, *values, interval, one["verdict"]])
    return shown


def render(found: dict, name_a: str, name_b: str) -> str:
    """The comparison for a terminal."""
    test = found["mcnemar"]
    lines = [
        f"A: {name_a}",
        f"B: {name_b}",
        f"{found['samples']} samples in {found['scenes']} scenes, {found['answered_by_both']} answered by both",
        "",
        markdown(HEADER, rows(found)),
        "",
        f"solved by A only: {test['only_a']}, by B only: {test['only_b']} (McNemar, exact: p = {test['p']:.3g})",
    ]
    if found["scenes"] < FEWEST_CLUSTERS:
        lines.append("too few scenes to tell how much of a difference is theirs: the verdict is McNemar's alone")
    changed = {change: n for change, n in found["outcomes"].items() if len(set(change.split(" -> "))) == 2}
    lines.append(f"changes: {', '.join(f'{n} x {change}' for change, n in changed.items()) or 'none'}")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    config = tyro.cli(Config, args=argv, prog="roboref eval compare", description=__doc__)
    try:
        data = read_samples(config.data)
        predictions = [read_predictions(path) for path in (config.a, config.b)]
        found = compare(*judge_all(data.samples, predictions), config.seed, config.common)
    except ValueError as error:
        print(f"roboref eval compare: {error}", file=sys.stderr)
        return 1
    names = [f"{one.name} ({path})" for one, path in zip(predictions, (config.a, config.b), strict=True)]
    if config.out is not None:
        write_json(config.out, {"a": names[0], "b": names[1], "data": data.name, **found})
    print(render(found, *names))
    return 0
