"""`roboref sim record`: a posed RGB-D sequence becomes a rosbag2."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from roboref_core.command_line import ExitStatus, Stopped

from offline.data_engine.sources import open_scene
from offline.eval.replay.playing.perturbation import Disturbance
from sim.bags.recorder import RecordOptions, record


@dataclass(frozen=True)
class Record:
    """Record a posed RGB-D sequence as a rosbag2 that `roboref sim play` and `ros2 bag play` play.

    Reads ScanNet (.sens or exported folders), 7-Scenes, TUM RGB-D and slambook layouts.

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
    disturbance: Annotated[Disturbance, tyro.conf.arg(name="")] = field(default_factory=Disturbance)

    def __call__(self) -> int:
        # Killed politely, it removes what it has begun.
        signal.signal(signal.SIGTERM, _stop)
        scene = open_scene(
            self.scene,
            color_intrinsics=self.color_intrinsics,
            depth_intrinsics=self.depth_intrinsics,
            depth_unit=self.depth_unit,
            salvage=self.salvage,
        )
        result = record(scene, self.bag, self.disturbance.disturbed(self.options), progress=True)
        print(
            f"{result.path}: {result.frames} views, {result.without_pose} of them without pose, "
            f"{result.bytes / 1e6:.1f} MB in {result.seconds:.1f} s"
        )
        for reason, count in scene.defects.items():
            print(f"  in the source: {reason} {count}")
        for message in result.bad_frames:
            print(f"  left out: {message}")
        return ExitStatus.DONE


def _stop(*_: object) -> None:
    raise Stopped("stopped; nothing was written")
