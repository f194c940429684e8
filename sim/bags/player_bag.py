"""A rosbag2 as the player needs it: topics, and messages from any time on. No ROS."""

from __future__ import annotations

import heapq
import os
import shutil
import struct
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from backports.zstd import ZstdFile
from rosbags.interfaces import Qos, QosDurability

from sim.bags.mcap_storage import McapStorage
from sim.bags.metadata import BagMetadata, read_metadata
from sim.bags.sqlite_storage import SqliteStorage
from sim.bags.storage import BagDamaged, Storage, naming, unzstd

_SUFFIXES: dict[str, type[McapStorage] | type[SqliteStorage]] = {".mcap": McapStorage, ".db3": SqliteStorage}
# By convention their publishers are latched. Offering that serves subscribers that do not ask for it too.
_LATCHED_NAMES = ("tf_static", "robot_description", "map")
# Left free on the disk when a bag compressed as a whole is unpacked.
_KEEP_FREE_BYTES = 2**30


@dataclass(frozen=True)
class Topic:
    """A recorded topic. ``qos`` are the profiles its publishers offered, none if the bag does not say."""

    name: str
    type: str
    count: int
    qos: list[Qos]

    @property
    def latched(self) -> bool:
        """Whether late subscribers get what was sent before, as with /tf_static."""
        if not self.qos:
            return self.name.rpartition("/")[2] in _LATCHED_NAMES
        return any(qos.durability == QosDurability.TRANSIENT_LOCAL for qos in self.qos)


class BagMessage(NamedTuple):
    """A message as recorded: CDR bytes, and the time at which it was recorded [ns]."""

    topic: str
    time_ns: int
    data: bytes


class Bag:
    """A rosbag2 folder (MCAP or sqlite3, plain or zstd), or one `.mcap` or `.db3` file.

    Attributes:
        topics: recorded topics by name.
        skipped: topics whose messages cannot be played, with the reason: another encoding than ROS 2's CDR.
        start_ns, end_ns: times of the first and last message. Messages recorded at time 0, before there was a time,
            do not count.

    Raises:
        ValueError: not a bag, empty, truncated, damaged or beyond the limits of ``sim.bags.storage``.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self._open_files = ExitStack()
        self._storages: list[Storage] = []
        self._metadata = BagMetadata()
        try:
            for file in self._files():
                storage = _SUFFIXES[file.suffix](file)
                self._open_files.callback(storage.close)
                self._storages.append(storage)
            self._index()
        except (OSError, KeyError) as error:
            self.close()
            raise ValueError(f"{self.path}: not a whole rosbag2: {error}") from error
        except BaseException:
            self.close()
            raise

    def messages(self, topics: Collection[str], start_ns: int | None = None) -> Iterator[BagMessage]:
        """Messages of ``topics`` from ``start_ns`` on, in the order of their times, however the files overlap.

        Raises ValueError naming the bag where it turns out damaged.
        """
        start = 0 if start_ns is None else max(0, int(start_ns))
        waiting = sorted(
            (storage.first_ns, i)
            for i, storage in enumerate(self._storages)
            if storage.end_ns >= start and any(topic in topics for topic in self._names[i].values())
        )
        # A file is opened up when its time comes: a long recording has hundreds.
        streams: list[tuple[int, int, BagMessage, Iterator[BagMessage]]] = []
        while waiting or streams:
            while waiting and (not streams or waiting[0][0] <= streams[0][0]):
                _, i = heapq.heappop(waiting)
                stream = self._stream(i, topics, start)
                first = next(stream, None)
                if first is not None:
                    heapq.heappush(streams, (first.time_ns, i, first, stream))
            if not streams:
                continue
            _, i, message, stream = streams[0]
            yield message
            following = next(stream, None)
            if following is None:
                heapq.heappop(streams)
            else:
                heapq.heapreplace(streams, (following.time_ns, i, following, stream))

    def close(self) -> None:
        self._open_files.close()

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _files(self) -> list[Path]:
        if not self.path.exists():
            raise ValueError(f"{self.path}: no such file or folder")
        if not self.path.is_dir():
            if self.path.suffix not in _SUFFIXES:
                expected = "a folder, an .mcap or a .db3 file"
                if self.path.suffix == ".bag":
                    expected += "; `roboref sim convert` makes one of a ROS 1 bag"
                raise ValueError(f"{self.path}: not a whole rosbag2: expected {expected}")
            return [self.path]
        self._metadata = read_metadata(self.path)
        files = [self.path / name for name in self._metadata.files]
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            raise ValueError(f"{self.path}: not a whole rosbag2: its metadata names files that are missing: {missing}")
        return self._unpacked(files) if self._metadata.compression == "file" else files

    def _unpacked(self, files: list[Path]) -> list[Path]:
        """Files compressed as a whole, unpacked into a temporary folder for as long as the bag is open."""
        folder = Path(self._open_files.enter_context(TemporaryDirectory(prefix="roboref-bag-")))
        unpacked = []
        for file in files:
            target = folder / file.stem
            with naming(file), ZstdFile(file) as packed, open(target, "wb") as plain:
                while block := packed.read(2**24):
                    if shutil.disk_usage(folder).free < _KEEP_FREE_BYTES + len(block):
                        raise BagDamaged(f"{file}: unpacked it does not fit into {folder}; set TMPDIR to a larger disk")
                    plain.write(block)
            unpacked.append(target)
        return unpacked

    def _index(self) -> None:
        """Collect the topics of all files; the files are believed over the metadata, which may state other QoS."""
        found = sum(channel.messages for storage in self._storages for channel in storage.channels)
        expected = self._metadata.message_count
        if expected is not None and found != expected:
            raise ValueError(f"{self.path}: damaged: {found} messages in its files, {expected} in its metadata")
        if not found:
            raise ValueError(f"{self.path}: damaged: no messages in it")
        times = [time_ns for s in self._storages for time_ns in (s.start_ns, s.end_ns) if time_ns]
        self.start_ns, self.end_ns = min(times, default=0), max(times, default=0)
        self.topics: dict[str, Topic] = {}
        self.skipped: dict[str, str] = {}
        self._names: list[dict[int, str]] = []
        for storage in self._storages:
            names = {}
            for channel in storage.channels:
                known = self.topics.get(channel.topic)
                if channel.encoding != "cdr":
                    self.skipped[channel.topic] = (
                        f"its messages are encoded as {channel.encoding!r}, not as ROS 2's cdr"
                    )
                elif known is not None and known.type != channel.type:
                    self.skipped[channel.topic] = (
                        f"it has messages of {known.type} and of {channel.type}; the first are kept"
                    )
                else:
                    qos = channel.qos or (known.qos if known else self._metadata.qos.get(channel.topic, []))
                    count = channel.messages + (known.count if known else 0)
                    self.topics[channel.topic] = Topic(channel.topic, channel.type, count, qos)
                    names[channel.id] = channel.topic
            self._names.append(names)
        if not any(topic.count for topic in self.topics.values()):
            reasons = "; ".join(f"{topic}: {reason}" for topic, reason in self.skipped.items())
            raise ValueError(f"{self.path}: nothing in it can be played: {reasons}")

    def _stream(self, i: int, topics: Collection[str], start_ns: int) -> Iterator[BagMessage]:
        storage, names = self._storages[i], self._names[i]
        packed = self._metadata.compression == "message"
        wanted = [channel for channel, topic in names.items() if topic in topics]
        with naming(storage.path):
            for channel, time_ns, data in storage.messages(wanted, start_ns):
                yield BagMessage(names[channel], time_ns, unzstd(data) if packed else data)


def header_stamp_ns(cdr: bytes) -> int:
    """Stamp of a message that begins with a std_msgs/Header: after CDR's 4-byte encapsulation, whose second byte is
    1 for little endian."""
    sec, nanosec = struct.unpack_from("<iI" if cdr[1] & 1 else ">iI", cdr, 4)
    return sec * 10**9 + nanosec
