"""`roboref eval replay compare`: two replays of one bag, answer against answer; what differs, and what is noise.

    roboref eval replay --out out/a --seeds 1 2 3 4 5
    roboref eval replay --out out/b --seeds 1 2 3 4 5 --model backend roborefer path CHECKPOINT
    roboref eval replay compare out/a out/b

Recording is deterministic, so equal options make equal bags; that they are equal is checked, message by message.
Paired: both answered the same questions. A difference counts when two tests agree: an exact one of the questions that
only one of the two gets right (McNemar; of who is nearer: the sign test), and a bootstrap of whole sequences, or of
whole objects where there are too few sequences to tell of others.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from roboref_core.views.visibility import Visibility
from tyro.conf import Positional

from offline.eval.replay.scoring.record import read_jsonl
from offline.eval.replay.scoring.score import HIDDEN, error_2d, error_3d, hits_mask, outcome
from offline.eval.reporting.table import markdown
from offline.eval.scoring.intervals import FEWEST_CLUSTERS, ClusterBootstrap, mcnemar
from offline.files import read_json, write_json

_ALPHA = 0.05
_NEAR = 0.10
# What makes two records answers to one question.
_IDENTITY = ("question_id", "text", "object_id", "reference", "mark")


@dataclass(frozen=True)
class Config:
    """Compare two replays.

    Attributes:
        a, b: folders of two replays of the same bags (--out of each); differences are B - A.
        out: also write the comparison here, as JSON.
        seed: of the bootstrap.
    """

    a: Positional[Path]
    b: Positional[Path]
    out: Path | None = None
    seed: int = 0


@dataclass(frozen=True)
class Replayed:
    """A finished replay, read back.

    Attributes:
        records: by question id, with "folder", where their pictures lie, and "sequence".
        bags: sequence -> digest of its bag's messages.
        not_asked: ids of questions that a live replay could not ask.
    """

    records: dict[str, dict]
    bags: dict[str, str]
    not_asked: set[str]

    @property
    def model(self) -> str:
        return ", ".join(sorted({record["answer"]["model"] for record in self.records.values()}))


def read_replay(folder: Path) -> Replayed:
    """Raises ValueError naming what is missing or twice there."""
    records: dict[str, dict] = {}
    bags: dict[str, str] = {}
    not_asked: set[str] = set()
    files = sorted(folder.glob("*/questions.jsonl"))
    if not files:
        raise ValueError(f"{folder}: no finished replay: expected */questions.jsonl in it")
    for file in files:
        sequence, about = file.parent.name, file.parent / "run.json"
        if not about.exists():
            raise ValueError(f"{about} is missing: the replay was stopped, or is of an older version; run it again")
        run = read_json(about)
        bags[sequence] = run["bag"]
        not_asked |= (run["live"] or {"not_asked": {}})["not_asked"].keys()
        for record in read_jsonl(file):
            name = record["question"]["question_id"]
            if name in records:
                raise ValueError(f"{file}: question {name} is also in {records[name]['folder']}")
            records[name] = record | {"folder": file.parent, "sequence": sequence}
    return Replayed(records, bags, not_asked)


def compare(a: Replayed, b: Replayed, seed: int = 0) -> dict:
    """B against A, JSON-ready: per figure both values, the difference with its interval, the exact test, a verdict.

    Cases count that are decidable in both: a live replay may have searched another view than a stepped one. Where
    things were moved or removed, "fates" has the shares of each fate by itself.

    Raises ValueError if they were asked different questions.
    """
    not_asked = a.not_asked | b.not_asked
    odd = sorted((a.records.keys() ^ b.records.keys()) - not_asked)
    if odd:
        raise ValueError(f"a paired comparison needs the same questions; {len(odd)} are in one only, e.g. {odd[0]}")
    pairs = [(a.records[name], b.records[name]) for name in sorted(a.records.keys() & b.records.keys())]
    if not pairs:
        raise ValueError("there is no question that both replays asked")
    for one, other in pairs:
        found = [[record["question"][key] for key in _IDENTITY] for record in (one, other)]
        if found[0] != found[1]:
            raise ValueError(f"question {found[0][0]} is another in each replay: {found[0]} and {found[1]}")
    cluster_of, clusters = _clusters([one for one, _ in pairs])
    bootstrap = ClusterBootstrap(cluster_of, seed=seed)
    judged = [np.array([_judge(record) for record in side]) for side in zip(*pairs, strict=True)]
    fates = np.array([one["question"]["fate"] for one, _ in pairs])
    by_fate = {}
    for fate in np.unique(fates).tolist():
        # What is of another fate does not apply.
        own = [np.where((fates == fate)[:, None], side, np.nan) for side in judged]
        by_fate[fate] = {name: _share(name, *own, bootstrap) for name in _SHARES}
    return {
        "questions": len(pairs),
        "not_asked": len(not_asked),
        "other_view": sum(one["question"]["query"] != other["question"]["query"] for one, other in pairs),
        "sequences": len(a.bags),
        "same_bags": a.bags == b.bags,
        "clusters": {"of": clusters, "count": bootstrap.count},
        "shares": {name: _share(name, *judged, bootstrap) for name in _SHARES},
        "errors": {name: _error(name, *judged, cluster_of, bootstrap) for name in _ERRORS},
        "fates": by_fate if len(by_fate) > 1 else {},
    }


def _clusters(records: Sequence[dict]) -> tuple[np.ndarray, str]:
    names, what = [record["sequence"] for record in records], "sequence"
    if len(set(names)) < FEWEST_CLUSTERS:
        names, what = [f"{r['sequence']} {r['question']['object_id']}" for r in records], "object"
    return np.unique(names, return_inverse=True)[1], what


# Of each question, NaN where it does not apply; the first five are 0 or 1.
_COLUMNS = ("right", "near", "mask", "decided", "refused", "error_3d", "error_2d")
_SHARES = {
    "right": "right: within 10 cm of the truth, or rightly refused",
    "near": "3D: within 10 cm of the truth, visible points",
    "mask": "2D: Hit@Mask, visible points",
    "decided": "visible or not decided right",
    "refused": "NOT_VISIBLE recall on hidden points",
}
_ERRORS = {"error_3d": ("3D error, median", "m"), "error_2d": ("2D error, median", "px")}


def _judge(record: dict) -> list[float]:
    nothing = [np.nan] * len(_COLUMNS)
    truth = record["question"]["truth"]
    if not truth["decidable"]:
        return nothing
    if truth["visibility"] in HIDDEN:
        refused = float(outcome(record) == "rightly refused")
        return [refused, np.nan, np.nan, refused, refused, np.nan, np.nan]
    if truth["visibility"] != Visibility.VISIBLE.value:
        return nothing
    metres, pixels = error_3d(record), error_2d(record)
    near = float(metres is not None and metres < _NEAR)
    on_mask = float(hits_mask(record, record["folder"])) if "mask" in record["files"] else np.nan
    pointed = float(outcome(record) == "pointed")
    errors = [np.nan if error is None else error for error in (metres, pixels)]
    return [near, near, on_mask, pointed, np.nan, *errors]


def _share(name: str, a: np.ndarray, b: np.ndarray, bootstrap: ClusterBootstrap) -> dict:
    k = _COLUMNS.index(name)
    chosen = np.isfinite(a[:, k]) & np.isfinite(b[:, k])
    if not chosen.any():
        return {"count": 0}
    one, other = a[chosen, k], b[chosen, k]
    interval = bootstrap.difference(_counted(b[:, k]), _counted(a[:, k]), _ratio, chosen)
    return _difference(float(one.mean()), float(other.mean()), interval, one > other, other > one, len(one), better=1)


def _counted(values: np.ndarray) -> np.ndarray:
    return np.column_stack([values, np.ones(len(values))])


def _ratio(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / np.where(sums[..., 1] > 0, sums[..., 1], np.nan)


def _error(name: str, a: np.ndarray, b: np.ndarray, cluster_of: np.ndarray, bootstrap: ClusterBootstrap) -> dict:
    k = _COLUMNS.index(name)
    chosen = np.isfinite(a[:, k]) & np.isfinite(b[:, k])
    if not chosen.any():
        return {"count": 0}
    one, other = a[chosen, k], b[chosen, k]
    # How often each question is drawn: a replicate of its cluster's indicator.
    drawn = bootstrap.replicate(np.eye(bootstrap.count))[:, cluster_of[chosen]].astype(np.int64)
    differences = np.array([_median(other, times) - _median(one, times) for times in drawn])
    interval = bootstrap.interval(differences)
    return _difference(
        float(np.median(one)), float(np.median(other)), interval, one < other, other < one, len(one), better=-1
    )


def _median(values: np.ndarray, times: np.ndarray) -> float:
    return float(np.median(np.repeat(values, times))) if times.any() else np.nan


def _difference(a: float, b: float, interval, only_a: np.ndarray, only_b: np.ndarray, count: int, better: int) -> dict:
    won_a, won_b = int(only_a.sum()), int(only_b.sum())
    p = mcnemar(won_a, won_b)
    if interval is None:
        verdict = "too few to tell"
    elif p < _ALPHA and not interval[0] <= 0.0 <= interval[1]:
        verdict = f"{'B' if (b - a) * better > 0 else 'A'} is better"
    else:
        verdict = "within noise"
    return {
        "count": count,
        "a": a,
        "b": b,
        "difference": b - a,
        "interval": interval,
        "better_in": {"a": won_a, "b": won_b},
        "p": p,
        "verdict": verdict,
    }


def render(found: dict, a: str, b: str) -> str:
    """The comparison for a terminal."""
    clusters = found["clusters"]
    header = ("", "cases", "A", "B", "B - A", f"95 % by {clusters['of']}", "only A : only B", "exact p", "verdict")
    rows = [[title, *_cells(found["shares"][name], 100, "%")] for name, title in _SHARES.items()]
    rows += [[title, *_cells(found["errors"][name], 1, unit)] for name, (title, unit) in _ERRORS.items()]
    for fate, shares in found["fates"].items():
        counted = [name for name in ("near", "mask", "refused") if shares[name]["count"]]
        rows += [[f"{fate}: {_SHARES[name]}", *_cells(shares[name], 100, "%")] for name in counted]
    lines = [f"A: {a}", f"B: {b}", f"{found['questions']} questions about {found['sequences']} sequences"]
    if found["not_asked"]:
        lines.append(f"{found['not_asked']} more were not asked in one of the two: their marked view was missed")
    if found["other_view"]:
        lines.append(f"{found['other_view']} were answered about another view; each is judged in its own")
    if not found["same_bags"]:
        lines.append("The bags differ: a difference is the bags' as much as the models'.")
    lines += ["", markdown(header, rows), ""]
    if clusters["of"] == "object":
        lines.append(f"Fewer than {FEWEST_CLUSTERS} sequences: verdicts hold for these, not for others.")
    lines.append("Of 3D and 2D errors: where both point at something; only A: where A is nearer.")
    return "\n".join(lines)


def _cells(row: dict, scale: float, unit: str) -> list[str]:
    if not row["count"]:
        return ["0", *["-"] * 6, "no case"]
    digits = ".1f" if unit in ("%", "px") else ".4f"
    values = [f"{scale * row['a']:{digits}} {unit}", f"{scale * row['b']:{digits}} {unit}"]
    difference = f"{scale * row['difference']:+{digits}}"
    interval = "-" if row["interval"] is None else " to ".join(f"{scale * end:+{digits}}" for end in row["interval"])
    won = f"{row['better_in']['a']} : {row['better_in']['b']}"
    return [str(row["count"]), *values, difference, interval, won, f"{row['p']:.2g}", row["verdict"]]


def main(argv: Sequence[str]) -> int:
    config = tyro.cli(Config, args=argv, prog="roboref eval replay compare", description=__doc__)
    try:
        replays = [read_replay(folder) for folder in (config.a, config.b)]
        found = compare(*replays, config.seed)
    except (ValueError, OSError) as error:
        print(f"roboref eval replay compare: {error}", file=sys.stderr)
        return 1
    names = [f"{replay.model} ({folder})" for replay, folder in zip(replays, (config.a, config.b), strict=True)]
    if config.out is not None:
        write_json(config.out, {"a": names[0], "b": names[1], **found})
    print(render(found, *names))
    return 0
