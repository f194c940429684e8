"""`roboref sim scene`: simulated scans in ScanNet's formats."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from roboref_core.atomic import replacing
from roboref_core.command_line import ExitStatus
from roboref_core.progress import Progress

from sim.rooms.noise import DepthNoise
from sim.rooms.scannet_writer import write_scene
from sim.rooms.sim_source import CAMERA_640, CAMERA_1296, SimSource, make_source


@dataclass(frozen=True)
class GenerateConfig:
    """Furnished rooms with labelled objects, walked through with a hand-held RGB-D camera.

    Each scan becomes a folder as in ScanNet: <scan>.sens, _vh_clean_2.ply, segs, aggregation, <scan>.txt.
    A scan whose .sens exists is skipped, so an interrupted run resumes.

      roboref sim scene --out rooms --scenes 3 --seed 7
    """

    out: Path
    """Folder for the scans."""
    seed: int = 0
    """Scene k is that of seed + k; the same seed gives the same bytes."""
    scenes: int = 1
    """How many scans."""
    frames: int = 300
    """Frames per scan, at 30 Hz."""
    objects: int | None = None
    """Labelled objects per room; by default 8 to 25, drawn from the seed."""
    triangles: int = 200_000
    """About how many triangles a scene's mesh has."""
    color_size: Literal["640x480", "1296x968"] = "640x480"
    """Colour image; depth is always 640x480."""
    depth: Literal["sensor", "exact"] = "sensor"
    """Depth with a structured-light sensor's noise and holes, or exact to the millimetre."""
    lost: float = 0.0
    """Share of the frames that lose tracking: they have images but no pose."""
    contact_sheet: bool = True
    """Also write <scan>.png, a sheet of frames from along the walk."""

    def __post_init__(self) -> None:
        for name in ("scenes", "frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, found {getattr(self, name)}")
        if self.seed < 0 or self.seed + self.scenes > 10_000:
            raise ValueError(
                f"seeds must lie in 0..9999 (scan names have four digits), found {self.seed} + {self.scenes}"
            )

    def __call__(self) -> int:
        for folder in generate(self):
            print(folder)
        return ExitStatus.DONE


def generate(config: GenerateConfig) -> list[Path]:
    """Write the scans -> their folders. Raises ValueError on values that make no scan."""
    folders = []
    for seed in range(config.seed, config.seed + config.scenes):
        folder = config.out / f"scene{seed:04d}_00"
        folders.append(folder)
        if (folder / f"{folder.name}.sens").exists():
            print(f"{folder.name}: complete, skipped", file=sys.stderr)
            continue
        source = make_source(
            seed,
            config.frames,
            triangles=config.triangles,
            objects=config.objects,
            color_camera=CAMERA_640 if config.color_size == "640x480" else CAMERA_1296,
            depth_camera=CAMERA_640,
            depth_noise=DepthNoise() if config.depth == "sensor" else None,
            lost_share=config.lost,
        )
        if config.contact_sheet:
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(folder / f"{folder.name}.png") as file:
                file.write(cv2.imencode(".png", contact_sheet(source)[..., ::-1])[1].tobytes())
        with Progress(total=config.frames, desc=folder.name, unit="frame") as bar:

            def advance(done: int, bar: Progress = bar) -> None:
                bar.update(done - bar.n)

            write_scene(source, config.out, on_frame=advance)
    return folders


def contact_sheet(source: SimSource) -> np.ndarray:
    """(H, W, 3) uint8: frames spread over the walk, colour above depth and instances."""
    columns, rows = 4, 3
    picks = np.linspace(0, len(source) - 1, columns * rows).round().astype(int)
    palette = np.random.default_rng(0).integers(60, 256, (256, 3), dtype=np.uint8)
    palette[0] = 0
    tiles = []
    for i in picks:
        near = np.clip(source.depth(i) / 5.0 * 255, 0, 255).astype(np.uint8)
        depth = cv2.applyColorMap(near, cv2.COLORMAP_TURBO)[..., ::-1] * (near > 0)[..., None]
        small = [
            cv2.resize(image, (160, 120), interpolation=cv2.INTER_NEAREST) for image in (depth, palette[source.ids(i)])
        ]
        tiles.append(
            np.vstack([cv2.resize(source.color(i), (320, 240), interpolation=cv2.INTER_AREA), np.hstack(small)])
        )
    return np.vstack([np.hstack(tiles[r * columns : (r + 1) * columns]) for r in range(rows)])
