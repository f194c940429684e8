"""`metadata.yaml` of a rosbag2: what is read from it, and its reconstruction from the files of the bag."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from rosbags.interfaces import Qos
from rosbags.rosbag2.metadata import dump_qos_v9, parse_qos
from ruamel.yaml import YAML

from sim.bags.storage import Storage, naming

_NAME = "metadata.yaml"
_MAX_BYTES = 64 * 2**20
_NEWEST_VERSION = 9


@dataclass(frozen=True)
class BagMetadata:
    """What reading a bag needs of its metadata.

    Attributes:
        files: names of its files, in the bag's folder.
        compression: what zstd was applied to.
        message_count: messages of all files; None: not known.
        qos: offered profiles by topic, for files that do not state them.
    """

    files: tuple[str, ...] = ()
    compression: str = ""
    message_count: int | None = None
    qos: dict[str, list[Qos]] = field(default_factory=dict)


def read_metadata(folder: Path) -> BagMetadata:
    """Read the metadata of a rosbag2 folder.

    Raises ValueError naming the folder: no metadata, metadata of a later version, other compression than zstd.
    """
    path = folder / _NAME
    if not path.is_file():
        raise ValueError(
            f"{folder}: not a whole rosbag2: it has no {_NAME}, which a recorder writes last; {_remedy(folder)}"
        )
    with naming(path):
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"it has more than {_MAX_BYTES >> 20} MiB")
        info = YAML(typ="safe").load(path)["rosbag2_bagfile_information"]
        version, mode = info["version"], (info.get("compression_mode") or "").lower()
        if version > _NEWEST_VERSION:
            raise ValueError(f"expected a version up to {_NEWEST_VERSION}, found {version}")
        if mode in ("file", "message") and info.get("compression_format") != "zstd":
            raise ValueError(f"expected compression with zstd, found {info.get('compression_format')!r}")
        topics = [topic["topic_metadata"] for topic in info["topics_with_message_count"]]
        return BagMetadata(
            files=tuple(PurePath(name).name for name in info["relative_file_paths"]),
            compression=mode if mode in ("file", "message") else "",
            message_count=int(info["message_count"]),
            qos={topic["name"]: parse_qos(topic.get("offered_qos_profiles") or []) for topic in topics},
        )


def bag_files(folder: Path) -> list[Path]:
    """The `.mcap` and `.db3` files of a folder, in the order of the numbers in their names.

    Raises ValueError if there are none, both kinds, or files compressed as a whole.
    """
    files = [path for path in sorted(folder.iterdir()) if path.suffix in (".mcap", ".db3")]
    if len({path.suffix for path in files}) != 1:
        found = ", ".join(path.name for path in sorted(folder.iterdir())[:5]) or "nothing"
        raise ValueError(f"{folder}: expected .mcap files or .db3 files, found {found}")
    return sorted(files, key=_number)


def made_metadata(storages: list[Storage]) -> dict[str, Any]:
    """Content of a `metadata.yaml` for files in their order.

    Raises ValueError if there is no message, or a topic is of two types.
    """
    topics: dict[str, dict[str, Any]] = {}
    for storage in storages:
        for channel in storage.channels:
            topic = topics.setdefault(
                channel.topic,
                {
                    "topic_metadata": {
                        "name": channel.topic,
                        "type": channel.type,
                        "serialization_format": channel.encoding,
                        "offered_qos_profiles": dump_qos_v9(channel.qos),
                        "type_description_hash": "",
                    },
                    "message_count": 0,
                },
            )
            if topic["topic_metadata"]["type"] != channel.type:
                kinds = f"{topic['topic_metadata']['type']} and {channel.type}"
                raise ValueError(f"{storage.path}: topic {channel.topic} is of types {kinds}")
            topic["message_count"] += channel.messages
    counts = [sum(channel.messages for channel in storage.channels) for storage in storages]
    if not sum(counts):
        raise ValueError(f"{storages[0].path.parent}: no messages in its files")
    full = [storage for storage, count in zip(storages, counts, strict=True) if count]
    start, end = min(s.start_ns for s in full), max(s.end_ns for s in full)
    return {
        "rosbag2_bagfile_information": {
            "version": _NEWEST_VERSION,
            "storage_identifier": "mcap" if storages[0].path.suffix == ".mcap" else "sqlite3",
            "duration": {"nanoseconds": end - start},
            "starting_time": {"nanoseconds_since_epoch": start},
            "message_count": sum(counts),
            "topics_with_message_count": list(topics.values()),
            "compression_format": "",
            "compression_mode": "",
            "relative_file_paths": [storage.path.name for storage in storages],
            "files": [
                {
                    "path": storage.path.name,
                    "starting_time": {"nanoseconds_since_epoch": storage.start_ns},
                    "duration": {"nanoseconds": storage.end_ns - storage.start_ns},
                    "message_count": count,
                }
                for storage, count in zip(storages, counts, strict=True)
            ],
            "custom_data": None,
            "ros_distro": "jazzy",
        }
    }


def _remedy(folder: Path) -> str:
    names = [path.name for path in sorted(folder.iterdir()) if path.suffix in (".mcap", ".db3")]
    if not names:
        return "and there is no .mcap or .db3 file in it"
    return f"play {folder / names[0]} alone, or run `roboref sim reindex {folder}` (or `ros2 bag reindex {folder}`)"


def _number(path: Path) -> tuple[int, str]:
    digits = path.stem.rpartition("_")[2]
    return (int(digits) if digits.isdigit() else -1, path.name)
