"""The predictions file: JSON lines, one per answered sample, appended as they come and safe to cut anywhere.

Two kinds of line. ``{"kind": "run", "run": <hash>, ...}`` says with what the lines that name it were made (model,
versions, git revision, preprocessing). ``{"kind": "prediction", "id", "key", "asked", "run", "text", "points",
"visible", "p_visible", "timings", ...}`` holds one answer: ``key`` is a hash of all that the answer depends on,
``asked`` a hash of the sample's own prompt, ``points`` are (x, y) in [0, 1] of the answered picture as the backend
read them under its stated convention, or null where the reader of the file parses ``text``.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from roboref_core.models.vision_language_model import Generation


def digest(value: object) -> str:
    """16 hexadecimal digits of SHA-256 over the value's JSON with sorted keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def prediction_line(sample_id: str, key: str, asked: str, run: str, generation: Generation) -> dict:
    """The line of one answer. Numbers that are not finite become null: JSON has no others."""
    points, covariance = generation.points, generation.point_covariance
    return {
        "kind": "prediction",
        "id": sample_id,
        "key": key,
        "asked": asked,
        "run": run,
        "text": generation.text,
        "points": None if points is None else _plain(points),
        "visible": generation.visible,
        "p_visible": _plain(generation.p_visible),
        "p_visible_calibrated": generation.p_visible_calibrated,
        "point_covariance": None if covariance is None else _plain(covariance),
        "scores": None if generation.scores is None else _plain(generation.scores),
        "timings": {name: round(seconds, 6) for name, seconds in generation.timings.items()},
    }


class PredictionLog:
    """A predictions file open for appending, by one process at a time.

    Opening repairs what a kill may have left: an unfinished last line is cut off (a complete one that only lacks
    its end of line is kept). Each line goes out in one write and is synced, so at most the last can be torn.

    Attributes:
        keys: key -> byte offset of the first line that answers it.
        latest: sample id -> key of its last line, which is the one that scoring reads.
        runs: hashes of the run lines.
        repaired: bytes of an unfinished line that were cut off.
        garbage: lines that are not of this format; they stay, and scoring counts them.

    Raises ValueError if another process has it open, or its lines were made by another model (``model_hash``).
    """

    def __init__(self, path: Path, model_hash: str):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.keys: dict[str, int] = {}
        self.latest: dict[str, str] = {}
        self.runs: set[str] = set()
        self.repaired = self.garbage = 0
        self._file = open(path, "a+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._read(model_hash)
        except BlockingIOError as error:
            self._file.close()
            raise ValueError(f"{path}: another process is writing to it") from error
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> PredictionLog:
        return self

    def __exit__(self, *exc) -> None:
        self._file.close()

    def append(self, line: dict) -> None:
        """Write one line whole, and sync it."""
        offset = self._write(line)
        if line["kind"] == "run":
            self.runs.add(line["run"])
        else:
            self._note(line, offset)

    def line(self, key: str) -> dict:
        """The line that answers ``key``."""
        with open(self.path, "rb") as file:
            file.seek(self.keys[key])
            return json.loads(file.readline())

    def _write(self, line: dict) -> int:
        data = json.dumps(line, allow_nan=False).encode() + b"\n"
        offset = os.fstat(self._file.fileno()).st_size
        written = self._file.write(data)
        if written != len(data):  # a full disk may take a part: the file goes back to whole lines
            os.ftruncate(self._file.fileno(), offset)
            raise OSError(f"{self.path}: only {written} of {len(data)} bytes could be written")
        os.fsync(self._file.fileno())
        return offset

    def _note(self, line: dict, offset: int) -> None:
        self.keys.setdefault(line["key"], offset)
        self.latest[line["id"]] = line["key"]

    def _read(self, model_hash: str) -> None:
        self._file.seek(0)
        offset = 0
        for raw in self._file.readall().splitlines(keepends=True):
            line = _object(raw)
            if not raw.endswith(b"\n"):
                if line is None:
                    self.repaired = len(raw)
                    os.ftruncate(self._file.fileno(), offset)
                    break
                self._file.write(b"\n")
            if line is not None and _is_run(line):
                self.runs.add(line["run"])
                if line.get("model_hash") != model_hash:
                    raise ValueError(
                        f"{self.path}: holds answers of {line.get('model', 'another model')} "
                        f"(hash {line.get('model_hash')}), not of the model asked for (hash {model_hash}): "
                        "give each model a file of its own"
                    )
            elif line is not None and _is_prediction(line) and isinstance(line.get("key"), str):
                self._note(line, offset)
            elif raw.strip():
                self.garbage += 1
            offset += len(raw)


@dataclass(frozen=True)
class Predictions:
    """What a file says about each sample, and what was odd in it.

    Attributes:
        name: for tables: the model's, or the file's where it does not say.
        by_id: sample id -> its line; the last where there are several.
        garbage: lines that are no JSON object of a known kind.
        duplicates: further lines of an id with the same key (nothing new); superseded: with another key.
        runs: the run lines, by hash.
    """

    name: str
    by_id: dict[str, dict]
    garbage: int = 0
    duplicates: int = 0
    superseded: int = 0
    runs: dict[str, dict] = field(default_factory=dict)


def read_predictions(path: str | Path) -> Predictions:
    """Read a predictions file, whatever is in it. Raises ValueError only if the file cannot be opened."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            return collect((_object(raw) for raw in file if raw.strip()), path.stem)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error


def collect(lines: Iterable[dict | None], name: str) -> Predictions:
    """Predictions from lines in order; None stands for a line that is no JSON object."""
    by_id: dict[str, dict] = {}
    runs: dict[str, dict] = {}
    garbage = duplicates = superseded = 0
    for line in lines:
        if line is not None and _is_run(line):
            runs[line["run"]] = line
        elif line is not None and _is_prediction(line):
            before = by_id.get(line["id"])
            if before is not None and before.get("key") == line.get("key"):
                duplicates += 1
            elif before is not None:
                superseded += 1
            by_id[line["id"]] = line
        else:
            garbage += 1
    models = {run.get("model") for run in runs.values()} - {None}
    title = str(models.pop()) if len(models) == 1 else name
    return Predictions(title, by_id, garbage, duplicates, superseded, runs)


def _is_run(line: dict) -> bool:
    return line.get("kind") == "run" and isinstance(line.get("run"), str)


def _is_prediction(line: dict) -> bool:
    return line.get("kind") == "prediction" and isinstance(line.get("id"), str)


def _object(raw: bytes) -> dict | None:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):  # also bytes that are no UTF-8
        return None
    return value if isinstance(value, dict) else None


def _plain(value):
    """Arrays as lists, numbers as floats, and null for those that are not finite."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return float(value) if value is not None and math.isfinite(value) else None
