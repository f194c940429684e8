"""A person looks at samples and says which are wrong: a fixed draw, verdicts that are kept, shares with intervals."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from roboref_core.atomic import write_json
from roboref_core.seeds import fraction_of

from offline.data_engine.task_files import read_samples
from offline.data_engine.tasks.kinds import first_file, refuse_unknown
from offline.eval.scoring.intervals import wilson
from offline.files import read_json

VERDICTS = ("right", "wrong", "unclear")
FAULTS = ("point", "mask", "visibility", "phrase")
"""What can be wrong with a sample; a "wrong" verdict may name one."""
_FORMAT = 1


@dataclass(frozen=True)
class Verdict:
    """What was said of a sample.

    Attributes:
        verdict: of ``VERDICTS``.
        fault: of ``FAULTS``, or "" if none was named.
        digest: of the sample that was looked at; of another one, the verdict does not count.
    """

    verdict: str
    fault: str
    digest: str


@dataclass
class Audit:
    """Samples to look at, and the verdicts so far.

    Args:
        samples: task -> its samples, in the order to be shown.
        path: where verdicts are kept; verdicts that are there already are taken over.

    Raises:
        ValueError: ``path`` holds something else.
    """

    samples: dict[str, list[dict]]
    path: Path
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    _order: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._by_id = {sample["id"]: sample for samples in self.samples.values() for sample in samples}
        if self.path.is_file():
            known = read_json(self.path)
            if not isinstance(known, dict) or known.get("format") != _FORMAT:
                raise ValueError(f"{self.path}: no verdicts of an audit, expected format {_FORMAT}")
            self.verdicts = {name: Verdict(**entry) for name, entry in known["verdicts"].items()}

    @property
    def total(self) -> int:
        return len(self._by_id)

    @property
    def judged(self) -> int:
        return sum(self.verdict_of(sample) is not None for sample in self._by_id.values())

    def verdict_of(self, sample: dict) -> Verdict | None:
        """The verdict of a sample, None if there is none or the sample has changed since."""
        found = self.verdicts.get(sample["id"])
        return found if found is not None and found.digest == digest(sample) else None

    def next(self) -> dict | None:
        """The next sample without a verdict, the tasks in turn; None when all have one."""
        waiting = {
            task: [sample for sample in samples if self.verdict_of(sample) is None]
            for task, samples in self.samples.items()
        }
        task = max(waiting, key=lambda name: len(waiting[name]), default=None)
        return waiting[task][0] if task is not None and waiting[task] else None

    def record(self, sample_id: str, verdict: str, fault: str = "") -> None:
        """Keep a verdict, at once on disk. Raises ValueError for a sample, verdict or fault that there is not."""
        if sample_id not in self._by_id:
            raise ValueError(f"no sample {sample_id!r} in this audit")
        if verdict not in VERDICTS or fault not in ("", *FAULTS):
            raise ValueError(f"expected {', '.join(VERDICTS)} and {', '.join(FAULTS)}, found {verdict!r}, {fault!r}")
        self.verdicts[sample_id] = Verdict(verdict, fault if verdict == "wrong" else "", digest(self._by_id[sample_id]))
        self._order.append(sample_id)
        self._write()

    def undo(self) -> None:
        """Take back the last verdict of this session."""
        if self._order:
            self.verdicts.pop(self._order.pop(), None)
            self._write()

    def _write(self) -> None:
        entries = {name: vars(verdict) for name, verdict in sorted(self.verdicts.items())}
        write_json(self.path, {"format": _FORMAT, "verdicts": entries})

    def report(self) -> str:
        """Share of wrong samples by task with its 95 % Wilson interval, and what was wrong with them."""
        lines = ["task       wrong  judged  share  95 % interval     unclear"]
        for task, samples in self.samples.items():
            found = [verdict for sample in samples if (verdict := self.verdict_of(sample))]
            wrong = [verdict for verdict in found if verdict.verdict == "wrong"]
            judged = len(wrong) + sum(verdict.verdict == "right" for verdict in found)
            low, high = wilson(len(wrong), judged)
            share = f"{len(wrong) / judged:6.1%}" if judged else "     -"
            lines.append(
                f"{task:9s} {len(wrong):6d} {judged:7d} {share}  {low:6.1%} to {high:6.1%}  {len(found) - judged:8d}"
            )
            faults = Counter(verdict.fault or "not said" for verdict in wrong)
            lines += [f"           {count:5d}  {fault}" for fault, count in sorted(faults.items())]
        return "\n".join(lines)


def draw(out: Path, tasks: tuple[str, ...], split: str, count: int, seed: int) -> dict[str, list[dict]]:
    """A random draw of each task's samples: the same for the same data and seed; a longer one begins with it.

    Args:
        out: folder that ``build`` or ``tasks`` wrote.
        tasks: of ``TASKS``; one that was not built is left out.
        split: "train" or "val".
        count: samples of each task.

    Raises:
        ValueError: a task is unknown, or no file of any is there.
    """
    refuse_unknown(tasks)
    found = {}
    for task in tasks:
        path = out / "tasks" / first_file(task, split)
        if path.is_file():
            samples = [sample for _, sample in read_samples(path) if isinstance(sample, dict)]
            order = sorted(samples, key=lambda sample: (fraction_of("audit", seed, sample["id"]), sample["id"]))
            found[task] = order[:count]
    if not found:
        names = ", ".join(first_file(task, split) for task in tasks)
        raise ValueError(f"{out / 'tasks'}: none of {names}; build the data first")
    return found


def digest(sample: dict) -> str:
    """16 hex digits that change with anything a sample says."""
    return hashlib.sha256(json.dumps(sample, sort_keys=True).encode()).hexdigest()[:16]
