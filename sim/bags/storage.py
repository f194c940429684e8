"""What the files of a rosbag2 have in common, whatever their format: channels, messages in order of time, limits."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from backports.zstd import ZstdDecompressor
from rosbags.interfaces import Qos

# A raw 8K picture has 100 MB. More than this in one message or chunk is a damaged or hostile file.
MAX_MESSAGE_BYTES = 512 * 2**20


class Channel(NamedTuple):
    """A topic as one file stores it.

    Attributes:
        id: the file's own number of it.
        topic, type: names.
        encoding: encoding of the messages: "cdr" in ROS 2.
        qos: profiles that its publishers offered; none if the file does not say.
        messages: how many the file has.
    """

    id: int
    topic: str
    type: str
    encoding: str
    qos: list[Qos]
    messages: int


class StoredMessage(NamedTuple):
    """A message as a file stores it; ``time_ns`` is when it was recorded."""

    channel: int
    time_ns: int
    data: bytes


class Storage(Protocol):
    """One open file of a bag.

    Attributes:
        path: the file.
        channels: topics of the file, empty ones too.
        first_ns, end_ns: times of the first message and of the last one; both 0 without messages.
        start_ns: time of the first message that was not recorded at time 0; 0 if there is none.
    """

    path: Path
    channels: list[Channel]
    first_ns: int
    start_ns: int
    end_ns: int

    def messages(self, channels: Collection[int], start_ns: int = 0) -> Iterator[StoredMessage]:
        """Messages of channels (by id) from ``start_ns`` on, by time and, where times are equal, as recorded."""
        ...

    def close(self) -> None: ...


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn whatever damaged bytes make a parser raise into a ValueError that names the file."""
    try:
        yield
    except GeneratorExit:
        raise
    except BagDamaged:
        raise
    except (Exception, RecursionError, MemoryError) as error:
        text = str(error) or type(error).__name__
        raise BagDamaged(f"{path}: truncated or damaged: {text}") from error


class BagDamaged(ValueError):
    """A file of a bag that is truncated, damaged or beyond the limits. The text names it."""


def unzstd(data: bytes) -> bytes:
    """Unpack zstd data. Raises ValueError for more than ``MAX_MESSAGE_BYTES``, before the memory is taken."""
    decompressor = ZstdDecompressor()
    unpacked = decompressor.decompress(data, max_length=MAX_MESSAGE_BYTES + 1)
    if len(unpacked) > MAX_MESSAGE_BYTES:
        raise ValueError(f"{len(data)} bytes of zstd unpack to more than {MAX_MESSAGE_BYTES >> 20} MiB")
    if not decompressor.eof:
        raise ValueError("zstd data ends early")
    return unpacked
