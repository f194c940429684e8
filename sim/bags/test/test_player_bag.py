from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sim.bags.player_bag import Bag
from sim.bags.recorder import RecordOptions, record
from sim.bags.test.test_recorder import MemoryScene

COLOR = "/camera/color/image_raw/compressed"
TESTBAGS = Path(__file__).parents[4] / "shared" / "data" / "rosbag2_testbags"
OWN_STAMPS = 50 * 10**9 + np.arange(5) * 40_000_000


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_bag_gives_messages_from_any_time_in_order(tmp_path, storage, compression):
    record(MemoryScene(OWN_STAMPS), tmp_path / "b", RecordOptions(storage=storage, compression=compression))
    with Bag(tmp_path / "b") as bag:
        assert (bag.start_ns, bag.end_ns) == (OWN_STAMPS[0], OWN_STAMPS[-1])
        assert bag.topics[COLOR].count == 5
        assert [m.time_ns for m in bag.messages({COLOR}, OWN_STAMPS[2])] == OWN_STAMPS[2:].tolist()
        times = [m.time_ns for m in bag.messages(bag.topics)]
        assert len(times) == 33 and times == sorted(times)
        assert not list(bag.messages([]))


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.6, 0.95])
def test_truncated_bag_is_refused_by_name(tmp_path, storage, kept):
    path = record(MemoryScene(), tmp_path / "cut", RecordOptions(storage=storage)).path
    (file,) = (f for f in path.iterdir() if f.suffix in (".mcap", ".db3"))
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * kept)])
    with pytest.raises(ValueError, match=r"cut\.(mcap|db3): truncated"):
        with Bag(path) as bag:
            list(bag.messages(bag.topics))


def test_unfinished_or_missing_bag_is_refused_by_name(tmp_path):
    path = record(MemoryScene(), tmp_path / "bag").path
    text = (path / "metadata.yaml").read_text()
    (path / "metadata.yaml").write_text(text.replace("message_count: 33", "message_count: 34"))
    with pytest.raises(ValueError, match="33 messages in its files, 34 in its metadata"):
        Bag(path)
    (path / "metadata.yaml").unlink()
    with pytest.raises(ValueError, match=r"bag: not a whole rosbag2.*metadata\.yaml.*play .*bag\.mcap alone.*reindex"):
        Bag(path)
    with Bag(path / "bag.mcap") as alone:
        assert alone.topics[COLOR].count == 5
    with pytest.raises(ValueError, match="none: no such file or folder"):
        Bag(tmp_path / "none")


@pytest.mark.skipif(not TESTBAGS.is_dir(), reason="no official rosbag2 recordings here")
def test_official_recordings_give_all_their_messages():
    """The talker bags state other QoS in metadata.yaml than in the file, which makes rosbags skip everything."""
    bags = [path.parent for path in TESTBAGS.rglob("metadata.yaml")]
    assert len(bags) == 4
    for path in bags:
        with Bag(path) as bag:
            assert sum(1 for _ in bag.messages(bag.topics)) == sum(t.count for t in bag.topics.values()) >= 7
