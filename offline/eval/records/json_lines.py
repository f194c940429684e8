"""JSON lines, read and written in one way; what cannot be read is named by its file and line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from roboref_core.atomic import replacing


def write_lines(path: Path, values: Iterable[dict]) -> None:
    """Write every value on a line of its own, with sorted keys: the whole file or nothing."""
    with replacing(path) as file:
        for value in values:
            file.write((json.dumps(value, sort_keys=True) + "\n").encode())


def read_lines(path: Path) -> Iterator[tuple[str, dict]]:
    """("path, line 3", object) of every line that is not blank.

    Raises ValueError naming the file that cannot be read, or file and line of what is not a JSON object.
    """
    try:
        file = open(path, encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    with file:
        for number, line in enumerate(file, 1):
            where = f"{path}, line {number}"
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{where}: not JSON ({error})") from error
            if not isinstance(value, dict):
                raise ValueError(f"{where}: expected an object, found {type(value).__name__}")
            yield where, value
