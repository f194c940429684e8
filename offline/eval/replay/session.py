"""Replays a bag through the node, step by step, and asks questions on the way."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import rclpy
from builtin_interfaces.msg import Duration
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from roboref_msgs.msg import MarkedRegion, ReferenceView, ReferQuery
from roboref_msgs.srv import CaptureView, ListViews, ReferPoint

from offline.eval.replay.messages import to_plain
from offline.eval.replay.node_process import NodeProcess
from offline.eval.replay.questions import Question
from sim.player import BagPlayer, PlayOptions, ViewWaiter
from sim.player_bag import Bag

_CALL_SECONDS = 60.0
_START_SECONDS = 60.0
_NODE = "/roboref"


@dataclass(frozen=True)
class NodeConfig:
    """The node under test.

    Attributes:
        namespace: of the bag's image topics.
        parameters: ROS parameters besides those that the bag asks for.
    """

    namespace: str = "/camera"
    parameters: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Pairs:
    """Of ``played`` colour and depth pairs the node did not take ``dropped``."""

    dropped: int
    played: int


@dataclass(frozen=True)
class Asked:
    """One answered question: the message as it came, as a dictionary, and how long it took at the client [s]."""

    question: Question
    answer: dict
    latency: float


class ReplaySession:
    """A node process, a player and a client; use as a context manager.

    Raises RuntimeError with the node's log if it ends, TimeoutError if it does not start.
    """

    def __init__(self, bag: Path, log: Path, config: NodeConfig | None = None):
        config = config or NodeConfig()
        self._bag = Bag(bag)
        compressed = f"{config.namespace}/color/image_raw/compressed" in self._bag.topics
        ours = {
            "use_sim_time": True,
            "color.transport": "compressed" if compressed else "raw",
            "pose.source": "pose",
            # Stepped replay: the bag's clock stands while the model thinks.
            "refer.max_view_age": 1.0,
        }
        topics = ("color/image_raw", "color/camera_info", "depth/image_raw", "depth/camera_info")
        remaps = {name: f"{config.namespace}/{name}" for name in topics} | {"pose": "/camera_pose"}
        self._process = NodeProcess(ours | config.parameters, remaps, log)
        self._context = Context()
        self._played: set[int] = set()

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
            self._node.destroy_node()
            self._context.try_shutdown()
        self._bag.close()

    def _connect(self) -> None:
        rclpy.init(context=self._context)
        self._node = rclpy.create_node("roboref_replay", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()
        self._refer = self._node.create_client(ReferPoint, f"{_NODE}/refer_point")
        self._capture = self._node.create_client(CaptureView, f"{_NODE}/capture_view")
        self._list = self._node.create_client(ListViews, f"{_NODE}/list_views")
        waiter = ViewWaiter(self._node, f"{_NODE}/view")
        self._taken: set[int] = set()
        self._node.create_subscription(ReferenceView, f"{_NODE}/view", self._on_view, 1000)
        # No question, no time to capture in, any list: these cost nothing and change nothing.
        self._probe(self._refer, ReferPoint.Request(query=ReferQuery(timeout=Duration(sec=-1))))
        self._probe(self._capture, CaptureView.Request(timeout=Duration(nanosec=1_000_000)))
        self._probe(self._list, ListViews.Request())
        # The node takes poses from their own topic here, so that a replay needs no tf2.
        topics = tuple(topic for topic in self._bag.topics if topic not in ("/tf", "/tf_static"))
        self._player = BagPlayer(self._node, self._bag, PlayOptions(topics=topics), wait_for_taken=waiter)

    def _on_view(self, view: ReferenceView) -> None:
        self._taken.add(_nanoseconds(view.header.stamp))

    def pairs(self) -> Pairs:
        """How many colour and depth pairs were played so far, and how many of them the node did not take."""
        return Pairs(len(self._played - self._taken), len(self._played))

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

    def ask(
        self,
        questions: Sequence[Question],
        stamps_ns: Sequence[int],
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Asked]:
        """Play the bag as far as the questions need, capturing reference views and asking in their order.

        Args:
            stamps_ns: stamp in the bag of each position of the scene.

        Raises RuntimeError if the bag ends too early, or the node captured another view than the one played.
        """
        references = {question.reference for question in questions}
        queries = defaultdict(list)
        for question in questions:
            queries[question.query].append(question)
        last = max((*references, *queries), default=-1)
        positions = {int(stamp): position for position, stamp in enumerate(stamps_ns)}
        view_ids: dict[int, str] = {}
        asked: list[Asked] = []
        position = -1
        while position < last:
            upcoming = self._upcoming(position, references)
            capture = self._begin_capture() if upcoming else None
            step = self._player.step()
            self._process.check()
            if step is None:
                raise RuntimeError(f"the bag ends after position {position}, questions need {last}")
            self._played.add(step.stamp_ns)
            position = positions[step.stamp_ns]
            if capture is not None:
                view_ids[position] = self._end_capture(capture, step.stamp_ns)
            for question in queries.get(position, ()):
                asked.append(self._ask(question, view_ids))
            progress(position + 1, last + 1)
        return asked

    @staticmethod
    def _upcoming(position: int, references: set[int]) -> bool:
        return position + 1 in references

    def _begin_capture(self):
        future = self._capture.call_async(CaptureView.Request())
        # A second call that comes back shows that the node has taken the first one before the view is played.
        self._wait(self._list.call_async(ListViews.Request()), self._list.srv_name)
        return future

    def _end_capture(self, future, stamp_ns: int) -> str:
        reply = self._wait(future, self._capture.srv_name)
        if not reply.success:
            raise RuntimeError(f"{self._capture.srv_name}: {reply.message}")
        found = _nanoseconds(reply.view.header.stamp)
        if found != stamp_ns:
            raise RuntimeError(f"the node captured the view of {found} ns, played was the one of {stamp_ns} ns")
        return reply.view.view_id

    def _ask(self, question: Question, view_ids: dict[int, str]) -> Asked:
        region = MarkedRegion(type=MarkedRegion.TYPE_POINT, view_id=view_ids[question.reference])
        region.point.u, region.point.v = question.mark
        request = ReferPoint.Request(query=ReferQuery(text=question.text, regions=[region]))
        started = time.perf_counter()
        reply = self._wait(self._refer.call_async(request), self._refer.srv_name)
        return Asked(question, to_plain(reply.answer), time.perf_counter() - started)

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
