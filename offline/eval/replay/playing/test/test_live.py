"""Live replay on real DDS. Nothing here depends on how fast the machine is: only on what was asked and answered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="no ROS in this environment")
pytest.importorskip("roboref_ros", reason="ros2_ws is not built")

from roboref_core.referring.answer import Status

from offline.eval.replay.cli import Replay, main, procedural, run_replay
from offline.eval.replay.playing.live import LiveConfig
from offline.eval.replay.scoring.compare import compare, read_replay
from offline.eval.replay.truth.other_view import at_view
from offline.eval.replay.truth.questions import QuestionConfig, make_questions
from sim.bags.recorder import bag_stamps
from sim.rooms.sim_source import make_source


@pytest.mark.slow
def test_live_and_stepped_answer_the_same_questions(tmp_path, domain, capsys):
    config = Replay(tmp_path / "stepped", seeds=(3,), frames=60, questions=24, rate=10.0)
    stepped = run_replay(config)
    live = run_replay(replace(config, out=tmp_path / "live", live=True, speed=0.5, askers=2))
    figures = live.scores["live"]
    assert len(live.records) + figures["not_asked"] == 24
    assert figures["answers"] >= len(live.records)
    assert live.scores["pairs"]["played"] == stepped.scores["pairs"]["played"]
    # Each is judged in the view that its answer names, so that being late is no error.
    stamps = bag_stamps(procedural(3, config)).tolist()
    answered = [r for r in live.records if r.answer.status != Status.ERROR]
    assert answered
    for record in answered:
        assert stamps[record.question.query] == record.answer.view_stamp_ns
    busy = [r for r in live.records if r.answer.status == Status.ERROR]
    assert {r.answer.error for r in busy} <= {"BUSY", "VIEW_STALE", "NO_VIEW"}
    assert live.scores["error_3d"]["median"] < 0.01
    wrong = live.scores["not_visible"]["accuracy"]
    assert wrong["total"] - wrong["hits"] <= len(busy)
    assert "live: speed" in (tmp_path / "live" / "report.html").read_text()
    found = compare(*(read_replay(tmp_path / name) for name in ("stepped", "live")))
    assert found["same_bags"]
    assert found["questions"] == len(live.records)
    assert main(["compare", str(tmp_path / "stepped"), str(tmp_path / "stepped")]) == 0
    assert "better" not in capsys.readouterr().out


def test_the_same_mark_at_its_own_view_has_the_same_truth():
    scene = make_source(3, 40, triangles=40_000, objects=22)
    questions = make_questions(scene, QuestionConfig(count=12, references=2, queries=4))
    for question in questions:
        again = at_view(scene, question, question.query)
        assert again == question
    later = at_view(scene, questions[0], questions[-1].query)
    assert later.query == questions[-1].query
    assert later.mark == questions[0].mark
    assert np.allclose(later.truth.point, questions[0].truth.point)


@pytest.mark.parametrize("change", [{"speed": 0.0}, {"askers": -1}, {"pause": -0.1}])
def test_configuration_is_checked(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        LiveConfig(**change)
