"""Changes of a room by the clock: a file that says what happens when."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from sim.robot.room_changes import parse_change

_MAX_LINES = 10_000


class Schedule:
    """What happens when, from a file with one JSON object a line.

    Each is a change, see ``parse_change``, with "at", the time since the start of the simulation [s]:
    ``{"at": 12.5, "remove": 7}``. Empty lines and those that begin with # are left out.

    Raises ValueError naming file and line.
    """

    def __init__(self, path: Path):
        self._coming: list[tuple[float, int, dict[str, Any]]] = []
        lines = path.read_text().splitlines()
        if len(lines) > _MAX_LINES:
            raise ValueError(f"{path}: expected at most {_MAX_LINES} lines, found {len(lines)}")
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            try:
                at, change = _parse(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
            self._coming.append((at, number, change))
        self._coming.sort(key=lambda coming: coming[:2])

    def due(self, seconds: float) -> list[dict[str, Any]]:
        """The changes until this time since the start [s] that were not given out yet, in their order."""
        count = sum(at <= seconds for at, *_ in self._coming)
        now, self._coming = self._coming[:count], self._coming[count:]
        return [change for *_, change in now]


def _parse(line: str) -> tuple[float, dict[str, Any]]:
    fields = json.loads(line)
    at = fields.pop("at", None) if isinstance(fields, dict) else None
    if isinstance(at, bool) or not isinstance(at, int | float) or not math.isfinite(at) or at < 0:
        raise ValueError(f'expected an object with "at", a time of at least 0 [s], found {line[:200]}')
    return float(at), parse_change(json.dumps(fields))
