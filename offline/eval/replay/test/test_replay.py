"""The whole chain on real DDS: a small room, its bag, the node as its own process, questions, scores, report."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("rclpy", reason="no ROS in this environment")
pytest.importorskip("roboref_ros", reason="ros2_ws is not built")

from roboref_core.referring.answer import Status

from offline.cli import main as roboref
from offline.eval.records.replays import digest, read_records
from offline.eval.replay.cli import Replay, main, run_replay
from offline.eval.replay.playing.perturbation import Perturbation
from sim.rooms.noise import DepthNoise
from sim.rooms.path import make_path
from sim.rooms.renderer import Renderer
from sim.rooms.rooms import make_scene
from sim.rooms.scannet_writer import write_scene
from sim.rooms.sim_source import SimSource


@pytest.fixture(autouse=True)
def own_domain(domain):
    """Nobody else's topics."""


def small(out, **changes) -> Replay:
    return Replay(out, **({"seeds": (3,), "frames": 60, "questions": 24, "rate": 5.0} | changes))


def test_exact_room_is_answered_exactly(tmp_path):
    stale = tmp_path / "seed-3" / "masks" / "000000_1.png"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"of another scene")
    run = run_replay(small(tmp_path))
    assert len(run.records) == 24
    assert run.scores["error_codes"] == {}
    assert run.scores["pairs"] == {"dropped": 0, "played": run.records[-1].question.query + 1}
    assert run.scores["error_3d"]["count"] >= 5
    assert run.scores["error_3d"]["median"] < 0.01
    assert run.scores["not_visible"]["accuracy"]["value"] >= 0.98
    assert run.scores["hit_at_mask"]["value"] >= 0.95
    assert not stale.exists()
    page = (tmp_path / "report.html").read_text()
    shown = {p.name for p in (tmp_path / "seed-3" / "frames").glob("*.jpg")}
    assert page.count("data:image/jpeg;base64,") == len(shown), "a view is there once, however many ask about it"
    assert page.count('class="case') == 24
    assert json.loads((tmp_path / "report.json").read_text())["runs"]["replay"]["questions"] == 24
    assert "Traceback" not in (tmp_path / "seed-3" / "node.log").read_text()
    # Each answer is about the frame at which it was asked.
    order = [r.answer.view_stamp_ns for r in run.records]
    assert order == sorted(order)


@pytest.mark.slow
def test_two_replays_answer_alike_to_the_last_bit(tmp_path):
    runs = [run_replay(small(tmp_path / name, depth="sensor")) for name in ("first", "second")]
    assert digest(runs[0].records) == digest(runs[1].records)


@pytest.mark.slow
def test_pose_noise_shows(tmp_path):
    exact = run_replay(small(tmp_path / "exact", questions=40))
    noisy = run_replay(small(tmp_path / "noisy", questions=40, perturbation=Perturbation(pose_noise=(0.02, 1.0))))
    assert noisy.scores["error_3d"]["median"] > 5 * exact.scores["error_3d"]["median"]


@pytest.mark.slow
def test_what_was_moved_is_lost_to_geometry_and_what_is_gone_is_missed(tmp_path):
    run = run_replay(small(tmp_path, questions=36, perturbation=Perturbation(moved=3, removed=2)))
    fates = run.scores["fates"]
    assert fates["unchanged"]["hit_at_mask"]["value"] >= 0.95
    assert fates["moved"]["hit_at_mask"]["total"] >= 5
    assert fates["moved"]["hit_at_mask"]["value"] <= 0.2
    assert fates["removed"]["not_visible"]["recall"]["value"] >= 0.9
    assert fates["removed"]["not_visible"]["recall"]["total"] == 12
    assert "3 things moved" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_late_and_dropped_frames_do_not_confuse_the_node(tmp_path):
    run = run_replay(small(tmp_path, perturbation=Perturbation(dropped=0.2, late=0.3, delay=0.5)))
    played = run.scores["pairs"]["played"]
    assert run.scores["error_codes"] == {}
    assert run.scores["pairs"]["dropped"] == 0
    assert played < 60
    assert run.scores["not_visible"]["accuracy"]["value"] >= 0.95
    # Each answer is about the newest view by its stamp, although older ones came after it.
    seconds = {r.question.query: r.answer.view_stamp_ns / 1e9 for r in run.records}
    for query, stamp in seconds.items():
        assert stamp - seconds[min(seconds)] == pytest.approx((query - min(seconds)) / 5.0, abs=1e-3)


@pytest.mark.slow
def test_a_scan_is_asked_about_its_annotated_objects(tmp_path):
    renderer = Renderer(make_scene(3, objects=22, triangles=60_000))
    path = make_path(renderer, 40, seed=3, rate_hz=4.0)
    scan = write_scene(SimSource(renderer, path, depth_noise=DepthNoise(), seed=3), tmp_path / "scans")
    run = run_replay(small(tmp_path / "out", scene=scan))
    assert {r.question.label for r in run.records} <= set(renderer.scene.labels.values())
    assert run.scores["hit_at_mask"]["total"] >= 8
    assert run.scores["hit_at_mask"]["value"] >= 0.9
    assert run.scores["not_visible"]["accuracy"]["value"] >= 0.9


@pytest.mark.slow
def test_demo_command(tmp_path, capsys):
    assert roboref(["demo", "--out", str(tmp_path), "--frames", "60", "--questions", "12"]) == 0
    printed = capsys.readouterr().out
    assert "exact  " in printed
    assert "sensor-noise" in printed
    assert "3D error, median" in printed
    assert (tmp_path / "report.html").exists()
    for name in ("exact", "sensor-noise", "pose-noise", "moved-things", "model-marks", "model-words"):
        records = read_records(tmp_path / name / "questions.jsonl")
        assert len(records) == 12
        assert all(record.answer.status != Status.UNKNOWN for record in records)
        assert {record.answer.model.startswith("fused(nano@") for record in records} == {name.startswith("mo")}
    assert {record.question.mark for record in records} == {None}


def test_a_model_that_cannot_load_is_named(tmp_path, capsys):
    arguments = ["--out", str(tmp_path), "--frames", "20", "--questions", "4", "--seeds", "3"]
    assert main([*arguments, "--backend", "roborefer", "--path", "oracle"]) == 2
    assert "oracle" in capsys.readouterr().err


def test_a_folder_that_is_no_recording_is_refused(tmp_path, capsys):
    assert main(["--out", str(tmp_path / "out"), "--scene", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err
