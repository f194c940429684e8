"""Predictions in shards: each process answers its part of a file, and the parts become what one process would write."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from roboref_core.atomic import replacing
from roboref_core.command_line import ExitStatus
from tyro.conf import Positional

from offline.eval.records.predictions import Predictions, read_predictions
from offline.eval.records.samples import Sample, read_samples

_STATED = re.compile(r"(\d{1,6})/(\d{1,6})")


@dataclass(frozen=True)
class Shard:
    """Part ``number`` (from 1) of ``count``."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From "2/8". Raises ValueError for a malformed part."""
        found = _STATED.fullmatch(text)
        number, count = (int(found.group(1)), int(found.group(2))) if found else (0, 0)
        if not 1 <= number <= count:
            raise ValueError(f"--shard: expected i/n with i from 1 to n, such as 2/8, found {text!r}")
        return cls(number, count)

    def of(self, samples: Sequence[Sample], batch: int) -> tuple[Sample, ...]:
        """Every ``count``-th batch, so that a model sees the same batches as without shards."""
        return tuple(s for k, s in enumerate(samples) if k // batch % self.count == self.number - 1)

    def path(self, out: Path) -> Path:
        """Where this part of ``out`` goes: "t1.jsonl" -> "t1.2of8.jsonl"."""
        return out.with_name(f"{out.stem}.{self.number}of{self.count}{out.suffix}")


def merge(out: Path, samples: Sequence[Sample]) -> int:
    """Write ``out`` from all its shards, in the order of the samples; how many of these no shard answers.

    Raises ValueError naming the shard that is missing, that other models answered, or that is of another division.
    """
    names = re.compile(rf"{re.escape(out.stem)}\.(\d+)of(\d+){re.escape(out.suffix)}")
    numbers = [found.groups() for path in out.parent.glob("*") if (found := names.fullmatch(path.name))]
    counts = {int(count) for _, count in numbers}
    if len(counts) != 1:
        what = f"{len(counts)} divisions into {sorted(counts)} shards" if counts else "none"
        raise ValueError(f"{out}: expected the shards of one division beside it, found {what}")
    parts: list[Predictions] = []
    for number in range(1, (count := counts.pop()) + 1):
        path = Shard(number, count).path(out)
        if not path.is_file():
            raise ValueError(f"{path}: this shard is missing; predict it with --shard {number}/{count}")
        parts.append(read_predictions(path))
        model = {run.get("model_hash") for part in (parts[0], parts[-1]) for run in part.runs.values()}
        if len(model) > 1:
            raise ValueError(f"{path}: holds answers of another model than {Shard(1, count).path(out).name}")
    runs = {name: run for part in parts for name, run in part.runs.items()}
    answers = {name: line for part in parts for name, line in part.by_id.items()}
    with replacing(out) as file:
        for line in (*(runs[name] for name in sorted(runs)), *(answers[s.id] for s in samples if s.id in answers)):
            file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
    return sum(sample.id not in answers for sample in samples)


@dataclass(frozen=True)
class Merge:
    """Make one predictions file of the shards of `roboref eval predict --shard`.

      roboref eval predict --shard 1/8 ... --data t1_val_multi.json --out t1.jsonl
      roboref eval merge t1.jsonl --data t1_val_multi.json

    The file is what one process would have written, but for the seconds that each answer took.
    """

    out: Positional[Path]
    """The --out of the predictions; the shards lie beside it."""
    data: Annotated[Path, tyro.conf.arg(metavar="FILE.json")]
    """The samples that they answer."""

    def __call__(self) -> ExitStatus:
        samples = read_samples(self.data).samples
        missing = merge(self.out, samples)
        print(f"{self.out}: {len(samples) - missing} of {len(samples)} samples answered")
        return ExitStatus.BAD if missing else ExitStatus.DONE
