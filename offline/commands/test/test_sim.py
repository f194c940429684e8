from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from offline.commands import sim as cli
from offline.data_engine.sources.test import sens_bytes
from sim.bags.player_bag import Bag
from sim.bags.test.test_recorder import MemoryScene


@pytest.fixture
def sens_path(tmp_path):
    path = tmp_path / "scene0000_00.sens"
    path.write_bytes(sens_bytes.sens(6, stamps=[0] * 6))
    return path


def test_usage_and_unknown_command(capsys):
    assert cli.main([]) == 0
    assert "record a posed RGB-D sequence" in capsys.readouterr().out
    assert cli.main(["recrod"]) == 2
    assert "no command 'recrod'" in capsys.readouterr().err


def test_record(tmp_path, sens_path, capsys):
    bag = tmp_path / "bag"
    assert cli.main(["record", str(sens_path), str(bag), "--stride", "2", "--pose-noise", "0.01", "0.5"]) == 0
    out = capsys.readouterr().out
    assert "3 views, 0 of them without pose" in out and "no_timestamps 6" in out
    with Bag(bag) as recorded:
        assert recorded.topics["/camera/depth/image_raw"].count == 3


def test_record_says_what_is_wrong(tmp_path, sens_path, capsys):
    cut = tmp_path / "cut.sens"
    cut.write_bytes(sens_path.read_bytes()[:-2500])
    assert cli.main(["record", str(cut), str(tmp_path / "bag")]) == 2
    assert "cut.sens: truncated" in capsys.readouterr().err
    assert cli.main(["record", str(cut), str(tmp_path / "bag"), "--salvage"]) == 0
    assert "truncated_frames" in capsys.readouterr().out
    assert cli.main(["record", str(cut), str(tmp_path / "bag"), "--salvage"]) == 2
    assert "exists" in capsys.readouterr().err


def test_record_stopped_by_a_signal_leaves_nothing(tmp_path, monkeypatch, capsys):
    class Stopping(MemoryScene):
        def depth_raw(self, i):
            if i == 2:
                assert list(tmp_path.glob("bags/.bag.partial/bag/*.mcap"))
                os.kill(os.getpid(), signal.SIGTERM)
            return super().depth_raw(i)

    monkeypatch.setattr("offline.commands.record.open_scene", lambda *_, **__: Stopping())
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert cli.main(["record", "any", str(tmp_path / "bags" / "bag")]) == 75
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "nothing was written" in capsys.readouterr().err
    assert not list((tmp_path / "bags").iterdir())


def play(*arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "offline.cli", "sim", "play", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def test_play(tmp_path, sens_path, domain):
    pytest.importorskip("rclpy")
    pytest.importorskip("roboref_msgs")
    bag = tmp_path / "bag"
    assert cli.main(["record", str(sens_path), str(bag)]) == 0

    process = play(str(bag), "--wait-for")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "100%" in output

    process = play(str(bag), "--discovery-seconds", "0.5")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "nobody subscribes to /camera/color/camera_info" in output

    process = play(str(bag), "--wait-for", "--loop")
    try:
        # It plays as soon as it shows how far it is.
        assert any(shown == "%" for shown in iter(lambda: process.stdout.read(1), ""))
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0, output
