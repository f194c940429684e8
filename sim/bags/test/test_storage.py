"""Files of bags of other programs: every layout of MCAP, logs of killed recorders, damaged and hostile bytes."""

from __future__ import annotations

import shutil
import sqlite3
import struct
import zlib
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from backports.zstd import compress
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.writer import CompressionType, IndexType, Writer
from ruamel.yaml import YAML

from sim.bags import storage as limits
from sim.bags.mcap_storage import McapStorage
from sim.bags.player_bag import Bag
from sim.bags.recorder import RecordOptions, record
from sim.bags.reindex import Reindex
from sim.bags.test.test_recorder import MemoryScene

STAMPS = 50 * 10**9 + np.arange(5) * 40_000_000
CDR = b"\0\1\0\0"


def write_mcap(path, messages, encodings=None, profile="ros2", **options):
    """messages: (topic, time, data). encodings: topic -> message encoding."""
    with open(path, "wb") as file:
        writer = Writer(file, **options)
        writer.start(profile=profile, library="test")
        channels = {}
        for topic, time_ns, data in messages:
            if topic not in channels:
                encoding = (encodings or {}).get(topic, "cdr")
                schema_encoding = {"cdr": "ros2msg", "json": "jsonschema"}.get(encoding, encoding)
                schema = writer.register_schema(
                    name="std_msgs/msg/String", encoding=schema_encoding, data=b"string data"
                )
                channels[topic] = writer.register_channel(topic, encoding, schema)
            writer.add_message(channels[topic], log_time=time_ns, publish_time=time_ns, data=data)
        writer.finish()
    return path


@pytest.mark.parametrize(
    ("chunked", "compression", "indexed", "statistics", "repeated"),
    product([True, False], CompressionType, [IndexType.ALL, IndexType.NONE], [True, False], [True, False]),
)
def test_every_layout_of_mcap_gives_what_was_written(tmp_path, chunked, compression, indexed, statistics, repeated):
    rng = np.random.default_rng(7)
    times = 10**18 + rng.integers(0, 1000, 300)
    messages = [(f"/t{i % 3}", int(t), CDR + bytes([i % 256] * int(rng.integers(0, 90)))) for i, t in enumerate(times)]
    path = write_mcap(
        tmp_path / "a.mcap",
        messages,
        chunk_size=900,
        use_chunking=chunked,
        compression=compression,
        index_types=indexed,
        use_statistics=statistics,
        repeat_channels=repeated,
        repeat_schemas=repeated,
    )
    with Bag(path) as bag:
        found = [tuple(message) for message in bag.messages(bag.topics)]
        assert found == sorted(messages, key=lambda m: m[1])
        assert {name: topic.count for name, topic in bag.topics.items()} == {"/t0": 100, "/t1": 100, "/t2": 100}
        middle = 10**18 + 500
        assert [tuple(m) for m in bag.messages({"/t1"}, middle)] == [
            m for m in found if m[0] == "/t1" and m[1] >= middle
        ]


def test_channels_that_are_not_cdr_are_named_and_the_others_played(tmp_path):
    messages = [("/pose", 1, CDR), ("/log", 2, b"\x08\x01"), ("/state", 3, b"{}")]
    path = write_mcap(tmp_path / "mixed.mcap", messages, {"/log": "protobuf", "/state": "json"})
    with Bag(path) as bag:
        assert list(bag.topics) == ["/pose"]
        assert "'protobuf'" in bag.skipped["/log"] and "'json'" in bag.skipped["/state"]
        assert [m.topic for m in bag.messages(["/pose", "/log", "/state"])] == ["/pose"]


def test_a_bag_without_anything_to_play_is_refused(tmp_path):
    path = write_mcap(tmp_path / "json.mcap", [("/state", 3, b"{}")], {"/state": "json"})
    with pytest.raises(ValueError, match=r"json\.mcap: nothing in it can be played: /state: .*'json'"):
        Bag(path)


def test_ros1_profile_says_what_to_do(tmp_path):
    path = write_mcap(tmp_path / "one.mcap", [("/a", 1, b"")], profile="ros1")
    with pytest.raises(ValueError, match=r"one\.mcap.*'ros1'.*roboref sim convert"):
        Bag(path)


def test_messages_at_time_0_come_first_and_do_not_make_the_bag_older(tmp_path):
    path = write_mcap(tmp_path / "zero.mcap", [("/a", 5 * 10**18, CDR), ("/a", 0, CDR), ("/a", 6 * 10**18, CDR)])
    with Bag(path) as bag:
        assert (bag.start_ns, bag.end_ns) == (5 * 10**18, 6 * 10**18)
        assert [m.time_ns for m in bag.messages(["/a"])] == [0, 5 * 10**18, 6 * 10**18]


def split_bag(folder, parts, names=None):
    folder.mkdir()
    names = names or [f"{folder.name}_{i}.mcap" for i in range(len(parts))]
    for name, part in zip(names, parts, strict=True):
        write_mcap(folder / name, part)
    return folder


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_split_files_that_overlap_or_are_out_of_order_give_messages_by_time(tmp_path, order):
    base = 10**18
    spans = [range(0, 30), range(20, 60), range(90, 100)]
    parts = [[("/a", base + t, CDR + bytes([t])) for t in spans[i]] for i in order]
    folder = split_bag(tmp_path / "split", parts)
    assert Reindex(folder)() == 0
    with Bag(folder) as bag:
        times = [m.time_ns - base for m in bag.messages(["/a"])]
        assert times == sorted(t for span in spans for t in span)
        assert [m.time_ns - base for m in bag.messages(["/a"], base + 25)] == [t for t in times if t >= 25]


def test_reindex_restores_what_a_killed_recorder_did_not_write(tmp_path, capsys):
    for kind in ("mcap", "sqlite3"):
        path = record(MemoryScene(STAMPS), tmp_path / kind, RecordOptions(storage=kind)).path
        yaml = YAML(typ="safe")
        before = yaml.load(path / "metadata.yaml")["rosbag2_bagfile_information"]
        with pytest.raises(ValueError, match="exists"):
            Reindex(path)()
        (path / "metadata.yaml").unlink()
        assert Reindex(path)() == 0
        after = yaml.load(path / "metadata.yaml")["rosbag2_bagfile_information"]
        for key in ("storage_identifier", "duration", "starting_time", "message_count", "relative_file_paths"):
            assert after[key] == before[key], key
        with Bag(path) as bag:
            assert bag.topics["/tf_static"].latched and sum(t.count for t in bag.topics.values()) == 33
    assert "33 messages in 1 file" in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: expected \.mcap files or \.db3 files, found nothing"):
        Reindex(tmp_path / "empty")()


def test_the_log_of_a_killed_recorder_is_read_and_left_alone(tmp_path):
    path = record(MemoryScene(STAMPS), tmp_path / "b", RecordOptions(storage="sqlite3")).path
    file = path / "b.db3"
    writer = sqlite3.connect(file)
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("PRAGMA wal_autocheckpoint=0")
    writer.execute("INSERT INTO messages(topic_id, timestamp, data) SELECT topic_id, timestamp + 1, data FROM messages")
    writer.commit()
    killed = tmp_path / "killed"
    killed.mkdir()
    for source in (file, path / "b.db3-wal"):
        shutil.copy(source, killed)
    writer.close()
    before = {p.name: p.read_bytes() for p in killed.iterdir()}
    with Bag(killed / "b.db3") as bag:
        assert sum(1 for _ in bag.messages(bag.topics)) == 66
    assert {p.name: p.read_bytes() for p in killed.iterdir()} == before


@pytest.mark.parametrize("topic", ["/tf_static", "/robot/tf_static", "/robot_description"])
def test_topics_without_qos_are_latched_by_convention(tmp_path, topic):
    with Bag(write_mcap(tmp_path / "a.mcap", [(topic, 1, CDR), ("/tf", 2, CDR)])) as bag:
        assert bag.topics[topic].latched and not bag.topics["/tf"].latched


def test_messages_that_unpack_to_more_than_the_limit_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAX_MESSAGE_BYTES", 2**20)
    path = record(MemoryScene(STAMPS), tmp_path / "b", RecordOptions(storage="sqlite3", compression="zstd")).path
    database = sqlite3.connect(path / "b.db3")
    # Without the size that a frame may state of itself, which could also be a lie.
    bomb = compress(bytes(2**24))
    database.execute("UPDATE messages SET data = ? WHERE id = 7", (bomb,))
    database.commit()
    database.close()
    with Bag(path) as bag, pytest.raises(ValueError, match=r"b\.db3: .*unpack to more than 1 MiB"):
        list(bag.messages(bag.topics))


def test_a_chunk_that_lies_about_its_size_is_refused(tmp_path):
    packed = compress(bytes(2**22))
    record_bytes = (
        struct.pack("<QQQI", 1, 1, 10**3, 0) + struct.pack("<I", 4) + b"zstd" + struct.pack("<Q", len(packed))
    )
    chunk = b"\x06" + struct.pack("<Q", len(record_bytes + packed)) + record_bytes + packed
    header = struct.pack("<I", 4) + b"ros2" + struct.pack("<I", 0)
    magic = b"\x89MCAP0\r\n"
    footer = b"\x02" + struct.pack("<QQQI", 20, 0, 0, 0)
    path = tmp_path / "lie.mcap"
    path.write_bytes(magic + b"\x01" + struct.pack("<Q", len(header)) + header + chunk + footer + magic)
    with pytest.raises(ValueError, match=r"lie\.mcap: .*a chunk of 1000 bytes unpacks to"):
        McapStorage(path)
    huge = struct.pack("<QQQI", 1, 1, 2**62, zlib.crc32(b"")) + record_bytes[28:] + packed
    path.write_bytes(magic + b"\x01" + struct.pack("<Q", len(header)) + header + chunk[:9] + huge + footer + magic)
    with pytest.raises(ValueError, match=r"lie\.mcap: .*more than 512 MiB"):
        McapStorage(path)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_files_are_read_or_refused_by_name(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "damage"
    kind = data.draw(st.sampled_from(["mcap", "sqlite3"]))
    if not (folder / kind).exists():
        folder.mkdir(exist_ok=True)
        record(MemoryScene(STAMPS), folder / kind, RecordOptions(storage=kind, compression="zstd"))
    (file,) = (f for f in (folder / kind).iterdir() if f.suffix in (".mcap", ".db3"))
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    damaged = folder / f"damaged{file.suffix}"
    damaged.write_bytes(content)
    try:
        with Bag(damaged) as bag:
            for _ in bag.messages(bag.topics):
                pass
    except ValueError as error:
        assert str(damaged) in str(error)


def test_metadata_that_is_not_metadata_is_refused_by_name(tmp_path):
    path = record(MemoryScene(STAMPS), tmp_path / "b", replace(RecordOptions(), overwrite=True)).path
    for text in ("", "[1, 2", "a: 1", "rosbag2_bagfile_information: 3", "[" * 5000):
        (path / "metadata.yaml").write_text(text)
        with pytest.raises(ValueError, match=r"b/metadata\.yaml: truncated or damaged"):
            Bag(path)
