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
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from roboref_core.models.vision_language_model import Generation

from offline.eval.records.samples import SampleFile


def digest(value: object) -> str:
    """16 hexadecimal digits of SHA-256 over the value's JSON with sorted keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def prediction_line(sample_id: str, key: str, asked: str, run: str, generation: Generation) -> dict:
    """The line of one answer."""
    return {
        "kind": "prediction",
        "id": sample_id,
        "key": key,
        "asked": asked,
        "run": run,
        "text": generation.text,
        "points": generation.points.tolist(),
        "visible": generation.outcome.as_json,
        "p_visible": None if generation.p_visible is None else float(generation.p_visible),
        "p_visible_calibrated": generation.p_visible_calibrated,
        "point_covariance": _listed(generation.point_covariance),
        "scores": _listed(generation.scores),
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
        duplicates: further lines of an id with the same key and text (nothing new); superseded: with others.
        runs: the run lines, by hash.
        path: the file, for messages.
    """

    name: str
    by_id: dict[str, dict]
    garbage: int = 0
    duplicates: int = 0
    superseded: int = 0
    runs: dict[str, dict] = field(default_factory=dict)
    path: str = ""

    def answering(self, data: SampleFile) -> Predictions:
        """These predictions. Raises ValueError naming both files if not one of them answers a sample of ``data``."""
        if not any(sample.id in self.by_id for sample in data.samples):
            raise ValueError(self.no_match(data.samples[0].id, data.name))
        return self

    def no_match(self, expected: str, data: str) -> str:
        """What to say where none of these answers a sample of ``data``, which has, for example, the id ``expected``."""
        found = next(iter(self.by_id), "none")
        return (
            f"{self.path or self.name}: none of {len(self.by_id)} predictions answers a sample of {data}: "
            f"expected ids such as {expected!r}, found {found!r}. {_WANTED}"
        )

    def joined(self, other: Predictions) -> Predictions:
        """These and another file's of the same model."""
        counts = {name: getattr(self, name) + getattr(other, name) for name in ("garbage", "duplicates", "superseded")}
        return replace(self, by_id=self.by_id | other.by_id, runs=self.runs | other.runs, **counts)


_WANTED = (
    'A prediction is a JSON line {"id": ID OF THE SAMPLE, "text": THE MODEL\'S ANSWER}; of the published client\'s '
    'answer file "question_id" (and "category") and "text" are read.'
)


def read_predictions(path: str | Path) -> Predictions:
    """Read a predictions file of ours, of the published client, or plain lines of id and text.

    Raises ValueError naming the file if it cannot be opened, or not one of its lines is a prediction.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            lines = [_object(raw) for raw in file if raw.strip()]
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    found = replace(collect(lines, path.stem), path=str(path))
    if not found.by_id and not found.runs:
        first = next((sorted(line) for line in lines if line is not None), None)
        seen = "no line at all" if not lines else "no JSON object" if first is None else f"fields {', '.join(first)}"
        raise ValueError(f"{path}: not one of {len(lines)} lines is a prediction (found {seen}). {_WANTED}")
    return found


def collect(lines: Iterable[dict | None], name: str) -> Predictions:
    """Predictions from lines in order; None stands for a line that is no JSON object."""
    by_id: dict[str, dict] = {}
    runs: dict[str, dict] = {}
    models: set[str] = set()
    garbage = duplicates = superseded = 0
    for line in lines:
        if line is not None and _is_run(line):
            runs[line["run"]] = line
            models |= {line["model"]} if isinstance(line.get("model"), str) else set()
        elif line is not None and (sample := _sample_id(line)) is not None:
            before = by_id.get(sample)
            if before is not None and [before.get(k) for k in ("key", "text")] == [
                line.get(k) for k in ("key", "text")
            ]:
                duplicates += 1
            elif before is not None:
                superseded += 1
            by_id[sample] = line
            models |= {line["model_id"]} if isinstance(line.get("model_id"), str) else set()
        else:
            garbage += 1
    title = models.pop() if len(models) == 1 else name
    return Predictions(title, by_id, garbage, duplicates, superseded, runs)


def _sample_id(line: dict) -> str | None:
    """Which sample a line answers: by its id, or, in the published client's answer file, by question and category."""
    if line.get("kind", "prediction") != "prediction" or ("text" not in line and "points" not in line):
        return None
    name, category = line.get("id", line.get("question_id")), line.get("category")
    if not isinstance(name, str | int) or isinstance(name, bool):
        return None
    return f"{category}/{name}" if "id" not in line and isinstance(category, str) and category else str(name)


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


def _listed(values: np.ndarray | None) -> list | None:
    return None if values is None else np.asarray(values, dtype=np.float64).tolist()
