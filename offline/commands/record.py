"""`roboref sim record`: a posed RGB-D sequence becomes a rosbag2."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from offline.data_engine.sources import open_scene
from sim.bags.recorder import RecordOptions, record


@dataclass(frozen=True)
class RecordConfig:
    """Record a posed RGB-D sequence as a rosbag2 that `roboref sim play` and `ros2 bag play` play.

    Reads ScanNet (.sens or exported folders), 7-Scenes, TUM RGB-D and slambook layouts:

      roboref sim record scans/scene0000_00 bags/scene0000_00 --stride 3
    """

    scene: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SCENE")]
    """A .sens file, or a folder of one of these layouts."""
    bag: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="BAG")]
    """The rosbag2 folder to make."""
    color_intrinsics: tuple[float, float, float, float] | None = None
    """fx fy cx cy [pixel], for folders that have none or wrong ones."""
    depth_intrinsics: tuple[float, float, float, float] | None = None
    """fx fy cx cy [pixel] of the depth images."""
    depth_unit: float | None = None
    """Metres per depth count, for folders."""
    salvage: bool = False
    """Read the frames present in a truncated .sens file, and files of version 3."""
    options: Annotated[RecordOptions, tyro.conf.arg(name="")] = field(default_factory=RecordOptions)


def main(argv: list[str] | None = None) -> int:
    config = tyro.cli(RecordConfig, args=argv, prog="roboref sim record")
    try:
        scene = open_scene(
            config.scene,
            color_intrinsics=config.color_intrinsics,
            depth_intrinsics=config.depth_intrinsics,
            depth_unit=config.depth_unit,
            salvage=config.salvage,
        )
        result = record(scene, config.bag, config.options, progress=True)
    except (ValueError, OSError) as error:
        print(f"roboref sim record: {error}", file=sys.stderr)
        return 1
    print(
        f"{result.path}: {result.frames} views, {result.without_pose} of them without pose, "
        f"{result.bytes / 1e6:.1f} MB in {result.seconds:.1f} s"
    )
    for reason, count in scene.defects.items():
        print(f"  in the source: {reason} {count}")
    for message in result.bad_frames:
        print(f"  left out: {message}")
    return 0
