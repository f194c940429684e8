"""One JSON line per question: what was asked, what was true, what was answered."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from offline.eval.replay.truth.questions import Question

# What may differ between two replays of the same bag: clocks, and ids that are unique over restarts.
_VOLATILE = ("latency", "queue_time", "inference_time", "view_id", "reference_view_id")


def make_record(question: Question, answer: dict, latency: float, files: dict[str, str]) -> dict:
    """A plain dictionary, ready for JSON.

    Args:
        answer: the answer message as it came, as a dictionary.
        latency: from the call to the reply, at the client [s].
        files: names of the pictures that belong to it, relative to the record's folder.
    """
    asked = asdict(question)
    asked["truth"]["visibility"] = question.truth.visibility.value
    return {"question": asked, "answer": answer, "latency": latency, "files": files}


def write_jsonl(records: Iterable[dict], path: Path) -> None:
    """Write all records or nothing: to a temporary name, synced, renamed."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w", encoding="utf-8") as f:
        for record in records:
            f.write(json.dumps(record, sort_keys=True) + "\n")
        f.flush()
        os.fsync(f.fileno())
    temporary.replace(path)


def read_jsonl(path: Path) -> list[dict]:
    """Raises ValueError naming file and line of what is not a JSON object."""
    records = []
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: not JSON ({error})") from error
            if not isinstance(record, dict):
                raise ValueError(f"{path}, line {number}: expected an object, found {type(record).__name__}")
            records.append(record)
    return records


def digest(records: Iterable[dict]) -> str:
    """A hash over everything in the records but clocks and run-specific ids: equal for equal answers."""

    def stable(value):
        if isinstance(value, dict):
            return {key: stable(v) for key, v in value.items() if key not in _VOLATILE}
        if isinstance(value, list):
            return [stable(v) for v in value]
        return value

    text = json.dumps([stable(record) for record in records], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
