"""The folder of an evaluation: one JSON line per episode, appended as it is driven, so that a rerun goes on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from offline.eval.drive.settings import DriveSettings
from offline.eval.records.json_lines import read_lines
from offline.files import json_bytes, read_json, write_json

_VOLATILE = ("wall_seconds",)


class Results:
    """Of one folder, which belongs to one configuration: rooms, episodes, conditions and agents may be added to it.

    Attributes:
        lines: of the episodes that are done, by key.

    Args:
        models: what each model is, by agent, so that one folder never mixes two.

    Raises ValueError for a folder of other settings, or a file that cannot be read.
    """

    def __init__(self, folder: Path, settings: DriveSettings, models: dict[str, str]):
        self._path = folder / "episodes.jsonl"
        stated = {"settings": json.loads(json_bytes(asdict(settings))), "models": models}
        config = folder / "config.json"
        if config.exists():
            before = read_json(config)
            if before.get("settings") != stated["settings"]:
                raise ValueError(f"{folder} was made with other settings (see {config}): choose another --out")
            known = before.get("models", {})
            for agent in known.keys() & models.keys():
                if known[agent] != models[agent]:
                    raise ValueError(
                        f"{folder}: {agent} was {known[agent]!r} before and is {models[agent]!r} now: choose another "
                        "--out"
                    )
            stated["models"] = known | models
        write_json(config, stated)
        self.lines: dict[str, dict] = {}
        if self._path.exists():
            self._drop_torn_end()
            self.lines = {line["key"]: line for _, line in read_lines(self._path)}

    def add(self, line: dict) -> None:
        """Append an episode. It is on the disk when this returns."""
        with open(self._path, "ab") as file:
            file.write(json_bytes(line, indent=None))
            file.flush()
            os.fsync(file.fileno())
        self.lines[line["key"]] = line

    def _drop_torn_end(self) -> None:
        """What a power cut left of a last line was not driven to its end."""
        data = self._path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole != len(data):
            with open(self._path, "r+b") as file:
                file.truncate(whole)


def key_of(episode_key: str, agent: str) -> str:
    return f"{episode_key}/{agent}"


def digest(lines: Iterable[dict]) -> str:
    """A hash over everything that was driven and answered, whatever the order: equal for equal episodes."""
    stable = [
        {name: value for name, value in line.items() if name not in _VOLATILE}
        for line in sorted(lines, key=lambda line: line["key"])
    ]
    return hashlib.sha256(json_bytes(stable, indent=None)).hexdigest()[:16]
