"""The node as a managed node: what it does in each state, driven over DDS as a lifecycle manager would."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
import types
import weakref

import numpy as np
import pytest

pytest.importorskip("roboref_msgs", reason="ros2_ws is not built: make setup")

import rclpy
import roboref_ros.session
from diagnostic_msgs.msg import DiagnosticArray
from fake_rgbd import AHEAD, BESIDE, WALL_POINT, FakeCamera, NodeProcess, pixel_of
from in_process import KINDS, TOPICS, PatientModel, raising, result_of, spinning
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from roboref_core.errors import ErrorCode
from roboref_core.referring.answer import Status
from roboref_core.referring.query import MarkedPoint, Query
from roboref_msgs.action import ReferPoint as ReferAction
from roboref_msgs.msg import ReferQuery
from roboref_msgs.srv import CaptureView, GetView, ListViews, ReleaseViews
from roboref_ros.action_client import ActionClient
from roboref_ros.node import RoborefNode

CONFIGURE, ACTIVATE, DEACTIVATE, CLEANUP = (
    Transition.TRANSITION_CONFIGURE,
    Transition.TRANSITION_ACTIVATE,
    Transition.TRANSITION_DEACTIVATE,
    Transition.TRANSITION_CLEANUP,
)


class Manager(FakeCamera):
    """A camera that is the lifecycle manager too."""

    def change(self, transition: int) -> bool:
        return self._ask(ChangeState, "change_state", transition=Transition(id=transition)).success

    def state(self) -> int:
        return self._ask(GetState, "get_state").current_state.id

    def _ask(self, kind, name, **request):
        # Asked once: a transition that is repeated is another one.
        client = self.service(kind, name)
        future = client.call_async(kind.Request(**request))
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        assert done.wait(120), name
        return future.result()

    def refer(self, *regions, **fields):
        return self.client.refer(Query("that", regions=regions, **fields), timeout=20)


@pytest.fixture(scope="module")
def managed(domain, tmp_path_factory):
    log = tmp_path_factory.mktemp("managed") / "log"
    node = NodeProcess(domain, ["-p", "autostart:=false", "-p", "pose.source:=pose", "-p", "pose.timeout:=0.3"], log)
    manager = Manager(domain, TOPICS, "/roboref", KINDS)
    assert manager.client.wait(30)
    yield manager
    manager.close()
    assert node.stop() == 0
    assert "Traceback" not in log.read_text()


def assert_not_active(manager: Manager) -> None:
    answer = manager.refer()
    assert (answer.status, answer.error_code) == (Status.ERROR, ErrorCode.NOT_ACTIVE)
    for kind, name in ((CaptureView, "capture_view"), (GetView, "get_view")):
        response = manager.call(kind, name)
        assert not response.success and "not active" in response.message
    assert not manager.call(ListViews, "list_views").views
    assert manager.call(ReleaseViews, "release_views").count == 0
    client = ActionClient(manager.node, ReferAction, "/roboref/refer_point")
    assert client.wait_for_server(10)
    goal = result_of(client.send_goal_async(ReferAction.Goal(query=ReferQuery(text="it"))))
    assert result_of(goal.get_result_async()).result.answer.error_code == ErrorCode.NOT_ACTIVE
    client.destroy()


def assert_finds(manager: Manager) -> None:
    marked = manager.see_to_mark(AHEAD)
    manager.see(BESIDE)
    answer = manager.refer(MarkedPoint(pixel_of(WALL_POINT, AHEAD), marked.view_id))
    assert answer.status == Status.FOUND, answer.error_msg
    p = answer.targets[0].position
    np.testing.assert_allclose((p.x, p.y, p.z), WALL_POINT, atol=0.001)


def test_each_state_does_what_is_its_own(managed):
    assert managed.state() == State.PRIMARY_STATE_UNCONFIGURED
    assert_not_active(managed)
    assert managed.change(CONFIGURE) and managed.state() == State.PRIMARY_STATE_INACTIVE
    assert_not_active(managed)
    for _ in range(2):
        assert managed.change(ACTIVATE) and managed.state() == State.PRIMARY_STATE_ACTIVE
        managed.wait_for_node()
        assert_finds(managed)
        assert managed.change(DEACTIVATE) and managed.state() == State.PRIMARY_STATE_INACTIVE
        assert_not_active(managed)
    deadline = time.monotonic() + 10
    while any(p.get_subscription_count() for p in managed.publishers.values()):
        assert time.monotonic() < deadline, "an inactive node listens to nothing"
        time.sleep(0.05)
    assert managed.change(ACTIVATE)
    assert managed.call(ListViews, "list_views").views, "views stay until clean-up"
    assert managed.change(DEACTIVATE) and managed.change(CLEANUP)
    assert managed.state() == State.PRIMARY_STATE_UNCONFIGURED
    assert managed.change(CONFIGURE) and managed.change(ACTIVATE)
    assert not managed.call(ListViews, "list_views").views
    managed.wait_for_node()
    assert_finds(managed)
    assert managed.change(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert managed.state() == State.PRIMARY_STATE_FINALIZED
    assert_not_active(managed)


@pytest.fixture
def spun(domain):
    """A node in this process, not started; with its manager."""
    with spinning(domain, start=False, camera=Manager, name="/spun/roboref") as spun:
        yield spun


def test_deactivation_answers_who_waits_and_lets_go_of_the_model(spun, monkeypatch):
    _, manager = spun
    models = []

    def load(*_):
        models.append(PatientModel())
        return models[-1]

    monkeypatch.setattr(roboref_ros.session, "load_model", load)
    assert manager.change(CONFIGURE) and manager.change(ACTIVATE)
    manager.wait_for_node()
    manager.see(AHEAD)
    answers = []
    asking = threading.Thread(target=lambda: answers.append(manager.refer()))
    asking.start()
    assert models[-1].running.acquire(timeout=10)
    assert manager.change(DEACTIVATE)
    asking.join()
    assert answers[0].error_code == ErrorCode.CANCELED
    assert models[-1].ended == ["ReferError"], "it was told to stop"
    gone = weakref.ref(models.pop())
    gc.collect()
    assert gone() is None, "an inactive node holds no model"
    assert manager.change(ACTIVATE)
    models[-1].go.set()
    assert manager.refer().status in (Status.FOUND, Status.FOUND_WITHOUT_POSITION)


@pytest.mark.slow
def test_a_network_is_warmed_and_its_weights_are_freed(domain):
    """The bundled model: after deactivation nobody holds the network, and so none of its tensors."""
    pytest.importorskip("torch", reason="the network needs torch")
    with spinning(domain, start=False, camera=Manager, **{"model.backend": "nano"}) as (node, manager):
        assert manager.change(CONFIGURE) and manager.change(ACTIVATE)
        backend = node._session.answering._model.vlm
        assert backend.passes > 0, "it has answered before anybody asked"
        held = [weakref.ref(backend), weakref.ref(backend.model), weakref.ref(backend.prefiller)]
        del backend
        manager.wait_for_node()
        manager.see(AHEAD)
        answer = manager.refer()
        assert answer.status != Status.ERROR, answer.error_msg
        assert manager.change(DEACTIVATE)
        gc.collect()
        assert [reference() for reference in held] == [None] * 3


def test_a_model_that_cannot_be_loaded_leaves_the_node_inactive_with_the_reason(spun, monkeypatch):
    node, manager = spun
    monkeypatch.setattr(roboref_ros.session, "load_model", raising(ValueError("no checkpoint there")))
    assert manager.change(CONFIGURE)
    assert not manager.change(ACTIVATE)
    assert manager.state() == State.PRIMARY_STATE_INACTIVE
    state, failure = node._health._state()
    assert (state, failure) == ("inactive", "no checkpoint there")
    assert node._health._lifecycle().level == b"\x02"
    monkeypatch.undo()
    assert manager.change(ACTIVATE)
    manager.wait_for_node()
    assert_finds(manager)


def test_the_unforeseen_leads_through_error_processing_to_unconfigured(spun, monkeypatch):
    _, manager = spun
    monkeypatch.setattr(roboref_ros.session, "load_model", raising(RuntimeError("out of order")))
    threads = threading.active_count()
    assert manager.change(CONFIGURE)
    assert not manager.change(ACTIVATE)
    assert manager.state() == State.PRIMARY_STATE_UNCONFIGURED
    assert threading.active_count() <= threads, "nothing is left behind"
    monkeypatch.undo()
    assert manager.change(CONFIGURE) and manager.change(ACTIVATE)
    manager.wait_for_node()
    assert_finds(manager)


def test_diagnostics_tell_the_state_and_what_the_gpu_holds(spun, monkeypatch):
    _, manager = spun
    cuda = types.SimpleNamespace(
        is_initialized=lambda: True,
        memory_allocated=lambda: 7,
        memory_reserved=lambda: 9,
        empty_cache=lambda: freed.append(1),
    )
    freed = []
    received = []
    subscription = manager.node.create_subscription(DiagnosticArray, "/diagnostics", received.append, 10)

    def states():
        return {s.name.split(": ")[1]: s for s in received[-1].status} if received else {}

    unconfigured = manager.eventually(states, lambda s: "lifecycle" in s)
    assert set(unconfigured) == {"lifecycle"} and "NOT_ACTIVE" in unconfigured["lifecycle"].message
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(cuda=cuda))
    assert manager.change(CONFIGURE) and manager.change(ACTIVATE)
    active = manager.eventually(states, lambda s: len(s) == 4)
    values = {value.key: value.value for value in active["questions"].values}
    assert values["GPU memory in use [byte]"] == "7" and values["GPU memory reserved [byte]"] == "9"
    assert manager.change(DEACTIVATE) and freed, "the cache of the GPU is given back"
    manager.node.destroy_subscription(subscription)


def test_a_bond_that_fails_leaves_nothing_active(spun, monkeypatch):
    _, manager = spun
    monkeypatch.setattr(roboref_ros.node, "make_bond", raising(ValueError("no bond")))
    assert manager.change(CONFIGURE)
    threads = threading.active_count()
    assert not manager.change(ACTIVATE)
    assert manager.state() == State.PRIMARY_STATE_INACTIVE
    assert threading.active_count() == threads
    assert manager.refer().error_code == ErrorCode.NOT_ACTIVE


def test_a_bond_has_the_topic_and_name_that_nav2_looks_for(spun, monkeypatch):
    node, manager = spun
    bonds = []

    class Bond:
        """Of bondpy: its arguments, in its order."""

        def __init__(self, node, topic, bond_id, on_broken=None, on_formed=None):
            self.made, self.events = (node, topic, bond_id), []
            self.sub, self.pub = None, None
            bonds.append(self)

        def start(self):
            self.events.append("start")

        def shutdown(self):
            self.events.append("shutdown")

    monkeypatch.setitem(sys.modules, "bondpy", types.ModuleType("bondpy"))
    monkeypatch.setitem(sys.modules, "bondpy.bondpy", types.SimpleNamespace(Bond=Bond))
    assert manager.change(CONFIGURE) and not bonds
    assert manager.change(ACTIVATE)
    assert bonds[0].made == (node, "bond", "roboref") and bonds[0].events == ["start"]
    assert (bonds[0].heartbeat_period, bonds[0].heartbeat_timeout) == (0.1, 4.0), "as Nav2's nodes"
    assert manager.change(DEACTIVATE)
    assert bonds[0].events == ["start", "shutdown"]


def sister(node):
    """The lifecycle manager's end of a bond with the node."""
    bondpy = pytest.importorskip("bondpy.bondpy", reason="ROS's bondpy is not installed here")
    bond = bondpy.Bond(node=node, topic="bond", bond_id="roboref")
    bond.heartbeat_timeout = 4.0
    bond.start()
    return bond


def test_bondpy_forms_the_bond_and_breaks_it_with_deactivation(spun):
    node, manager = spun
    bond = sister(manager.node)
    entities = len(list(node.subscriptions)), len(list(node.publishers))
    try:
        assert manager.change(CONFIGURE) and manager.change(ACTIVATE)
        assert bond.wait_until_formed(Duration(seconds=20))
        assert manager.change(DEACTIVATE)
        assert bond.wait_until_broken(Duration(seconds=20))
    finally:
        bond.shutdown()
    assert (len(list(node.subscriptions)), len(list(node.publishers))) == entities


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_the_manager_learns_that_the_process_ended(domain, tmp_path, how):
    pytest.importorskip("bondpy.bondpy", reason="ROS's bondpy is not installed here")
    node = NodeProcess(domain, ["-p", "pose.source:=pose"], tmp_path / "log")
    manager = Manager(domain, TOPICS, "/roboref", KINDS)
    bond = sister(manager.node)
    try:
        assert bond.wait_until_formed(Duration(seconds=30))
        # bondpy watches for missing heartbeats from the second one on.
        manager.eventually(lambda: bond.heartbeat_timer.timer.is_alive(), bool)
        assert node.stop(how) == (0 if how == signal.SIGINT else -how)
        assert bond.wait_until_broken(Duration(seconds=20))
        assert "Traceback" not in node.log.read_text()
    finally:
        node.process.kill()
        bond.shutdown()
        manager.close()


def resident() -> int:
    """[byte]"""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
def test_two_hundred_cycles_leak_nothing(domain):
    """Memory, threads, file descriptors, and entities of the node as DDS knows them."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    node = RoborefNode(context=context, parameter_overrides=[Parameter("pose.source", value="pose")])
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def cycle() -> None:
        for step in (node.trigger_configure, node.trigger_activate, node.trigger_deactivate, node.trigger_cleanup):
            assert step() == roboref_ros.node.TransitionCallbackReturn.SUCCESS
            executor.spin_once(0.001)

    def counts() -> dict:
        gc.collect()
        name, namespace = node.get_name(), node.get_namespace()
        # The node's own are all named; others belong to the test's surroundings.
        threads = [thread.name for thread in threading.enumerate() if not thread.name.startswith(("Thread-", "Dummy-"))]
        return {
            "threads": sorted(threads),
            "files": len(os.listdir("/proc/self/fd")),
            "subscriptions": len(node.get_subscriber_names_and_types_by_node(name, namespace)),
            "publishers": len(node.get_publisher_names_and_types_by_node(name, namespace)),
            "services": len(node.get_service_names_and_types_by_node(name, namespace)),
            "entities": sum(
                1 for kind in ("subscriptions", "publishers", "services", "timers") for _ in getattr(node, kind)
            ),
        }

    for _ in range(20):  # caches and pools fill
        cycle()
    before, memory = counts(), resident()
    for _ in range(200):
        cycle()
    assert counts() == before
    grown = resident() - memory
    print(f"200 cycles: {grown / 1e6:.1f} MB more resident memory; {before}")
    assert grown < 20e6, "below 0.1 MB per cycle"
    executor.shutdown()
    node.close()
    node.destroy_node()
    context.shutdown()
