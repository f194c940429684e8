"""The closed loop on real DDS, and what it is made of: a survey, a plan, views shown again under new stamps."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="no ROS in this environment")
pytest.importorskip("roboref_ros", reason="ros2_ws is not built")

from roboref_core.geometry.pose import inverse, transform

from offline.eval.replay.cli import main
from offline.eval.replay.closed_loop.cli import ClosedLoop, run_closed_loop
from offline.eval.replay.closed_loop.floor_plan import ANSWER, FloorPlan
from offline.eval.replay.closed_loop.survey import survey
from offline.eval.replay.playing.perturbation import Perturbation
from sim.rooms.rooms import make_scene


@pytest.fixture(scope="module")
def room():
    return make_scene(3, objects=10, triangles=40_000)


def test_a_survey_looks_from_free_places_in_all_directions(room):
    path = survey(room, spacing=0.4, headings=4)
    assert len(path) % 4 == 0
    assert len(path) >= 40
    places = transform(inverse(room.T_world_room), path.poses[:, :3, 3])
    assert np.allclose(places[:, 2], 1.5)
    low, high = room.room
    assert ((places[:, :2] > low[:2]) & (places[:, :2] < high[:2])).all()
    for group in path.poses.reshape(-1, 4, 4, 4):
        assert np.allclose(group[:, :3, 3], group[0, :3, 3])
        ahead = group[:, :3, 2]
        assert np.allclose(ahead[:, 2], -np.sin(np.radians(20)))
        assert np.allclose(ahead[:, :2].sum(axis=0), 0, atol=1e-9)
    assert (np.diff(path.stamps_ns) > 0).all()


def test_a_plan_shows_an_answer_where_it_is(room):
    mesh = room.mesh()
    plan = FloorPlan(mesh, 1.8)
    poses = survey(room).poses
    place = np.median(mesh.vertices, axis=0).astype(float)
    without = plan.draw(poses, mesh.vertices[:1], poses[:1], poses[:1], [None], [])
    shown = plan.draw(poses, mesh.vertices[:1], poses[:1], poses[:1], [place], [])
    u = np.nonzero((shown == ANSWER).all(axis=2) & ~(without == ANSWER).all(axis=2))[1]
    low = mesh.vertices[:, 0].min() - 0.3
    scale = shown.shape[1] / (mesh.vertices[:, 0].max() + 0.3 - low)
    assert np.mean(u) == pytest.approx((place[0] - low) * scale, abs=2)
    with pytest.raises(ValueError, match="nothing below"):
        FloorPlan(mesh, -5.0)


def test_a_room_that_changes_is_refused():
    with pytest.raises(ValueError, match="stays as it is"):
        ClosedLoop(perturbation=Perturbation(moved=1))


@pytest.mark.slow
def test_a_robot_that_asks_arrives(tmp_path, domain):
    figures = run_closed_loop(ClosedLoop(tmp_path, seed=3, objects=12, ways=3, depth="exact", spacing=0.5))
    pooled = figures["pooled"]
    assert pooled["ways"] == 3
    # Geometry alone and exact depth: what it does not arrive at is not covered.
    assert pooled["ends"]["steps used up"] == 0
    assert pooled["success"] == pooled["ends"]["arrived"]
    assert pooled["answers"]["last"] < 0.02
    for way in figures["ways"]:
        picture = cv2.imread(str(tmp_path / f"{way['id']}.png"))
        assert picture is not None
    page = (tmp_path / "closed_loop.html").read_text()
    assert page.count("the way from above") == 3
    assert json.loads((tmp_path / "closed_loop.json").read_text()) == figures
    assert "Traceback" not in (tmp_path / "node.log").read_text()


def test_command_names_what_is_no_scan(tmp_path, capsys):
    assert main(["closed-loop", "--out", str(tmp_path / "out"), "--scene", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err
