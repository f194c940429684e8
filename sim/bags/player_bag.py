"""A rosbag2 as the player needs it: topics, and messages from any time on. No ROS."""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import apsw
from backports.zstd import ZstdError
from rosbags.interfaces import Connection, Qos, QosDurability
from rosbags.rosbag2 import Reader, ReaderError

_DAMAGED = (ReaderError, ZstdError, apsw.Error, struct.error, OSError, EOFError, UnicodeDecodeError)


class Topic(NamedTuple):
    """A recorded topic. ``qos`` are the profiles its publishers offered."""

    name: str
    type: str
    count: int
    qos: list[Qos]

    @property
    def latched(self) -> bool:
        """Whether late subscribers get what was sent before (/tf_static)."""
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
        start_ns, end_ns: times of the first and last message.

    Raises:
        ValueError: not a bag, empty, truncated or damaged.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        if self.path.is_dir() and not (self.path / "metadata.yaml").is_file():
            raise ValueError(f"{self.path}: not a whole rosbag2: it has no metadata.yaml, which a recorder writes last")
        try:
            self._reader = Reader(self.path)
            self._reader.open()
        except _DAMAGED as error:
            raise ValueError(f"{self.path}: not a whole rosbag2, truncated or damaged: {error}") from error
        try:
            self._index()
        except ValueError:
            self.close()
            raise

    def _index(self) -> None:
        # A folder's metadata.yaml may state other QoS than its files, and the reader drops what does not agree.
        storages = getattr(self._reader.storage, "storages", [self._reader.storage])
        for storage in storages:
            _check_length(storage.path)
        self._connections: list[Connection] = [c for storage in storages for c in storage.connections]
        found, expected = sum(c.msgcount for c in self._connections), self._reader.message_count
        if found != expected or not found:
            raise ValueError(f"{self.path}: damaged: {found} messages in its files, {expected} in its metadata")
        self.start_ns, self.end_ns = self._reader.start_time, self._reader.end_time - 1
        self.topics: dict[str, Topic] = {}
        for c in self._connections:
            count = c.msgcount + (self.topics[c.topic].count if c.topic in self.topics else 0)
            self.topics[c.topic] = Topic(c.topic, c.msgtype, count, list(c.ext.offered_qos_profiles))

    def messages(self, topics: Collection[str], start_ns: int | None = None) -> Iterator[BagMessage]:
        """Messages of ``topics`` from ``start_ns`` on, in the order of their times.

        Raises ValueError naming the bag where it turns out damaged.
        """
        connections = [c for c in self._connections if c.topic in topics]
        try:
            if connections:
                # A numpy integer would be bound to the SQL query as a blob, and match nothing.
                start = None if start_ns is None else int(start_ns)
                for connection, time_ns, data in self._reader.messages(connections, start):
                    yield BagMessage(connection.topic, time_ns, data)
        except _DAMAGED as error:
            raise ValueError(f"{self.path}: damaged: {error}") from error

    def close(self) -> None:
        if self._reader.is_open:
            self._reader.close()

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def header_stamp_ns(cdr: bytes) -> int:
    """Stamp of a message that begins with a std_msgs/Header: after CDR's 4-byte encapsulation, whose second byte is
    1 for little endian."""
    sec, nanosec = struct.unpack_from("<iI" if cdr[1] & 1 else ">iI", cdr, 4)
    return sec * 10**9 + nanosec


def _check_length(path: Path) -> None:
    """Raise ValueError if an SQLite file is shorter than its header says: SQLite reads what is missing as zeros."""
    with open(path, "rb") as file:
        header = file.read(100)
    if header.startswith(b"SQLite format 3\0"):
        page_size, pages = int.from_bytes(header[16:18], "big"), int.from_bytes(header[28:32], "big")
        expected = pages * (65536 if page_size == 1 else page_size)
        if path.stat().st_size < expected:
            raise ValueError(f"{path}: truncated: {path.stat().st_size} of {expected} bytes")
