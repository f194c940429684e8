"""The player over real DDS, against a listener in a participant of its own."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from mcap.writer import Writer as McapWriter
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from sim.bags.player_bag import Bag
from sim.bags.recorder import record
from sim.bags.test.test_recorder import MemoryScene

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("roboref_msgs")
from nav_msgs.msg import Odometry  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import CameraInfo, CompressedImage, Image  # noqa: E402
from std_msgs.msg import String  # noqa: E402

from sim.bags.player import BagPlayer, PlayOptions, ViewNotTaken  # noqa: E402
from sim.bags.publishing import AnotherClock, NoSubscriber  # noqa: E402
from sim.bags.view_waiter import ViewWaiter  # noqa: E402

COLOR = "/camera/color/image_raw/compressed"
DEPTH = "/camera/depth/image_raw"
OWN_STAMPS = 50 * 10**9 + np.arange(5) * 40_000_000
TYPES = {
    COLOR: CompressedImage,
    DEPTH: Image,
    "/camera/color/camera_info": CameraInfo,
    "/camera/depth/camera_info": CameraInfo,
    "/odom": Odometry,
}


class Participant:
    """A node in a DDS participant of its own, spinning in a thread."""

    def __init__(self, name: str):
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node(name, context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def close(self):
        self._executor.shutdown()
        self._thread.join(5)
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


class Listener(Participant):
    """Notes the stamps it hears on each topic; announces each colour-depth pair like the node does."""

    def __init__(self, name="listener", topics=TYPES, ignore=()):
        super().__init__(name)
        from roboref_msgs.msg import ReferenceView

        self.heard = {topic: [] for topic in topics}
        self.clock = []
        self._view_type = ReferenceView
        self._ignore = {int(stamp): count for stamp, count in ignore}
        self._views = self.node.create_publisher(ReferenceView, "/roboref/view", 100)
        for topic in topics:
            self.node.create_subscription(
                TYPES[topic], topic, lambda m, topic=topic: self._on(topic, m), qos_profile_sensor_data
            )
        self.node.create_subscription(
            Clock, "/clock", lambda m: self.clock.append(m.clock.sec * 10**9 + m.clock.nanosec), 100
        )

    def _on(self, topic, message):
        stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        self.heard[topic].append(stamp)
        if topic == DEPTH:
            if self._ignore.get(stamp, 0) > 0:
                self._ignore[stamp] -= 1
                return
            view = self._view_type()
            view.header = message.header
            self._views.publish(view)


@pytest.fixture(scope="module")
def bag_path(tmp_path_factory):
    return record(MemoryScene(OWN_STAMPS), tmp_path_factory.mktemp("bags") / "bag").path


@pytest.fixture
def participants(domain):
    made = []

    def make(kind, *args, **kwargs):
        made.append(kind(*args, **kwargs))
        return made[-1]

    yield make
    for participant in reversed(made):
        participant.close()


def wait_until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_everything_arrives_with_clock(participants, bag_path):
    listener, me = participants(Listener), participants(Participant, "player")
    with Bag(bag_path) as bag:
        player = BagPlayer(me.node, bag)
        assert player.play_until(bag.end_ns)
        assert wait_until(
            lambda: all(len(stamps) >= (4 if t == "/odom" else 5) for t, stamps in listener.heard.items())
        )
    assert listener.heard[COLOR] == listener.heard[DEPTH] == OWN_STAMPS.tolist()
    assert listener.heard["/odom"] == OWN_STAMPS[[0, 1, 2, 4]].tolist()
    assert wait_until(lambda: listener.clock and listener.clock[-1] == OWN_STAMPS[-1])
    assert listener.clock == sorted(listener.clock)
    assert listener.clock[0] >= OWN_STAMPS[0] and len(listener.clock) > 5


def test_steps_wait_until_each_view_is_taken(participants, bag_path):
    ignored = [(OWN_STAMPS[1], 2)]
    listener, me = participants(Listener, ignore=ignored), participants(Participant, "player")
    with Bag(bag_path) as bag:
        waiter = ViewWaiter(me.node, timeout_seconds=0.5)
        player = BagPlayer(me.node, bag, wait_for_taken=waiter)
        waiter.wait_for_publisher(10)
        steps = []
        while (step := player.step()) is not None:
            steps.append(step)
            if step.has_pose:
                # Nothing of a later view is sent before this one is taken.
                assert listener.heard[DEPTH][-1] == step.stamp_ns
        assert [s.stamp_ns for s in steps] == OWN_STAMPS.tolist()
        assert [s.has_pose for s in steps] == [True, True, True, False, True]
        # The view that was ignored twice was sent three times.
        assert listener.heard[DEPTH].count(OWN_STAMPS[1]) == 3
        player.seek(OWN_STAMPS[2])
        assert [s.stamp_ns for s in player.step_until(OWN_STAMPS[3])] == OWN_STAMPS[2:4].tolist()


def test_a_view_nobody_takes_is_an_error(participants, bag_path):
    participants(Listener, ignore=[(OWN_STAMPS[0], 99)])
    me = participants(Participant, "player")
    with Bag(bag_path) as bag:
        player = BagPlayer(
            me.node, bag, PlayOptions(attempts=2), wait_for_taken=ViewWaiter(me.node, timeout_seconds=0.1)
        )
        with pytest.raises(ViewNotTaken, match=r"view of 50\.000 s was not taken, though sent 2 times"):
            player.step()


def test_a_second_player_refuses(participants, bag_path):
    participants(Listener)
    first, second = participants(Participant, "first_player"), participants(Participant, "second_player")
    with Bag(bag_path) as bag, Bag(bag_path) as again:
        player = BagPlayer(first.node, bag)
        with pytest.raises(AnotherClock, match="/first_player"):
            BagPlayer(second.node, again)
        BagPlayer(second.node, again, PlayOptions(clock=False))
        other = BagPlayer(second.node, again, PlayOptions(share_clock=True))
        with pytest.raises(AnotherClock, match="/second_player"):
            player.step()
        assert other.step() is not None


def test_nobody_listening_is_an_error(participants, bag_path):
    participants(Listener, topics=(COLOR, "/camera/color/camera_info", "/odom"))
    me = participants(Participant, "player")
    with Bag(bag_path) as bag:
        player = BagPlayer(me.node, bag, PlayOptions(discovery_seconds=1.0))
        with pytest.raises(
            NoSubscriber, match="nobody subscribes to /camera/depth/camera_info, /camera/depth/image_raw"
        ):
            player.step()


def test_topics_and_remaps(participants, bag_path):
    me = participants(Participant, "player")
    heard = []
    me.node.create_subscription(Image, "/elsewhere", heard.append, 10)
    with Bag(bag_path) as bag:
        player = BagPlayer(me.node, bag, PlayOptions(topics=(DEPTH,), remaps={DEPTH: "/elsewhere"}))
        player.play()
        assert wait_until(lambda: len(heard) == 5)
        with pytest.raises(ValueError, match="no topic /depht; it has"):
            BagPlayer(me.node, bag, PlayOptions(topics=("/depht",), share_clock=True))
    scene = MemoryScene()
    np.testing.assert_array_equal(np.array(heard[1].data).view("<u2").reshape(24, 32), scene.depth_raw(1)[0])


def test_the_clock_goes_on_where_playing_stopped(participants, tmp_path):
    slow = 50 * 10**9 + np.arange(5) * 10**9
    path = record(MemoryScene(slow), tmp_path / "slow").path
    listener, me = participants(Listener), participants(Participant, "player")
    with Bag(path) as bag:
        player = BagPlayer(me.node, bag, PlayOptions(rate=5.0))
        between = int(slow[0]) + 300_000_000
        player.play_until(between)
        assert wait_until(lambda: listener.clock and listener.clock[-1] == between)
        count = len(listener.clock)
        player.play_until(bag.end_ns)
        assert wait_until(lambda: listener.clock[-1] == bag.end_ns)
    # Not at once at the next message, which is 0.7 s away.
    assert between <= listener.clock[count] < between + 400_000_000


def test_pause_seek_loop_and_stop(participants, tmp_path):
    slow = 50 * 10**9 + np.arange(5) * 10**9
    path = record(MemoryScene(slow), tmp_path / "slow").path
    listener, me = participants(Listener), participants(Participant, "player")
    with Bag(path) as bag:
        player = BagPlayer(me.node, bag, PlayOptions(rate=5.0))
        ended = []
        thread = threading.Thread(target=lambda: (player.play(loop=True), ended.append(True)))
        player.seek(slow[3])
        thread.start()
        # Twice round: 3 4, 0 1 2 3 4, 0 ...
        assert wait_until(lambda: len(listener.heard[DEPTH]) >= 8)
        assert listener.heard[DEPTH][:8] == slow[[3, 4, 0, 1, 2, 3, 4, 0]].tolist()
        player.pause()
        assert player.paused
        time.sleep(0.5)
        standing = len(listener.heard[DEPTH])
        time.sleep(0.7)
        assert len(listener.heard[DEPTH]) == standing
        player.seek(slow[4])
        assert player.position_ns == slow[4]
        player.resume()
        assert wait_until(lambda: len(listener.heard[DEPTH]) > standing)
        assert listener.heard[DEPTH][standing] == slow[4]
        player.stop()
        thread.join(5)
        assert ended and player.step() is None


def test_latched_messages_are_sent_wherever_playing_starts(participants, tmp_path):
    """A bag with a latched String in place of /tf_static, whose package the ROS wheels do not have."""
    store = get_typestore(Stores.ROS2_JAZZY)
    path = record(MemoryScene(OWN_STAMPS), tmp_path / "bag").path
    with Bag(path) as recorded, Writer(tmp_path / "latched", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        qos = recorded.topics["/tf_static"].qos
        string = store.types["std_msgs/msg/String"]
        latched = writer.add_connection("/latched", "std_msgs/msg/String", typestore=store, offered_qos_profiles=qos)
        for text in ("one", "two"):
            data = store.serialize_cdr(string(text), "std_msgs/msg/String")
            writer.write(latched, int(OWN_STAMPS[0]), bytes(data))
        images = {
            name: writer.add_connection(name, recorded.topics[name].type, typestore=store) for name in (COLOR, DEPTH)
        }
        for message in recorded.messages(images):
            writer.write(images[message.topic], message.time_ns, message.data)
    me = participants(Participant, "player")
    with Bag(tmp_path / "latched") as bag:
        player = BagPlayer(me.node, bag, PlayOptions(wait_for=()))
        player.seek(OWN_STAMPS[3])
        assert player.step().stamp_ns == OWN_STAMPS[3]
        late = participants(Participant, "late")
        heard = []
        late.node.create_subscription(
            String,
            "/latched",
            lambda m: heard.append(m.data),
            QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL),
        )
        assert wait_until(lambda: len(heard) == 2)
        assert heard == ["one", "two"]


def test_bags_of_others_are_played(participants, tmp_path):
    """With /clock, messages at time 0, names of types as in ROS 1 or none at all, a latched topic without QoS, and an
    image topic that nobody listens to and that stands for no view."""
    store = get_typestore(Stores.ROS2_JAZZY)
    path = record(MemoryScene(OWN_STAMPS), tmp_path / "bag").path
    text = bytes(store.serialize_cdr(store.types["std_msgs/msg/String"]("hello"), "std_msgs/msg/String"))
    first = int(OWN_STAMPS[0])
    extra = [("/clock", "rosgraph_msgs/msg/Clock", first, b"\0\1\0\0" + bytes(8))]
    extra += [("/early", "std_msgs/msg/String", 0, text), ("/robot_description", "std_msgs/String", first, text)]
    extra += [("/odd", "no such type!", first, text), ("/debug/image", "sensor_msgs/msg/Image", first, b"")]
    with Bag(path) as recorded, open(tmp_path / "others.mcap", "wb") as file:
        writer = McapWriter(file)
        writer.start(profile="ros2", library="test")
        channels = {}
        images = [(m.topic, recorded.topics[m.topic].type, m.time_ns, m.data) for m in recorded.messages(TYPES)]
        extra[-1] = (
            "/debug/image",
            "sensor_msgs/msg/Image",
            first,
            next(data for t, _, _, data in images if t == DEPTH),
        )
        for topic, kind, time_ns, data in extra + images:
            if topic not in channels:
                schema = writer.register_schema(name=kind, encoding="ros2msg", data=b"")
                channels[topic] = writer.register_channel(topic, "cdr", schema)
            writer.add_message(channels[topic], log_time=time_ns, publish_time=time_ns, data=data)
        writer.finish()
    listener, me = participants(Listener), participants(Participant, "player")
    heard = []
    latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    me.node.create_subscription(String, "/robot_description", lambda m: heard.append(m.data), latched)
    me.node.create_subscription(String, "/early", lambda m: heard.append(m.data), 10)
    with Bag(tmp_path / "others.mcap") as bag:
        waiter = ViewWaiter(me.node, timeout_seconds=2)
        player = BagPlayer(me.node, bag, wait_for_taken=waiter)
        waiter.wait_for_publisher(10)
        assert [step.stamp_ns for step in player.step_until(bag.end_ns)] == OWN_STAMPS.tolist()
        player.seek(bag.start_ns)
        began = time.monotonic()
        assert player.play_until(bag.end_ns)
        assert time.monotonic() - began < 30
    assert wait_until(lambda: len(heard) >= 4)
    assert listener.clock and min(listener.clock) >= first


def test_a_silence_of_years_is_jumped_over(participants, tmp_path):
    stamps = OWN_STAMPS + np.array([0, 0, 10**18, 10**18, 10**18])
    path = record(MemoryScene(stamps), tmp_path / "gap").path
    listener, me = participants(Listener), participants(Participant, "player")
    with Bag(path) as bag:
        assert BagPlayer(me.node, bag).play_until(bag.end_ns)
    assert wait_until(lambda: len(listener.heard[DEPTH]) == 5)
