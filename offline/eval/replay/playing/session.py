"""The node under test with what a replay needs around it: a bag, a clock, services, and who took what."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import rclpy
from builtin_interfaces.msg import Duration
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.task import Future
from roboref_msgs.msg import MarkedRegion, ReferenceView, ReferQuery
from roboref_msgs.srv import CaptureView, ListViews, ReferPoint

from offline.eval.records.node_answer import NodeAnswer
from offline.eval.records.replays import Question
from offline.eval.replay.playing.messages import to_plain
from offline.eval.replay.playing.node_process import NodeProcess
from sim.bags.player import BagPlayer
from sim.bags.player_bag import Bag, header_stamp_ns
from sim.bags.player_options import PlayOptions
from sim.bags.view_waiter import ViewWaiter

_CALL_SECONDS = 60.0
_START_SECONDS = 60.0
_NODE = "/roboref"
_POSES = "/camera_pose"


@dataclass(frozen=True)
class NodeConfig:
    """The node under test.

    Attributes:
        namespace: namespace of the bag's image topics.
        parameters: ROS parameters besides those that the bag asks for.
    """

    namespace: str = "/camera"
    parameters: dict[str, object] = field(default_factory=dict)


class Arrival(NamedTuple):
    """A recorded view: position in the scene, stamp and time at which it arrives [ns], and whether with a pose."""

    position: int
    stamp_ns: int
    time_ns: int
    has_pose: bool


@dataclass(frozen=True)
class Pairs:
    """Of ``played`` colour and depth pairs the node did not take ``dropped``."""

    dropped: int
    played: int


@dataclass(frozen=True)
class Asked:
    """One answered question, and how long the answer took at the client [s]."""

    question: Question
    answer: NodeAnswer
    latency: float


class NotCaptured(ChildProcessError):
    """The node did not capture the view that it was to capture."""


class ReplaySession:
    """A node process, a client of it and an open bag; use as a context manager.

    Attributes:
        bag: the bag.
        node: a node that spins in a thread of its own.
        wait_for_taken: stamp of a view [ns] -> whether the node under test took it, after a while at most.

    Raises ChildProcessError with the node's log if it ends, TimeoutError if it does not start.
    """

    def __init__(self, bag: Path, log: Path, config: NodeConfig | None = None):
        config = config or NodeConfig()
        self.bag = Bag(bag)
        self._namespace = config.namespace
        compressed = f"{config.namespace}/color/image_raw/compressed" in self.bag.topics
        ours = {
            "use_sim_time": True,
            "color.transport": "compressed" if compressed else "raw",
            "pose.source": "pose",
            # Stepped replay: the bag's clock stands while the model thinks.
            "refer.max_view_age": 1.0,
        }
        topics = ("color/image_raw", "color/camera_info", "depth/image_raw", "depth/camera_info")
        remaps = {name: f"{config.namespace}/{name}" for name in topics} | {"pose": _POSES}
        self._process = NodeProcess(ours | config.parameters, remaps, log)
        self._context = Context()

    def __enter__(self) -> ReplaySession:
        self._process.__enter__()
        try:
            self._connect()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        self._process.__exit__()
        if self._context.ok():
            self._executor.shutdown()
            self._thread.join()
            # Destroyed, not just shut down: a /clock publisher left over would stop the next replay.
            self.node.destroy_node()
            self._context.try_shutdown()
        self.bag.close()

    def _connect(self) -> None:
        rclpy.init(context=self._context)
        self.node = rclpy.create_node("roboref_replay", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()
        self._refer = self.node.create_client(ReferPoint, f"{_NODE}/refer_point")
        self._capture = self.node.create_client(CaptureView, f"{_NODE}/capture_view")
        self._list = self.node.create_client(ListViews, f"{_NODE}/list_views")
        self.wait_for_taken = ViewWaiter(self.node, f"{_NODE}/view")
        self._taken: set[int] = set()
        self.node.create_subscription(ReferenceView, f"{_NODE}/view", self._on_view, 1000)
        # No question, no time to capture in, any list: these cost nothing and change nothing.
        self._probe(self._refer, ReferPoint.Request(query=ReferQuery(timeout=Duration(sec=-1))))
        self._probe(self._capture, CaptureView.Request(timeout=Duration(nanosec=1_000_000)))
        self._probe(self._list, ListViews.Request())

    def player(self, rate: float = 1.0) -> BagPlayer:
        """A player of the bag: stepped, each view is waited for; otherwise at ``rate`` times real time."""
        # The node takes poses from their own topic here, so that a replay needs no tf2.
        topics = tuple(topic for topic in self.bag.topics if topic not in ("/tf", "/tf_static"))
        return BagPlayer(self.node, self.bag, PlayOptions(rate=rate, topics=topics), wait_for_taken=self.wait_for_taken)

    def _on_view(self, view: ReferenceView) -> None:
        self._taken.add(_nanoseconds(view.header.stamp))

    def _probe(self, client, request) -> None:
        """Ask until answered: DDS matches the two directions one after the other, and an early response is lost."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            self._process.wait_until(client.service_is_ready, _START_SECONDS, client.srv_name)
            answered = threading.Event()
            client.call_async(request).add_done_callback(lambda _, answered=answered: answered.set())
            if answered.wait(1.0):
                return
        raise TimeoutError(f"{client.srv_name} did not answer within {_START_SECONDS:.0f} s of the node's start")

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            pass

    def arrivals(self, stamps_ns: Iterable[int]) -> list[Arrival]:
        """The bag's views in the order in which they arrive.

        Args:
            stamps_ns: stamp in the bag of each position of the scene.
        """
        positions = {int(stamp): position for position, stamp in enumerate(stamps_ns)}
        posed = {header_stamp_ns(message.data) for message in self.bag.messages((_POSES,))}
        infos = self.bag.messages((f"{self._namespace}/color/camera_info",))
        views = [(header_stamp_ns(message.data), message.time_ns) for message in infos]
        return [Arrival(positions[stamp], stamp, time_ns, stamp in posed) for stamp, time_ns in views]

    def pairs(self, played: Sequence[Arrival]) -> Pairs:
        """How many of the views that were played and have a pose the node did not take."""
        stamps = {arrival.stamp_ns for arrival in played if arrival.has_pose}
        return Pairs(len(stamps - self._taken), len(stamps))

    def check(self) -> None:
        """Raises ChildProcessError with the end of its log if the node has ended."""
        self._process.check()

    def wait_until(self, ready: Callable[[], bool], what: str) -> None:
        """Wait for ``ready()``. Raises TimeoutError naming ``what``, ChildProcessError if the node ends."""
        self._process.wait_until(ready, _START_SECONDS, what)

    def begin_capture(self) -> Future:
        """Ask for the next view to be captured; returns when the node has heard it."""
        future = self._capture.call_async(CaptureView.Request())
        # A second call that comes back shows that the node has taken the first one before the view is played.
        self._wait(self._list.call_async(ListViews.Request()), self._list.srv_name)
        return future

    def end_capture(self, future: Future, stamp_ns: int) -> str:
        """Id of the captured view. Raises NotCaptured if it is not the one of ``stamp_ns``."""
        reply = self._wait(future, self._capture.srv_name)
        if not reply.success:
            raise NotCaptured(f"{self._capture.srv_name}: {reply.message}")
        found = _nanoseconds(reply.view.header.stamp)
        if found != stamp_ns:
            raise NotCaptured(f"the node captured the view of {found} ns, played was the one of {stamp_ns} ns")
        return reply.view.view_id

    def refer(self, question: Question, reference_id: str | None) -> Asked:
        """Ask, from any thread, about the newest view, and wait for the answer.

        Args:
            reference_id: id of the view that is marked, None without a mark.
        """
        regions = []
        if reference_id is not None and question.mark is not None:
            regions.append(MarkedRegion(type=MarkedRegion.TYPE_POINT, view_id=reference_id))
            regions[0].point.u, regions[0].point.v = question.mark
        request = ReferPoint.Request(query=ReferQuery(text=question.text, regions=regions))
        started = time.perf_counter()
        reply = self._wait(self._refer.call_async(request), self._refer.srv_name)
        latency = time.perf_counter() - started
        return Asked(question, NodeAnswer.from_message(to_plain(reply.answer)), latency)

    def _wait(self, future, what: str):
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        deadline = time.monotonic() + _CALL_SECONDS
        while not done.wait(0.5):
            self._process.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} did not answer within {_CALL_SECONDS:.0f} s")
        return future.result()


def _nanoseconds(stamp) -> int:
    return stamp.sec * 10**9 + stamp.nanosec
