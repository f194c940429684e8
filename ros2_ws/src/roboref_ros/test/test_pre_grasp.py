"""The example for MoveIt, as it stands there, against a node that sees a wall."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("roboref_msgs", reason="ros2_ws is not built: make setup")

from fake_rgbd import AHEAD, WALL_POINT, WORLD
from geometry_msgs.msg import PoseStamped
from in_process import patient

EXAMPLE = Path(__file__).parents[1] / "examples" / "pre_grasp.py"
pytestmark = pytest.mark.skipif(not EXAMPLE.is_file(), reason="the examples are part of a checkout")


def test_the_example_stands_before_the_wall(domain, monkeypatch):
    with patient(domain, monkeypatch) as (model, _, camera):
        model.go.set()
        camera.see(AHEAD)
        environment = os.environ | {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
        options = ["--ros-args", "-p", "distance:=0.2", "-p", "tool:=0.1"]
        command = [sys.executable, str(EXAMPLE)]
        done = subprocess.run(
            [*command, "the mug", *options], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        found = dict(re.findall(r"^(pre-grasp|grasp): (.*) in (?:.*)$", done.stdout, re.MULTILINE))
        for name, off in (("pre-grasp", 0.3), ("grasp", 0.1)):
            np.testing.assert_allclose(
                [float(number) for number in found[name].split()], WALL_POINT - (0, off, 0), atol=0.005
            )
        assert f"in {WORLD}" in done.stdout
        failed = subprocess.run(
            [*command, "fail"], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert failed.returncode == 1 and "the model is broken" in failed.stderr


def test_moveit_is_given_one_goal_after_the_other(monkeypatch):
    """moveit_py cannot be installed here: this holds the calls that its documentation shows."""
    calls = []

    class Arm:
        def set_start_state_to_current_state(self):
            calls.append("start")

        def set_goal_state(self, pose_stamped_msg, pose_link):
            calls.append((pose_stamped_msg.pose.position.x, pose_link))

        def plan(self):
            return types.SimpleNamespace(trajectory="way") if len(calls) < 6 else None

    class MoveItPy:
        def __init__(self, node_name):
            self.node_name = node_name

        def get_planning_component(self, group):
            calls.append(group)
            return Arm()

        def execute(self, trajectory, controllers):
            calls.append(trajectory)

    monkeypatch.setitem(sys.modules, "moveit", types.ModuleType("moveit"))
    monkeypatch.setitem(sys.modules, "moveit.planning", types.SimpleNamespace(MoveItPy=MoveItPy))
    goals = [PoseStamped(), PoseStamped()]
    goals[0].pose.position.x, goals[1].pose.position.x = 1.0, 2.0
    execute = runpy.run_path(str(EXAMPLE))["execute"]
    with pytest.raises(RuntimeError, match="no way"):
        execute((*goals,), "arm", "hand")
    assert calls == ["arm", "start", (1.0, "hand"), "way", "start", (2.0, "hand")]
