"""`roboref eval compare`: two models on the same samples, paired: the same scenes are drawn for both, and an exact test
counts the samples that only one of the two gets right. See ``offline.eval.scoring.paired`` for what is better."""

from __future__ import annotations

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
from offline.eval.scoring import paired
from offline.eval.scoring.intervals import ClusterBootstrap
from offline.eval.scoring.judge import Judged, judge_all
from offline.eval.scoring.metrics import FIGURES, columns
from offline.files import as_json, write_json


def compare(a: Judged, b: Judged, seed: int = 0, common: bool = False) -> dict:
    """B against A, JSON-ready: per figure both values, the difference with its interval, and a verdict.

    Args:
        common: only samples that both answered.

    Raises ValueError if they judge different samples, or one of them answers none.
    """
    if [sample.id for sample in a.samples] != [sample.id for sample in b.samples]:
        raise ValueError("a paired comparison needs the same samples for both")
    answered = (a.answer != Answer.MISSING) & (b.answer != Answer.MISSING)
    chosen = answered if common else np.ones(len(answered), dtype=bool)
    if not chosen.any():
        raise ValueError("there is no sample that both answer")
    clusters = paired.Clusters.choose(
        [sample.scene for sample in a.samples], [f"{sample.extra.get('uid')} {sample.label}" for sample in a.samples]
    )
    bootstrap = clusters.bootstrap(seed)
    tables = columns(a), columns(b)
    found = {name: _difference(name, tables, bootstrap, chosen) for name in HEADLINE}
    return {
        "samples": int(chosen.sum()),
        "scenes": len({sample.scene for sample in a.samples}),
        "clusters": {"of": clusters.of, "count": bootstrap.count},
        "note": paired.note(clusters, bootstrap.count),
        "answered_by_both": int(answered.sum()),
        "figures": found,
        "outcomes": dict(Counter(_changes(a.outcomes[chosen], b.outcomes[chosen])).most_common()),
    }


def _changes(a: np.ndarray, b: np.ndarray) -> list[str]:
    """ "miss -> hit": what came of each sample under A, and under B."""
    return [f"{one} -> {other}" for one, other in zip(a.tolist(), b.tolist(), strict=True)]


def _difference(
    name: str, tables: tuple[np.ndarray, np.ndarray], bootstrap: ClusterBootstrap, chosen: np.ndarray
) -> dict:
    figure, (a, b) = FIGURES[name], tables
    before, after = (float(figure.statistic(table[chosen].sum(axis=0))) for table in tables)
    cases = [figure.of_cases(table[chosen]) for table in tables]
    interval = bootstrap.difference(b, a, figure.statistic, chosen)
    won = paired.better_in(cases[0], cases[1], figure.better)
    count = int(np.isfinite(cases).all(axis=0).sum())
    return paired.difference(before, after, interval, won, count, figure.better)


HEADER = ("", "A", "B", "B - A", "95 %", "only A : only B", "exact p", "verdict")


def rows(found: dict) -> list[list[str]]:
    """A table's rows under HEADER; figures that either lacks are left out."""
    shown = []
    for name, one in found["figures"].items():
        if one["difference"] is not None:
            interval = "-" if one["interval"] is None else f"{one['interval'][0]:+.3f} to {one['interval'][1]:+.3f}"
            values = [f"{one['a']:.3f}", f"{one['b']:.3f}", f"{one['difference']:+.3f}"]
            won = f"{one['better_in']['a']} : {one['better_in']['b']}"
            shown.append([FIGURES[name].title, *values, interval, won, f"{one['p']:.2g}", one["verdict"]])
    return shown


def render(found: dict, name_a: str, name_b: str) -> str:
    """The comparison for a terminal."""
    lines = [
        f"A: {name_a}",
        f"B: {name_b}",
        f"{found['samples']} samples in {found['scenes']} scenes, {found['answered_by_both']} answered by both",
        "",
        markdown(HEADER, rows(found)),
        "",
        f"95 %: bootstrap of {found['clusters']['count']} {found['clusters']['of']}s. Exact p: of the cases that only "
        "one of the two gets right (of L2: in which it is nearer). Better: both agree.",
    ]
    if found["note"]:
        lines.append(found["note"])
    changed = {change: n for change, n in found["outcomes"].items() if len(set(change.split(" -> "))) == 2}
    lines.append(f"changes: {', '.join(f'{n} x {change}' for change, n in changed.items()) or 'none'}")
    return "\n".join(lines)


@dataclass(frozen=True)
class Compare:
    """Compare two models on the same samples: what differs, and what is noise.

    roboref eval compare base.jsonl tuned.jsonl --data t1_val_multi.json
    """

    a: Positional[Path]
    """Predictions of a model."""
    b: Positional[Path]
    """Predictions of another one; differences are B - A."""
    data: Annotated[Path, tyro.conf.arg(metavar="FILE.json")]
    """The samples that both answer."""
    out: Path | None = None
    """Also write the comparison here, as JSON."""
    common: bool = False
    """Leave out samples that either has no answer to, instead of counting them as wrong."""
    seed: int = 0
    """Seed of the bootstrap."""
    json: bool = False
    """Print the figures as JSON instead of a table, for scripts."""

    def __call__(self) -> None:
        data = read_samples(self.data)
        predictions = [read_predictions(path).answering(data) for path in (self.a, self.b)]
        one, other = judge_all(data.samples, predictions)
        found = compare(one, other, self.seed, self.common)
        names = [f"{read.name} ({path})" for read, path in zip(predictions, (self.a, self.b), strict=True)]
        named = {"a": names[0], "b": names[1], "data": data.name, **found}
        if self.out is not None:
            write_json(self.out, named)
        print(as_json(named) if self.json else render(found, *names))
