"""`roboref sim reindex`: the metadata.yaml of a bag whose recorder did not come to write it."""

from __future__ import annotations

import io
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from roboref_core import atomic
from roboref_core.command_line import ExitStatus
from ruamel.yaml import YAML

from sim.bags.mcap_storage import McapStorage
from sim.bags.metadata import bag_files, made_metadata
from sim.bags.sqlite_storage import SqliteStorage
from sim.bags.storage import Storage


@dataclass(frozen=True)
class Reindex:
    """Write the metadata.yaml of a rosbag2 folder that has none, from its .mcap or .db3 files.

    As `ros2 bag reindex`, for machines without it. The files themselves stay as they are.

      roboref sim reindex bags/cut_off
    """

    bag: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="BAG")]
    """The rosbag2 folder."""
    overwrite: bool = False
    """Replace a metadata.yaml that exists."""

    def __call__(self) -> int:
        path = self.bag / "metadata.yaml"
        if not self.bag.is_dir():
            raise ValueError(f"{self.bag}: expected the folder of a rosbag2")
        if path.exists() and not self.overwrite:
            raise ValueError(f"{path} exists; --overwrite replaces it")
        with ExitStack() as stack:
            storages: list[Storage] = []
            for file in bag_files(self.bag):
                storage: Storage = McapStorage(file) if file.suffix == ".mcap" else SqliteStorage(file)
                stack.callback(storage.close)
                storages.append(storage)
            metadata = made_metadata(storages)
        text = io.StringIO()
        YAML(typ="safe").dump(metadata, text)
        atomic.write_text(path, text.getvalue())
        count = metadata["rosbag2_bagfile_information"]["message_count"]
        print(f"{path}: {count} messages in {len(storages)} file{'s' if len(storages) > 1 else ''}")
        return ExitStatus.DONE
