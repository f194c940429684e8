"""`roboref eval replay compare`: paired, as both answered the same questions. What counts as better is the same as in
`roboref eval compare`, see ``offline.eval.scoring.paired``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from roboref_core.views.visibility import Visibility
from tyro.conf import Positional

from offline.eval.records.replays import Question, Record, read_records
from offline.eval.replay.scoring.score import decisions, error_2d, error_3d
from offline.eval.reporting.table import markdown
from offline.eval.scoring.paired import Clusters, better_in, difference, note
from offline.files import as_json, read_json, write_json

_NEAR = 0.10


@dataclass(frozen=True)
class Compare:
    """Compare two replays of one bag, answer against answer: what differs, and what is noise.

      roboref eval replay --out out/a --seeds 1 2 3 4 5
      roboref eval replay --out out/b --seeds 1 2 3 4 5 --backend roborefer --path CHECKPOINT
      roboref eval replay compare out/a out/b

    Recording is deterministic, so equal options make equal bags; that they are equal is checked, message by message.
    """

    a: Positional[Path]
    """Folder of a replay (its --out)."""
    b: Positional[Path]
    """Folder of another replay of the same bags; differences are B - A."""
    out: Path | None = None
    """Also write the comparison here, as JSON."""
    seed: int = 0
    """Seed of the bootstrap."""
    json: bool = False
    """Print the figures as JSON instead of a table, for scripts."""

    def __call__(self) -> None:
        replays = [read_replay(folder) for folder in (self.a, self.b)]
        found = compare(replays[0], replays[1], self.seed)
        names = [f"{replay.model} ({folder})" for replay, folder in zip(replays, (self.a, self.b), strict=True)]
        named = {"a": names[0], "b": names[1], **found}
        if self.out is not None:
            write_json(self.out, named)
        print(as_json(named) if self.json else render(found, *names))


@dataclass(frozen=True)
class Replayed:
    """A finished replay, read back.

    Attributes:
        records: by question id.
        bags: sequence -> digest of its bag's messages.
        not_asked: ids of questions that a live replay could not ask.
    """

    records: dict[str, Record]
    bags: dict[str, str]
    not_asked: set[str]

    @property
    def model(self) -> str:
        return ", ".join(sorted({record.answer.model for record in self.records.values()}))


def read_replay(folder: Path) -> Replayed:
    """Raises ValueError naming what is missing or twice there."""
    records: dict[str, Record] = {}
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
        for record in read_records(file):
            name = record.question.question_id
            if name in records:
                raise ValueError(f"{file}: question {name} is also in {records[name].folder}")
            records[name] = record
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
        asked, also = _identity(one.question), _identity(other.question)
        if asked != also:
            raise ValueError(f"question {asked[0]} is another in each replay: {asked} and {also}")
    clusters = Clusters.choose(
        [one.folder.name for one, _ in pairs], [str(one.question.object_id) for one, _ in pairs], "sequence"
    )
    a_judged, b_judged = _judge([one for one, _ in pairs]), _judge([other for _, other in pairs])
    fates = np.array([one.question.fate for one, _ in pairs])
    by_fate = {}
    for fate in np.unique(fates).tolist():
        # What is of another fate does not apply.
        own_a, own_b = (np.where((fates == fate)[:, None], side, np.nan) for side in (a_judged, b_judged))
        by_fate[fate] = {name: _share(name, own_a, own_b, clusters, seed) for name in _SHARES}
    return {
        "questions": len(pairs),
        "not_asked": len(not_asked),
        "other_view": sum(one.question.query != other.question.query for one, other in pairs),
        "sequences": len(a.bags),
        "same_bags": a.bags == b.bags,
        "clusters": {"of": clusters.of, "count": clusters.bootstrap().count},
        "note": note(clusters, clusters.bootstrap().count, "sequences"),
        "shares": {name: _share(name, a_judged, b_judged, clusters, seed) for name in _SHARES},
        "errors": {name: _error(name, a_judged, b_judged, clusters, seed) for name in _ERRORS},
        "fates": by_fate if len(by_fate) > 1 else {},
    }


def _identity(question: Question) -> tuple:
    """What makes two records answers to one question."""
    return question.question_id, question.text, question.object_id, question.reference, question.mark


# Of each question, NaN where it does not apply; the first six are 0 or 1.
_COLUMNS = ("right", "near", "near_camera", "mask", "decided", "refused", "error_3d", "error_camera", "error_2d")
_SHARES = {
    "right": "right: within 10 cm of the truth, or rightly refused",
    "near": "3D: within 10 cm of the truth, visible points",
    "near_camera": "3D in the camera's frame: within 10 cm, visible points",
    "mask": "2D: Hit@Mask, visible points",
    "decided": "visible or not decided right",
    "refused": "NOT_VISIBLE recall on hidden points",
}
_ERRORS = {
    "error_3d": ("3D error, median", "m"),
    "error_camera": ("3D error in the camera's frame, median", "m"),
    "error_2d": ("2D error, median", "px"),
}


def _judge(records: Sequence[Record]) -> np.ndarray:
    """(N, columns): what each question adds to each figure."""
    table = np.full((len(records), len(_COLUMNS)), np.nan)
    decided = decisions(records)
    for row, record, right, hit, masked in zip(
        table, records, decided.right_decision, decided.hit, decided.has_mask, strict=True
    ):
        truth = record.question.truth
        if not truth.decidable or truth.visibility is Visibility.UNKNOWN:
            continue
        row[_COLUMNS.index("decided")] = right
        if truth.hidden:
            row[[_COLUMNS.index("right"), _COLUMNS.index("refused")]] = right
            continue
        for frame, near, far in (("world", "near", "error_3d"), ("camera", "near_camera", "error_camera")):
            error = error_3d(record, frame)
            if frame == "world" or truth.in_camera is not None:
                row[_COLUMNS.index(near)] = error is not None and error < _NEAR
            row[_COLUMNS.index(far)] = np.nan if error is None else error
        row[_COLUMNS.index("right")] = row[_COLUMNS.index("near")]
        row[_COLUMNS.index("mask")] = hit if masked else np.nan
        pixels = error_2d(record)
        row[_COLUMNS.index("error_2d")] = np.nan if pixels is None else pixels
    return table


def _both(name: str, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One figure of the cases that it applies to in both, and (N,) bool, which these are."""
    k = _COLUMNS.index(name)
    chosen = np.isfinite(a[:, k]) & np.isfinite(b[:, k])
    return a[chosen, k], b[chosen, k], chosen


def _share(name: str, a: np.ndarray, b: np.ndarray, clusters: Clusters, seed: int) -> dict:
    one, other, chosen = _both(name, a, b)
    if not len(one):
        return difference(np.nan, np.nan, None, (0, 0), 0, 1)
    k, ones = _COLUMNS.index(name), np.ones(len(a))
    counted_a, counted_b = np.column_stack([a[:, k], ones]), np.column_stack([b[:, k], ones])
    interval = clusters.bootstrap(seed).difference(counted_b, counted_a, _ratio, chosen)
    return difference(float(one.mean()), float(other.mean()), interval, better_in(one, other, 1), len(one), 1)


def _ratio(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / np.where(sums[..., 1] > 0, sums[..., 1], np.nan)


def _error(name: str, a: np.ndarray, b: np.ndarray, clusters: Clusters, seed: int) -> dict:
    one, other, chosen = _both(name, a, b)
    if not len(one):
        return difference(np.nan, np.nan, None, (0, 0), 0, -1)
    bootstrap = clusters.bootstrap(seed)
    # How often each question is drawn: a replicate of its cluster's indicator.
    drawn = bootstrap.replicate(np.eye(bootstrap.count))[:, clusters.index[chosen]].astype(np.int64)
    interval = bootstrap.interval(np.array([_median(other, times) - _median(one, times) for times in drawn]))
    return difference(float(np.median(one)), float(np.median(other)), interval, better_in(one, other, -1), len(one), -1)


def _median(values: np.ndarray, times: np.ndarray) -> float:
    return float(np.median(np.repeat(values, times))) if times.any() else np.nan


def render(found: dict, a: str, b: str) -> str:
    """The comparison for a terminal."""
    header = (
        "",
        "cases",
        "A",
        "B",
        "B - A",
        f"95 % by {found['clusters']['of']}",
        "only A : only B",
        "exact p",
        "verdict",
    )
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
    if found["note"]:
        lines.append(found["note"])
    lines.append("Of 3D and 2D errors: where both point at something; only A: where A is nearer.")
    return "\n".join(lines)


def _cells(row: dict, scale: float, unit: str) -> list[str]:
    if not row["count"]:
        return ["0", *["-"] * 6, row["verdict"]]
    digits = ".1f" if unit in ("%", "px") else ".4f"
    values = [f"{scale * row['a']:{digits}} {unit}", f"{scale * row['b']:{digits}} {unit}"]
    difference = f"{scale * row['difference']:+{digits}}"
    interval = "-" if row["interval"] is None else " to ".join(f"{scale * end:+{digits}}" for end in row["interval"])
    won = f"{row['better_in']['a']} : {row['better_in']['b']}"
    return [str(row["count"]), *values, difference, interval, won, f"{row['p']:.2g}", row["verdict"]]
