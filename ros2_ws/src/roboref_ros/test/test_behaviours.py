"""The behaviour of py_trees, ticked against the real action server."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("roboref_msgs", reason="ros2_ws is not built: make setup")
pytest.importorskip("py_trees", reason="py_trees is not installed here")

import py_trees
from fake_rgbd import AHEAD
from in_process import patient, there
from py_trees.common import Status
from roboref_core.errors import ErrorCode
from roboref_core.models.model_answer import Outcome
from roboref_core.models.pointing_model import Prediction
from roboref_core.referring.query import Query
from roboref_ros.behaviours import Refer


@pytest.fixture
def tree(domain, monkeypatch):
    """(model, camera, plant) where ``plant`` makes a tree of one question."""
    with patient(domain, monkeypatch) as (model, _, camera):
        camera.see(AHEAD)
        planted = []

        def plant(text: str, **options):
            py_trees.blackboard.Blackboard.clear()
            behaviour = Refer("where", Query(text), **{"server": "/roboref"} | options)
            planted.append(py_trees.trees.BehaviourTree(behaviour))
            planted[-1].setup(node=camera.node)
            return planted[-1]

        yield model, camera, plant
        model.go.set()
        for tree in planted:
            tree.shutdown()


def tick_until(tree, done, timeout: float = 20.0) -> Status:
    deadline = time.monotonic() + timeout
    while True:
        tree.tick()
        if done(tree.root):
            return tree.root.status
        assert time.monotonic() < deadline, (tree.root.status, tree.root.feedback_message)
        time.sleep(0.02)


def ended(behaviour) -> bool:
    return behaviour.status is not Status.RUNNING


def test_it_runs_while_the_model_does_and_succeeds_with_the_target(tree):
    model, _, plant = tree
    asked = plant("the chair")
    assert tick_until(asked, lambda root: root.feedback_message == "inferring") is Status.RUNNING
    model.go.set()
    assert tick_until(asked, ended) is Status.SUCCESS
    answer = py_trees.blackboard.Blackboard.get("answer")
    assert len(answer.targets) == 1 and answer.targets[0].header.frame_id == "map"
    assert asked.root.feedback_message.startswith("the chair: at x ")


def test_a_tree_asks_anew_each_time_it_comes_to_it(tree):
    model, _, plant = tree
    model.go.set()
    asked = plant("the chair")
    for _ in range(3):
        assert tick_until(asked, ended) is Status.SUCCESS
    assert model.ended == ["answered"] * 3


def test_what_is_not_found_fails_with_the_reason(tree):
    model, _, plant = tree
    model.go.set()
    model.does["the cup"] = lambda: Prediction("no", Outcome.NOT_VISIBLE)
    asked = plant("the cup")
    assert tick_until(asked, ended) is Status.FAILURE
    assert "not visible" in asked.root.feedback_message
    failing = plant("fail")
    assert tick_until(failing, ended) is Status.FAILURE
    assert ErrorCode.INFERENCE_FAILED.name in failing.root.feedback_message
    assert py_trees.blackboard.Blackboard.get("answer").error_code == ErrorCode.INFERENCE_FAILED


class Alarm(py_trees.behaviour.Behaviour):
    """Takes over once it is raised."""

    raised = False

    def update(self) -> Status:
        return Status.SUCCESS if self.raised else Status.FAILURE


def test_turning_to_something_else_stops_the_model(tree):
    model, camera, plant = tree
    asked, alarm = plant("the chair").root, Alarm("alarm")
    root = py_trees.composites.Selector("first of", memory=False, children=[alarm, asked])
    first_of = py_trees.trees.BehaviourTree(root)
    tick_until(first_of, lambda _: asked.feedback_message == "inferring")
    alarm.raised = True
    assert tick_until(first_of, ended) is Status.SUCCESS and asked.status is Status.INVALID
    camera.eventually(lambda: model.ended, lambda ended: ended == ["ReferError"])
    model.does["the table"] = there
    model.go.set()
    assert tick_until(plant("the table"), ended) is Status.SUCCESS


def test_it_gives_up_after_its_time_and_stops_the_model(tree):
    model, camera, plant = tree
    asked = plant("the chair", timeout=1.0)
    assert tick_until(asked, ended) is Status.FAILURE
    assert "no answer in time" in asked.root.feedback_message
    camera.eventually(lambda: model.ended, lambda ended: ended == ["ReferError"])
    nobody = plant("the chair", server="/nobody", timeout=0.3)
    assert tick_until(nobody, ended) is Status.FAILURE
    assert nobody.root.feedback_message == "/nobody: no answer in time; last: waiting for the node"


def test_setup_without_a_node_says_so():
    with pytest.raises(KeyError, match="node="):
        Refer("where", Query("the chair")).setup()
    with pytest.raises(RuntimeError, match="before setup"):
        Refer("where", Query("the chair")).initialise()
