"""`roboref eval drive` at tiny size: what agents that need no network reach, twice the same, stopped and resumed."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from roboref_core.command_line import ExitStatus

from offline.eval.drive import cli
from offline.eval.drive.cli import DriveCommand, run_drive
from offline.eval.drive.episodes import make_episode
from offline.eval.drive.settings import Condition, DriveSettings
from offline.eval.drive.tour import make_tour

SMALL = DriveSettings(width=160, triangles=20_000, waypoints=2)
ROOM = 100


@pytest.fixture(scope="module")
def tour():
    return make_tour(ROOM, SMALL)


@pytest.fixture(autouse=True)
def one_tour(tour, monkeypatch):
    """A tour takes seconds, and is the same each time, which has a test of its own."""
    monkeypatch.setattr(cli, "make_tour", lambda room, settings: tour)


def command(folder, **options) -> DriveCommand:
    wanted = {"rooms": 1, "first_room": ROOM, "episodes": 2, "agents": ("oracle", "never-moves"), "settings": SMALL}
    return DriveCommand(out=folder, **(wanted | {"conditions": ("exact", "removed")} | options))


def test_the_oracle_arrives_and_who_never_moves_does_not(tmp_path):
    found = run_drive(command(tmp_path))
    exact, removed = found["conditions"]["exact"], found["conditions"]["removed"]
    assert exact["oracle"]["figures"]["success"]["value"] == 1.0
    assert exact["oracle"]["figures"]["lateral_2"]["value"] == 1.0
    assert exact["oracle"]["figures"]["spl"]["value"] > 0.6
    assert removed["oracle"]["figures"]["success"]["value"] == 1.0, "it says that the thing is gone"
    for condition in (exact, removed):
        assert condition["never-moves"]["figures"]["success"]["value"] == 0.0
        assert condition["never-moves"]["figures"]["wrong_stop"]["value"] == 1.0
    assert json.loads((tmp_path / "figures.json").read_text())["digest"] == found["digest"]


def test_one_seed_has_one_digest_whatever_the_order(tmp_path):
    agents = ("oracle", "reprojection", "registration", "random-walk")
    options = {"episodes": 1, "conditions": ("drifting",), "pictures": "none"}
    one = run_drive(command(tmp_path / "a", agents=agents, **options))
    two = run_drive(command(tmp_path / "b", agents=agents[::-1], **options))
    assert one["digest"] == two["digest"]


def test_stopped_it_goes_on_with_the_same_result(tmp_path, monkeypatch):
    whole = run_drive(command(tmp_path / "whole", episodes=1))
    drive, count = cli.drive, []

    def stopping(*args):
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt
        return drive(*args)

    monkeypatch.setattr(cli, "drive", stopping)
    argv = ["--out", str(tmp_path / "cut"), "--rooms", "1", "--first-room", str(ROOM), "--episodes", "1"]
    argv += ["--agents", "oracle", "never-moves", "--conditions", "exact", "removed"]
    argv += ["--width", "160", "--triangles", "20000", "--waypoints", "2"]
    assert cli.main(argv) == ExitStatus.STOPPED
    lines = tmp_path / "cut" / "episodes.jsonl"
    assert len(lines.read_bytes().splitlines()) == 2
    with lines.open("ab") as file:
        file.write(b'{"key": "torn')
    assert cli.main(argv) == ExitStatus.DONE
    assert len(count) == 5, "two were driven before and are not driven again"
    assert json.loads((tmp_path / "cut" / "figures.json").read_text())["digest"] == whole["digest"]
    page = (tmp_path / "cut" / "report.html").read_text()
    assert "oracle" in page and page.count("data:image/jpeg") == 4, "a picture of each room's first episodes"


def test_a_folder_belongs_to_one_configuration(tmp_path):
    run_drive(command(tmp_path, episodes=1, agents=("never-moves",)))
    with pytest.raises(ValueError, match="other settings"):
        run_drive(command(tmp_path, settings=DriveSettings(width=160, triangles=20_000, waypoints=2, seed=1)))


@pytest.mark.parametrize("condition", Condition)
def test_what_is_true_of_an_episode(tour, condition):
    episode = make_episode(tour, ROOM, condition, 0, SMALL)
    again = make_episode(tour, ROOM, condition, 0, SMALL)
    assert (episode.goal_id, episode.mark, episode.start) == (again.goal_id, again.mark, again.start)
    u, v = map(int, episode.mark)
    assert tour.views[episode.marked_view].ids[v, u] == episode.goal_id
    if condition is Condition.REMOVED:
        assert episode.goal_id not in episode.scene.labels and episode.place is None
        return
    place = episode.place
    # The marked point is carried with the thing; the sensor's noise is a few millimetres.
    assert place.surface.distance(episode.marked_point) < 0.05
    assert SMALL.start_distance <= episode.shortest < np.inf
    assert place.surface.distance_over_floor(np.array((episode.start.x, episode.start.y))) > SMALL.success_distance
    if condition is Condition.MOVED:
        before = tour.scene.object(episode.goal_id).T_world_object[:3, 3]
        now = episode.scene.object(episode.goal_id).T_world_object[:3, 3]
        assert np.linalg.norm((now - before)[:2]) > 0.5
    if condition is Condition.OCCLUDED:
        assert place.share(episode.start) == 0 < place.share_alone(episode.start)
    if condition is Condition.DUPLICATES:
        assert episode.alike and all(episode.scene.labels[i] == episode.label for i in episode.alike)


def test_words_fit_the_thing_alone(tour):
    for number in range(4):
        episode = make_episode(tour, ROOM, Condition.EXACT, number, replace(SMALL, ask="words"))
        fitting = [
            o.object_id
            for o in episode.scene.furniture
            if episode.text in (f"the {o.label}", f"the {o.color} {o.label}")
        ]
        assert fitting == [episode.goal_id]
