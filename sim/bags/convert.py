"""`roboref sim convert`: a ROS 1 bag becomes a rosbag2."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from roboref_core.command_line import ExitStatus, Stopped
from rosbags.convert import ConverterError, convert
from rosbags.rosbag2 import Reader

from sim.bags.new_bag import new_bag
from sim.bags.recorder_messages import typestore


@dataclass(frozen=True)
class Convert:
    """Make a rosbag2 of ROS 1 bags: those of TUM RGB-D, Bonn and OpenLORIS, and those that RealSense cameras record.

    The folders of the same data sets need no converting: `roboref sim record` reads them. Topics keep their names and
    frames theirs, with the leading slash that ROS 1 allowed.

      roboref sim convert rgbd_dataset_freiburg1_xyz.bag bags/fr1_xyz
    """

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SOURCE")]
    """A ROS 1 bag (.bag)."""
    bag: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="BAG")]
    """The rosbag2 folder to make."""
    more: tuple[Path, ...] = ()
    """Further bags of the same recording, played as one."""
    topics: tuple[str, ...] = ()
    """Convert only these topics; none: all."""
    exclude_topics: tuple[str, ...] = ()
    """Leave these topics out."""
    storage: Literal["mcap", "sqlite3"] = "mcap"
    """Storage plugin of rosbag2."""
    overwrite: bool = False
    """Replace an existing bag."""

    def __call__(self) -> int:
        signal.signal(signal.SIGTERM, _stop)
        topics = convert_bag(
            (self.source, *self.more),
            self.bag,
            topics=self.topics,
            exclude_topics=self.exclude_topics,
            storage=self.storage,
            overwrite=self.overwrite,
        )
        print(f"{self.bag}: {sum(topics.values())} messages")
        for name, count in topics.items():
            print(f"  {name} {count}")
        return ExitStatus.DONE


def convert_bag(
    sources: Sequence[Path],
    path: Path,
    *,
    topics: Sequence[str] = (),
    exclude_topics: Sequence[str] = (),
    storage: Literal["mcap", "sqlite3"] = "mcap",
    overwrite: bool = False,
) -> dict[str, int]:
    """Write ROS 1 bags as one rosbag2 folder, complete or not at all -> messages by topic.

    Raises:
        ValueError: the folder exists, or a source is no bag, is damaged, or has none of the topics.
        FolderInUse: another process makes the same bag.
    """
    names = ", ".join(map(str, sources))
    for source in sources:
        if not source.is_file() or source.suffix != ".bag":
            raise ValueError(f"{source}: expected a ROS 1 bag, a file that ends in .bag")
    with new_bag(path, f"roboref sim convert {path}", overwrite) as folder:
        try:
            convert(
                srcs=list(sources),
                dst=folder,
                dst_storage=storage,
                dst_version=9,
                compress=None,
                compress_mode="storage",
                default_typestore=None,
                typestore=typestore(),
                exclude_topics=list(exclude_topics),
                include_topics=list(topics),
                exclude_msgtypes=[],
                include_msgtypes=[],
            )
        except ConverterError as error:
            raise ValueError(f"{names}: {error}") from error
        with Reader(folder) as reader:
            counts = {connection.topic: connection.msgcount for connection in reader.connections}
        if not counts:
            wanted = f"none of the topics {', '.join(topics)} is in it" if topics else "it holds no messages"
            raise ValueError(f"{names}: {wanted}")
        return counts


def _stop(*_: object) -> None:
    raise Stopped("stopped; nothing was written")
