"""The `.db3` files of rosbag2."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path

from rosbags.rosbag2.metadata import parse_qos

from sim.bags.storage import MAX_MESSAGE_BYTES, BagDamaged, Channel, StoredMessage, naming


class SqliteStorage:
    """A `.db3` file, together with the write-ahead log (`-wal`) that a killed recorder leaves beside it.

    Raises BagDamaged naming the file.
    """

    def __init__(self, path: Path):
        self.path = path
        _check_length(path)
        # SQLite makes an index of the log while it reads it, and leaves it there.
        log, self._index = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
        self._remove_index = log.is_file() and not self._index.exists()
        with naming(path):
            # Without a log nothing is written beside the file, so that read-only media can be played.
            mode = "mode=ro" if log.is_file() and log.stat().st_size else "mode=ro&immutable=1"
            self._database = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, check_same_thread=False)
            self._database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_MESSAGE_BYTES)
            try:
                self.channels = self._read_channels()
                (first,) = self._database.execute("SELECT min(timestamp) FROM messages WHERE timestamp > 0").fetchone()
                times = self._database.execute("SELECT min(timestamp), max(timestamp) FROM messages").fetchone()
                self.first_ns, self.start_ns, self.end_ns = times[0] or 0, first or 0, times[1] or 0
            except sqlite3.Error as error:
                self.close()
                hint = "; copy the bag to a folder that can be written" if mode == "mode=ro" else ""
                raise BagDamaged(f"{path}: truncated or damaged: {error}{hint}") from error
            except BaseException:
                self.close()
                raise

    def messages(self, channels: Collection[int], start_ns: int = 0) -> Iterator[StoredMessage]:
        ids = ",".join(str(int(i)) for i in channels)
        query = (
            f"SELECT topic_id, timestamp, data FROM messages WHERE topic_id IN ({ids}) AND timestamp >= ? "
            "ORDER BY timestamp, id"
        )
        with naming(self.path):
            for channel, time_ns, data in self._database.execute(query, (int(start_ns),)):
                yield StoredMessage(channel, time_ns, data)

    def close(self) -> None:
        self._database.close()
        if self._remove_index:
            self._index.unlink(missing_ok=True)

    def _read_channels(self) -> list[Channel]:
        columns = {row[1] for row in self._database.execute("PRAGMA table_info(topics)")}
        if not columns or not list(self._database.execute("PRAGMA table_info(messages)")):
            raise ValueError("it has no tables 'topics' and 'messages'")
        # Files before Foxy do not say which QoS was offered.
        qos = "offered_qos_profiles" if "offered_qos_profiles" in columns else "''"
        counts = dict(self._database.execute("SELECT topic_id, count(*) FROM messages GROUP BY topic_id"))
        rows = self._database.execute(f"SELECT id, name, type, serialization_format, {qos} FROM topics ORDER BY id")
        return [
            Channel(i, topic, kind, encoding, parse_qos(profiles), counts.pop(i, 0))
            for i, topic, kind, encoding, profiles in rows
        ]


def _check_length(path: Path) -> None:
    """Raise BagDamaged if the file is shorter than its header says: SQLite reads what is missing as zeros."""
    with open(path, "rb") as file:
        header = file.read(100)
    if not header.startswith(b"SQLite format 3\0"):
        raise BagDamaged(f"{path}: truncated or damaged: it does not begin as an SQLite file does")
    page_size, pages = int.from_bytes(header[16:18], "big"), int.from_bytes(header[28:32], "big")
    expected = pages * (65536 if page_size == 1 else page_size)
    if path.stat().st_size < expected:
        raise BagDamaged(f"{path}: truncated: {path.stat().st_size} of {expected} bytes")
