"""Play a rosbag2 into a running ROS 2 system, with /clock: in real time, or one view after the other."""

from __future__ import annotations

import importlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock

from sim.bags.player_bag import Bag, BagMessage, Topic, header_stamp_ns
from sim.bags.player_options import PlayOptions

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
_INFO_TYPE = "sensor_msgs/msg/CameraInfo"
_POSE_TYPES = (
    "tf2_msgs/msg/TFMessage",
    "nav_msgs/msg/Odometry",
    "geometry_msgs/msg/PoseStamped",
    "geometry_msgs/msg/PoseWithCovarianceStamped",
)
_CLOCK_PERIOD_S = 0.01
_POLL_S = 0.02
# Time to see publishers of /clock that were there before us.
_CLOCK_DISCOVERY_S = 1.0
# A writer knows of a reader a little before the reader knows of the writer, and what it sends between is lost.
_SETTLE_S = 0.3
# Further behind than this, playing goes on from there instead of sending what is late all at once.
_MAX_LAG_S = 0.2


class AnotherClock(RuntimeError):
    """Somebody else publishes /clock: two players would make time jump to and fro."""


class NoSubscriber(RuntimeError):
    """Nobody listens to a topic that somebody was expected to listen to."""


class ViewNotTaken(RuntimeError):
    """The node did not take a view in time."""


class Step(NamedTuple):
    """One view that was published. stamp_ns: its colour image's stamp; has_pose: a pose came with it."""

    stamp_ns: int
    has_pose: bool


class BagPlayer:
    """Publishes a bag's messages, byte by byte as recorded.

    One thread plays (``play_until``, ``play``, ``step``, ``step_until``); ``pause``, ``resume``, ``seek`` and ``stop``
    may come from any. Before the first message the player waits for subscribers, and messages of latched topics
    (/tf_static) recorded before the place where it starts are sent first.

    A step is as many messages as bring one image on each of the bag's image topics; a recording of
    ``sim.bags.recorder`` has one per view. With ``wait_for_taken`` a step ends when the node has taken the view, so
    that what it has seen does not depend on timing. A view without pose cannot be taken and is not waited for.

    Args:
        node: the node to publish from; it need not spin for this class.
        bag: an open bag.
        options: see PlayOptions.
        wait_for_taken: stamp of a view [ns] -> whether the node has taken it, after waiting for a while at most;
            for example a ViewWaiter.

    Raises:
        AnotherClock: another node publishes /clock.
        ValueError: options name a topic that the bag does not have.
    """

    def __init__(
        self,
        node: Node,
        bag: Bag,
        options: PlayOptions | None = None,
        *,
        wait_for_taken: Callable[[int], bool] | None = None,
    ):
        self.options = options or PlayOptions()
        self.bag = bag
        self._node = node
        self._wait_for_taken = wait_for_taken
        self._condition = threading.Condition()
        self._paused = self._stopped = self._started = False
        self._seek_to: int | None = bag.start_ns
        self._now_ns = bag.start_ns
        self._messages = iter(())
        self._next: BagMessage | None = None

        unknown = {*self.options.topics, *self.options.remaps, *(self.options.wait_for or ())} - bag.topics.keys()
        if unknown:
            raise ValueError(f"{bag.path}: no topic {', '.join(sorted(unknown))}; it has {', '.join(bag.topics)}")
        self._clock: Publisher | None = None
        if self.options.clock:
            if not self.options.share_clock:
                self._refuse_other_clocks(_CLOCK_DISCOVERY_S)
            self._clock = node.create_publisher(Clock, "/clock", QoSProfile(depth=10))
        self._publishers = self._create_publishers()
        images = [name for name in self._publishers if bag.topics[name].type in IMAGE_TYPES]
        self._image_topics = frozenset(images)
        # The view's stamp is its colour image's.
        self._stamp_topic = next((name for name in images if "depth" not in name), images[0] if images else None)
        self._has_poses = any(self._is_pose(name) for name in self._publishers)

    def wait_for_subscribers(self) -> None:
        """Return when somebody listens to each topic of ``wait_for``.

        Returns early after stop().

        Raises NoSubscriber naming the topics still unheard after ``discovery_seconds``, and AnotherClock if another
        player came meanwhile.
        """
        wanted = self.options.wait_for
        if wanted is None:
            wanted = [n for n in self._publishers if self.bag.topics[n].type in (*IMAGE_TYPES, _INFO_TYPE)]
        unheard = [name for name in wanted if name in self._publishers]
        deadline = time.monotonic() + self.options.discovery_seconds
        while unheard and not self._stopped:
            unheard = [name for name in unheard if not self._publishers[name].get_subscription_count()]
            if unheard and time.monotonic() > deadline:
                raise NoSubscriber(
                    f"after {self.options.discovery_seconds:g} s nobody subscribes to "
                    f"{', '.join(self._target(name) for name in unheard)}: is the node running, with these topics, in "
                    "the same ROS_DOMAIN_ID?"
                )
            time.sleep(_POLL_S)
        if self._clock is not None and not self.options.share_clock:
            self._refuse_other_clocks(0)
        time.sleep(_SETTLE_S)

    def play(self, *, loop: bool = False) -> None:
        """Play in real time to the end, or again and again with ``loop``, until stop()."""
        while self.play_until(self.bag.end_ns) and loop:
            self.seek(self.bag.start_ns)

    def play_until(self, time_ns: int) -> bool:
        """Play in real time from where the player stands, up to and with bag time ``time_ns``.

        Returns False if stop() ended it.
        """
        self._start()
        anchor: tuple[float, int] | None = None
        while True:
            message = self._peek()
            if self._stopped:
                return False
            if message is None or message.time_ns > time_ns:
                self._tick(min(time_ns, self.bag.end_ns))
                return True
            anchor = self._pace(message.time_ns, anchor)
            if anchor is not None:
                self._publish(message)

    def step(self) -> Step | None:
        """Publish the next view and wait until it is taken. None at the end of the bag, or after stop().

        Raises ViewNotTaken if ``wait_for_taken`` says so after the last attempt.
        """
        self._start()
        sent: list[BagMessage] = []
        missing = set(self._image_topics)
        clock_ns = None
        while missing and not self._stopped:
            message = self._peek()
            if message is None:
                break
            if message.time_ns != clock_ns:
                clock_ns = message.time_ns
                self._tick(clock_ns)
            self._publish(message)
            sent.append(message)
            missing.discard(message.topic)
        stamps = [header_stamp_ns(m.data) for m in sent if m.topic == self._stamp_topic]
        if not stamps or missing:
            return None
        step = Step(stamps[-1], not self._has_poses or any(self._is_pose(m.topic) for m in sent))
        if self._wait_for_taken is None or not step.has_pose:
            return step
        for attempt in range(1, self.options.attempts + 1):
            if self._wait_for_taken(step.stamp_ns):
                return step
            if self._stopped:
                return None
            if attempt < self.options.attempts:
                for message in sent:
                    self._send(message)
        raise ViewNotTaken(
            f"{self.bag.path}: the view of {step.stamp_ns / 1e9:.3f} s was not taken, though sent "
            f"{self.options.attempts} times; subscribers: "
            + ", ".join(f"{self._target(n)} {p.get_subscription_count()}" for n, p in self._publishers.items())
        )

    def step_until(self, time_ns: int) -> list[Step]:
        """Step through all views recorded up to and at bag time ``time_ns``."""
        steps = []
        while True:
            self._start()
            message = self._peek()
            if message is None or message.time_ns > time_ns:
                return steps
            step = self.step()
            if step is None:
                return steps
            steps.append(step)

    def seek(self, time_ns: int) -> None:
        """Go to bag time ``time_ns``: the next message is the first at or after it."""
        with self._condition:
            self._seek_to = max(int(time_ns), self.bag.start_ns)
            self._condition.notify_all()

    def pause(self) -> None:
        """Hold playing in real time; /clock stands."""
        with self._condition:
            self._paused = True

    def resume(self) -> None:
        with self._condition:
            self._paused = False
            self._condition.notify_all()

    @property
    def paused(self) -> bool:
        return self._paused

    @property
    def stopped(self) -> bool:
        return self._stopped

    def stop(self) -> None:
        """End play(), play_until() and step() soon, for good."""
        with self._condition:
            self._stopped = True
            self._condition.notify_all()

    @property
    def position_ns(self) -> int:
        """Bag time of the next message, or of the last one at the end."""
        message = self._next
        return self._seek_to if self._seek_to is not None else message.time_ns if message else self.bag.end_ns

    def _start(self) -> None:
        if not self._started:
            self.wait_for_subscribers()
            self._started = True

    def _publish_latched(self, before_ns: int) -> None:
        """What a late joiner would have been given."""
        latched = [name for name in self._publishers if self.bag.topics[name].latched]
        for message in self.bag.messages(latched):
            if message.time_ns >= before_ns:
                break
            self._send(message)

    def _peek(self) -> BagMessage | None:
        """The next message, after a seek if one was asked for; None at the end."""
        with self._condition:
            if self._seek_to is not None:
                self._publish_latched(self._seek_to)
                self._messages = self.bag.messages(self._publishers.keys(), self._seek_to)
                self._now_ns = self._seek_to
                self._next = next(self._messages, None)
                self._seek_to = None
            return self._next

    def _publish(self, message: BagMessage) -> None:
        self._send(message)
        with self._condition:
            if self._seek_to is None:
                self._next = next(self._messages, None)

    def _pace(self, time_ns: int, anchor: tuple[float, int] | None) -> tuple[float, int] | None:
        """Wait until bag time ``time_ns`` is due, ticking the clock; None if a seek, pause or stop came between.

        The anchor pairs a wall time with a bag time.
        """
        while True:
            with self._condition:
                if self._stopped or self._seek_to is not None:
                    return None
                if self._paused:
                    self._condition.wait_for(lambda: not self._paused or self._stopped or self._seek_to is not None)
                    return None
                now = time.monotonic()
                if anchor is None:
                    anchor = now, min(self._now_ns, time_ns)
                due_in = anchor[0] + (time_ns - anchor[1]) / 1e9 / self.options.rate - now
                if due_in <= 0:
                    break
                self._tick(time_ns - int(due_in * self.options.rate * 1e9))
                self._condition.wait(min(due_in, _CLOCK_PERIOD_S))
        self._tick(time_ns)
        return (now, time_ns) if due_in < -_MAX_LAG_S else anchor

    def _tick(self, time_ns: int) -> None:
        self._now_ns = time_ns
        if self._clock is not None:
            message = Clock()
            message.clock.sec, message.clock.nanosec = divmod(time_ns, 10**9)
            self._clock.publish(message)

    def _send(self, message: BagMessage) -> None:
        self._publishers[message.topic].publish(bytes(message.data))

    def _create_publishers(self) -> dict[str, Publisher]:
        publishers = {}
        for topic in self.bag.topics.values():
            if (self.options.topics and topic.name not in self.options.topics) or not topic.count:
                continue
            package, _, name = topic.type.split("/")
            try:
                message_type = getattr(importlib.import_module(f"{package}.msg"), name)
            except (ModuleNotFoundError, AttributeError):
                self._node.get_logger().warning(f"{topic.name} is not played: {topic.type} is not installed here")
                continue
            publishers[topic.name] = self._node.create_publisher(message_type, self._target(topic.name), _qos(topic))
        return publishers

    def _target(self, topic: str) -> str:
        return self.options.remaps.get(topic, topic)

    def _is_pose(self, topic: str) -> bool:
        return self.bag.topics[topic].type in _POSE_TYPES and not self.bag.topics[topic].latched

    def _refuse_other_clocks(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            infos = self._node.get_publishers_info_by_topic("/clock")
            if len(infos) > (self._clock is not None):
                names = {f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in infos}
                others = names - {self._node.get_fully_qualified_name()} or names
                raise AnotherClock(
                    f"/clock is published already ({', '.join(sorted(others))}): another player is running; stop it, "
                    "use another ROS_DOMAIN_ID, or play without clock"
                )
            if time.monotonic() >= deadline:
                return
            time.sleep(_POLL_S)


class ViewWaiter:
    """Whether the node has taken a view: it says so on its view topic (roboref_msgs/ReferenceView).

    Args:
        node: a node that spins in another thread.
        topic: the topic on which the node announces the views it took.
        timeout_seconds: how long a call waits at most.
    """

    def __init__(self, node: Node, topic: str = "/roboref/view", timeout_seconds: float = 5.0):
        from roboref_msgs.msg import ReferenceView

        self._timeout = timeout_seconds
        self._condition = threading.Condition()
        self._taken: deque[int] = deque(maxlen=1000)
        self._node, self._topic = node, topic
        self._subscription = node.create_subscription(ReferenceView, topic, self._on_view, 100)

    def wait_for_publisher(self, seconds: float) -> None:
        """Return when the node is there; NoSubscriber after ``seconds``."""
        deadline = time.monotonic() + seconds
        while not self._node.count_publishers(self._topic):
            if time.monotonic() > deadline:
                raise NoSubscriber(f"after {seconds:g} s nobody publishes {self._topic}: is the node running?")
            time.sleep(_POLL_S)

    def __call__(self, stamp_ns: int) -> bool:
        with self._condition:
            return self._condition.wait_for(lambda: stamp_ns in self._taken, self._timeout)

    def _on_view(self, view) -> None:
        stamp = view.header.stamp
        with self._condition:
            self._taken.append(stamp.sec * 10**9 + stamp.nanosec)
            self._condition.notify_all()


def _qos(topic: Topic) -> QoSProfile:
    """Reliable, which serves best-effort subscribers too; latched topics keep all of their messages."""
    return QoSProfile(
        depth=max(10, topic.count) if topic.latched else 10,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if topic.latched else DurabilityPolicy.VOLATILE,
    )
