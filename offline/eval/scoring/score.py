"""`roboref eval score`: figures from a predictions file and its data."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from tyro.conf import Positional

from offline.eval.asking.baselines import floor
from offline.eval.records.predictions import Predictions, read_predictions
from offline.eval.records.samples import Sample, SampleFile, read_samples
from offline.eval.reporting.table import render_score
from offline.eval.scoring.intervals import ClusterBootstrap
from offline.eval.scoring.judge import Judged, judge_all
from offline.eval.scoring.manipulation import render_records, score_records
from offline.eval.scoring.metrics import columns, figures, probability_figures
from offline.eval.scoring.steps import count_name, score_reasoning, step_count
from offline.files import as_json, write_json

# Share of the picture that the object covers; distance between the viewpoints [m]. Upper ends.
AREA_BINS = (0.0025, 0.01, 0.04, 1.0)
BASELINE_BINS = (0.5, 1.0, 2.0, 4.0, np.inf)


def scenes_of(samples: Sequence[Sample]) -> np.ndarray:
    """(N,) cluster index of each sample, by scene in alphabetical order; equal for equal samples."""
    return _indices([sample.scene for sample in samples])[1]


def score(judged: Judged, seed: int = 0) -> dict:
    """All figures of one judged file, JSON-ready.

    ``overall`` and ``groups``: by split (task and form), label, negative reason, relation of a referring expression,
    number of steps, object area and baseline; each group holds ``figures`` and its number of samples. A sample that
    lacks a property is in no group of it.
    """
    scenes = scenes_of(judged.samples)
    bootstrap = ClusterBootstrap(scenes, seed=seed)
    table = columns(judged)

    groups: dict[str, dict[str, dict]] = {}
    for kind, name, chosen in _groups(judged):
        found = figures(table, bootstrap, chosen)
        if kind == "split":
            found |= probability_figures(judged, scenes, bootstrap, chosen)
        groups.setdefault(kind, {})[name] = {"samples": int(chosen.sum()), "figures": found}
    names, counts = np.unique(judged.outcomes, return_counts=True)
    return {
        "samples": len(judged.samples),
        "scenes": bootstrap.count,
        "outcomes": dict(zip(names.tolist(), counts.tolist(), strict=True)),
        "problems": dict(sorted(judged.problems.items())),
        "examples": dict(sorted(judged.examples.items())),
        "overall": _overall(judged, table, scenes, bootstrap),
        "groups": groups,
    }


def score_file(predictions: Predictions, data: SampleFile, seed: int = 0, with_floor: bool = True) -> dict:
    """``score``, with what was wrong with the data, what the predictions were made with, and the baselines' figures."""
    compared = floor(data.samples) if with_floor else []
    judged, *others = judge_all(data.samples, [predictions, *compared])
    found = score(judged, seed)
    found |= {
        "model": predictions.name,
        "data": data.name,
        "data_problems": data.problems,
        "runs": list(predictions.runs.values()),
        "baselines": {one.name: overall(other, seed) for one, other in zip(compared, others, strict=True)},
    }
    found["examples"] = data.examples | found["examples"]
    if reasoning := score_reasoning(judged, predictions):
        found["reasoning"] = reasoning
    return found


def overall(judged: Judged, seed: int = 0) -> dict:
    """The figures over all samples, as ``score`` has them under "overall"."""
    scenes = scenes_of(judged.samples)
    return _overall(judged, columns(judged), scenes, ClusterBootstrap(scenes, seed=seed))


def _overall(judged: Judged, table: np.ndarray, scenes: np.ndarray, bootstrap: ClusterBootstrap) -> dict:
    found = figures(table, bootstrap) | probability_figures(judged, scenes, bootstrap)
    return {"samples": len(scenes), "figures": found}


def _groups(judged: Judged) -> Iterator[tuple[str, str, np.ndarray]]:
    yield from _by_name("split", [sample.split for sample in judged.samples])
    yield from _by_name("label", [sample.label for sample in judged.samples])
    yield from _by_name("reason", [sample.reason for sample in judged.samples])
    yield from _by_name("relation", [sample.relation for sample in judged.samples])
    counts = [step_count(sample) for sample in judged.samples]
    yield from _by_name("steps", ["" if count is None else count_name(count) for count in counts])
    yield from _by_bin("area", judged.area, AREA_BINS, lambda a, b: f"{100 * a:g} to {100 * b:g} % of the picture")
    baselines = np.array([np.nan if s.baseline is None else s.baseline for s in judged.samples])
    yield from _by_bin(
        "baseline", baselines, BASELINE_BINS, lambda a, b: f"over {a:g} m" if np.isinf(b) else f"{a:g} to {b:g} m"
    )


def _by_name(kind: str, names: list[str]) -> Iterator[tuple[str, str, np.ndarray]]:
    values, index = _indices(names)
    for k, value in enumerate(values):
        if value:
            yield kind, value, index == k


def _indices(names: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The distinct names in alphabetical order, and (N,) which of them each is."""
    values = sorted(set(names))
    place = {value: k for k, value in enumerate(values)}
    return values, np.array([place[name] for name in names], dtype=np.int64)


def _by_bin(kind: str, values: np.ndarray, ends: Sequence[float], title) -> Iterator[tuple[str, str, np.ndarray]]:
    known = np.isfinite(values)
    index = np.searchsorted(ends, values)  # NaN sorts last
    for k, (start, end) in enumerate(zip((0.0, *ends[:-1]), ends, strict=True)):
        chosen = known & (index == k)
        if chosen.any():
            yield kind, title(start, end), chosen


@dataclass(frozen=True)
class Score:
    """Figures from a predictions file and its data. No model, no clock: same files, same scores.

    roboref eval score predictions.jsonl --data t1_val_multi.json --out scores.json
    """

    predictions: Positional[Path]
    """As `roboref eval predict` writes it, or JSON lines with "id" and "text" from anybody."""
    data: Annotated[Path, tyro.conf.arg(metavar="FILE.json")]
    """The samples it answers."""
    out: Path | None = None
    """Also write all figures here, as JSON."""
    seed: int = 0
    """Seed of the bootstrap."""
    json: bool = False
    """Print the figures as JSON instead of a table, for scripts."""

    def __call__(self) -> None:
        # Everything read lives until the end; looking for garbage in it costs a third of the time.
        gc.disable()
        try:
            data = read_samples(self.data)
            found, text = self._score(read_predictions(self.predictions).answering(data), data)
        finally:
            gc.enable()
        if self.out is not None:
            write_json(self.out, found)
        print(as_json(found) if self.json else text)

    def _score(self, predictions: Predictions, data: SampleFile) -> tuple[dict, str]:
        """Figures and their text: pointing tasks by masks, manipulation records by their own metrics."""
        records = score_records(data.samples, predictions, self.seed)
        pointing = tuple(sample for sample in data.samples if sample.record is None)
        if not records:
            found = score_file(predictions, data, self.seed)
            return found, render_score(found)
        found = {"model": predictions.name, "data": data.name, "data_problems": data.problems, "manipulation": records}
        lines = [f"{count} samples left out: {kind} ({data.examples[kind]})" for kind, count in data.problems.items()]
        lines.append(render_records(records))
        if pointing:
            found = score_file(predictions, replace(data, samples=pointing), self.seed) | {"manipulation": records}
            lines.append(render_score(found))
        return found, "\n".join(lines)
