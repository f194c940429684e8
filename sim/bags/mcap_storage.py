"""The `.mcap` files of rosbag2, indexed or not, chunked or not."""

from __future__ import annotations

import heapq
import io
import os
import struct
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from lz4.frame import LZ4FrameDecompressor
from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.records import Channel as ChannelRecord
from mcap.records import Chunk, ChunkIndex, Footer, Header, Message, Schema, Statistics
from mcap.stream_reader import breakup_chunk
from rosbags.rosbag2.metadata import parse_qos

from sim.bags.storage import MAX_MESSAGE_BYTES, Channel, StoredMessage, naming, unzstd

_MAGIC = b"\x89MCAP0\r\n"
_RECORD = struct.Struct("<BQ")
_MESSAGE = struct.Struct("<HIQQ")
_FOOTER_BYTES = _RECORD.size + 20


class _Piece(NamedTuple):
    """A chunk, or a message outside of chunks, and where its record's content is in the file.

    Attributes:
        channels: ids of the channels that have messages in it; None: not known before it is read.
    """

    start_ns: int
    offset: int
    length: int
    end_ns: int
    is_chunk: bool
    channels: frozenset[int] | None


class McapStorage:
    """An `.mcap` file of ROS 2. A file without index (of a recorder that was killed) is scanned when it is opened.

    Raises BagDamaged naming the file.
    """

    def __init__(self, path: Path):
        self.path = path
        self._schemas: dict[int, Schema] = {}
        self._records: dict[int, ChannelRecord] = {}
        self._pieces: list[_Piece] = []
        self._statistics: Statistics | None = None
        self._file = open(path, "rb")
        try:
            with naming(path):
                self._open()
        except BaseException:
            self._file.close()
            raise

    def messages(self, channels: Collection[int], start_ns: int = 0) -> Iterator[StoredMessage]:
        """See ``Storage``. Chunks are unpacked when their time comes; those whose times overlap are held together."""
        wanted = frozenset(channels)
        # Ordered by time, then by place in the file.
        due: list[tuple[int, int, int, Message]] = []
        with naming(self.path):
            for piece in self._pieces:
                if piece.end_ns < start_ns or (piece.channels is not None and wanted.isdisjoint(piece.channels)):
                    continue
                while due and due[0][0] < piece.start_ns:
                    yield _stored(heapq.heappop(due)[3])
                for i, message in enumerate(self._messages(piece)):
                    if message.channel_id in wanted and message.log_time >= start_ns:
                        heapq.heappush(due, (message.log_time, piece.offset, i, message))
            while due:
                yield _stored(heapq.heappop(due)[3])

    def _messages(self, piece: _Piece) -> Iterator[Message]:
        if piece.is_chunk:
            yield from (record for record in breakup_chunk(self._chunk(piece)) if isinstance(record, Message))
        else:
            yield Message.read(_stream(self._content(piece)), piece.length)

    def close(self) -> None:
        self._file.close()

    def _open(self) -> None:
        magic = self._file.read(len(_MAGIC))
        if magic != _MAGIC:
            raise ValueError("it does not begin as an MCAP file does" if magic else "the file is empty")
        opcode, length = self._head()
        if opcode != Opcode.HEADER:
            raise ValueError(f"a header was expected at its beginning, found record {opcode}")
        profile = Header.read(_stream(self._read(length))).profile
        if profile not in ("ros2", ""):
            raise ValueError(f"expected profile 'ros2', found {profile!r}; `roboref sim convert` takes ROS 1 bags")
        data_start = self._file.tell()
        size = self._file.seek(0, os.SEEK_END)
        self._file.seek(max(data_start, size - len(_MAGIC) - _FOOTER_BYTES))
        tail = self._file.read()
        if not tail.endswith(_MAGIC) or tail[0] != Opcode.FOOTER:
            raise ValueError("it has no end: its recorder was killed, or it was cut; `mcap recover` makes a whole file")
        summary = Footer.read(_stream(tail[_RECORD.size :])).summary_start
        if summary:
            self._file.seek(summary)
            self._read_summary()
        counts, self.start_ns, self.end_ns = self._counts(data_start)
        self._pieces.sort()
        self.first_ns = self._pieces[0].start_ns if self._pieces else 0
        self.channels = [self._as_channel(record, counts[record.id]) for record in self._records.values()]

    def _read_summary(self) -> None:
        while True:
            opcode, length = self._head()
            if opcode == Opcode.FOOTER:
                return
            stream = _stream(self._read(length))
            if opcode == Opcode.SCHEMA:
                schema = Schema.read(stream)
                self._schemas[schema.id] = schema
            elif opcode == Opcode.CHANNEL:
                channel = ChannelRecord.read(stream)
                self._records[channel.id] = channel
            elif opcode == Opcode.STATISTICS:
                self._statistics = Statistics.read(stream)
            elif opcode == Opcode.CHUNK_INDEX:
                index = ChunkIndex.read(stream)
                offset = index.chunk_start_offset + _RECORD.size
                length = index.chunk_length - _RECORD.size
                channels = frozenset(index.message_index_offsets) or None
                piece = _Piece(index.message_start_time, offset, length, index.message_end_time, True, channels)
                self._pieces.append(piece)

    def _counts(self, data_start: int) -> tuple[Counter[int], int, int]:
        """Messages by channel, and the times of the first (not counting 0) and the last; scans what has no index."""
        statistics = self._statistics
        if statistics is not None and len(self._pieces) == statistics.chunk_count and statistics.message_count:
            counts = Counter(statistics.channel_message_counts)
            complete = (
                self._pieces and counts.total() == statistics.message_count and counts.keys() <= self._records.keys()
            )
            if complete and statistics.message_start_time:
                return counts, statistics.message_start_time, statistics.message_end_time
        self._pieces.clear()
        return self._scan(data_start)

    def _scan(self, position: int) -> tuple[Counter[int], int, int]:
        counts: Counter[int] = Counter()
        start, end = 0, 0
        times: list[tuple[int, int]] = []
        while True:
            self._file.seek(position)
            opcode, length = self._head()
            offset = self._file.tell()
            if opcode in (Opcode.DATA_END, Opcode.FOOTER):
                break
            times.clear()
            if opcode == Opcode.MESSAGE:
                channel, _, time_ns, _ = _MESSAGE.unpack(self._file.read(_MESSAGE.size))
                self._pieces.append(_Piece(time_ns, offset, length, time_ns, False, frozenset((channel,))))
                times.append((channel, time_ns))
            elif opcode == Opcode.SCHEMA:
                self._learn(Schema.read(_stream(self._read(length))))
            elif opcode == Opcode.CHANNEL:
                self._learn(ChannelRecord.read(_stream(self._read(length))))
            elif opcode == Opcode.CHUNK:
                piece = _Piece(0, offset, length, 0, True, None)
                for record in breakup_chunk(self._chunk(piece)):
                    self._learn(record)
                    if isinstance(record, Message):
                        times.append((record.channel_id, record.log_time))
                if times:
                    within = [time_ns for _, time_ns in times]
                    channels = frozenset(channel for channel, _ in times)
                    self._pieces.append(piece._replace(start_ns=min(within), end_ns=max(within), channels=channels))
            for channel, time_ns in times:
                counts[channel] += 1
                end = max(end, time_ns)
                start = min(start or time_ns, time_ns or start)
            position = offset + length
        unknown = counts.keys() - self._records.keys()
        if unknown:
            raise ValueError(f"messages of channel {min(unknown)}, which is not declared")
        return counts, start, end

    def _learn(self, record: object) -> None:
        if isinstance(record, Schema):
            self._schemas[record.id] = record
        elif isinstance(record, ChannelRecord):
            self._records[record.id] = record

    def _as_channel(self, record: ChannelRecord, count: int) -> Channel:
        schema = self._schemas.get(record.schema_id)
        qos = parse_qos(record.metadata.get("offered_qos_profiles", ""))
        return Channel(record.id, record.topic, schema.name if schema else "", record.message_encoding, qos, count)

    def _head(self) -> tuple[int, int]:
        """Kind and length of the record at the file's position."""
        head = self._file.read(_RECORD.size)
        if len(head) < _RECORD.size:
            raise ValueError("it ends early")
        opcode, length = _RECORD.unpack(head)
        return opcode, length

    def _content(self, piece: _Piece) -> bytes:
        self._file.seek(piece.offset)
        return self._read(piece.length)

    def _read(self, length: int) -> bytes:
        if length > MAX_MESSAGE_BYTES:
            raise ValueError(f"a record of {length} bytes, more than {MAX_MESSAGE_BYTES / 2**20:.0f} MiB")
        data = self._file.read(length)
        if len(data) < length:
            raise ValueError("it ends early")
        return data

    def _chunk(self, piece: _Piece) -> Chunk:
        """The chunk with its content unpacked, within the limit, and checked."""
        chunk = Chunk.read(_stream(self._content(piece)))
        if chunk.uncompressed_size > MAX_MESSAGE_BYTES:
            raise ValueError(
                f"a chunk that unpacks to {chunk.uncompressed_size} bytes, more than {MAX_MESSAGE_BYTES >> 20} MiB"
            )
        data = _unpack(chunk)
        if len(data) != chunk.uncompressed_size:
            raise ValueError(f"a chunk of {chunk.uncompressed_size} bytes unpacks to {len(data)}")
        if chunk.uncompressed_crc and zlib.crc32(data) != chunk.uncompressed_crc:
            raise ValueError("the checksum of a chunk does not match its content")
        chunk.compression, chunk.data = "", data
        return chunk


def _unpack(chunk: Chunk) -> bytes:
    if chunk.compression == "zstd":
        return unzstd(chunk.data)
    if chunk.compression == "lz4":
        return bytes(LZ4FrameDecompressor().decompress(chunk.data, max_length=chunk.uncompressed_size + 1))
    if chunk.compression:
        raise ValueError(f"expected chunks compressed with zstd or lz4, found {chunk.compression!r}")
    return chunk.data


def _stream(data: bytes) -> ReadDataStream:
    return ReadDataStream(io.BytesIO(data))


def _stored(message: Message) -> StoredMessage:
    return StoredMessage(message.channel_id, message.log_time, message.data)
