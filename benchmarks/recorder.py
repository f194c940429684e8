"""Recorder: MB/s of a rosbag2 of raw 640x480 RGB-D, against writing the same number of bytes to one file.

Both sync to disk before they count as written; the better of several alternating runs is given.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from sim.bags.recorder import RecordOptions, record
from sim.rooms.sim_source import make_source


@dataclass(frozen=True)
class RecorderConfig:
    """Speed of recording."""

    frames: int = 120
    """Views in the bag; each is 1.5 MB."""
    runs: int = 3
    """How often each way of writing is tried."""


class Remembered:
    """A scene whose frames are read once, so that rendering does not count."""

    def __init__(self, scene):
        self._scene = scene
        self._colors = [scene.color(i) for i in range(len(scene))]
        self._depths = [scene.depth_raw(i) for i in range(len(scene))]

    def __getattr__(self, name):
        return getattr(self._scene, name)

    def __len__(self):
        return len(self._scene)

    def color(self, i):
        return self._colors[i]

    def depth_raw(self, i):
        return self._depths[i]


def raw_file(path: Path, size: int) -> float:
    """Write ``size`` bytes in pieces of one view and sync. Returns MB/s."""
    piece = os.urandom(640 * 480 * 5)
    started = time.perf_counter()
    with open(path, "wb") as f:
        for _ in range(size // len(piece)):
            f.write(piece)
        f.flush()
        os.fsync(f.fileno())
    seconds = time.perf_counter() - started
    path.unlink()
    return size / 1e6 / seconds


def main() -> int:
    config = tyro.cli(RecorderConfig, description=__doc__)
    scene = Remembered(make_source(1, config.frames, triangles=50_000))
    best: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=".") as folder:
        size = config.frames * 640 * 480 * 5
        ways = (
            RecordOptions(storage="mcap", compression="none", color="raw", overwrite=True),
            RecordOptions(storage="sqlite3", compression="none", color="raw", overwrite=True),
            RecordOptions(storage="mcap", compression="zstd", color="raw", overwrite=True),
        )
        for _ in range(config.runs):
            best["raw file"] = max(best.get("raw file", 0), raw_file(Path(folder) / "raw", size))
            for options in ways:
                result = record(scene, Path(folder) / "bag", options)
                name = options.storage if options.compression == "none" else f"{options.storage}, {options.compression}"
                best[name] = max(best.get(name, 0), result.bytes / 1e6 / result.seconds)
    print(f"{config.frames} views, {size / 1e6:.0f} MB, {os.cpu_count()} cores, best of {config.runs}")
    for name, speed in best.items():
        print(f"  {name:12} {speed:7.0f} MB/s   {speed / best['raw file']:5.2f} of raw file speed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
