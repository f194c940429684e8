"""`roboref record` over real DDS: what it wrote is read by MCAP's own reader and by rosbags, and a killed one leaves
nothing that looks like a bag."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest
from mcap.reader import make_reader
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("roboref_msgs")
from geometry_msgs.msg import Point  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data  # noqa: E402
from roboref_msgs.msg import ReferAnswer, ReferredTarget  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from visualization_msgs.msg import Marker, MarkerArray  # noqa: E402

from sim.bags.message_types import InstalledTypes  # noqa: E402

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture
def node(domain):
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    node = rclpy.create_node("talker", context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


@pytest.fixture
def record(tmp_path, domain):
    """Starts `roboref record tmp_path/run ...`."""
    running = []

    def start(*options: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "offline.cli", "record", str(tmp_path / "run"), *options]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()


def wait_until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def an_answer(k: int) -> ReferAnswer:
    target = ReferredTarget(position=Point(x=1.0 + k, y=2.0, z=0.5), score=0.75)
    target.header.frame_id = "map"
    return ReferAnswer(status=ReferAnswer.STATUS_FOUND, targets=[target], model="nano", raw_answer=f"answer {k}")


def an_image(stamp_ns: int) -> Image:
    image = Image(height=2, width=2, encoding="rgb8", step=6, data=bytes(12))
    image.header.stamp.sec, image.header.stamp.nanosec = divmod(stamp_ns, 10**9)
    return image


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_answers_markers_and_images_are_read_back(tmp_path, node, record, compression):
    topics = ("--topics", "/roboref/*", "/camera/*")
    process = record(*topics, "--use-sim-time", "--image-rate", "5", "--compression", compression)
    answers = node.create_publisher(ReferAnswer, "/roboref/answer", 10)
    markers = node.create_publisher(MarkerArray, "/roboref/markers", LATCHED)
    images = node.create_publisher(Image, "/camera/color/image_raw", qos_profile_sensor_data)
    clock = node.create_publisher(Clock, "/clock", 10)
    other = node.create_publisher(Image, "/other/image_raw", 10)
    # Before the clock runs: they are recorded at its first time.
    markers.publish(MarkerArray(markers=[Marker(ns="targets", id=4)]))
    assert wait_until(lambda: all(p.get_subscription_count() for p in (answers, markers, images, clock)))
    assert not other.get_subscription_count()
    time.sleep(0.5)
    tick = Clock()
    for k in range(20):
        tick.clock.sec, tick.clock.nanosec = divmod(100 * 10**9 + k * 10**8, 10**9)
        clock.publish(tick)
        time.sleep(0.05)
        images.publish(an_image(100 * 10**9 + k * 10**8))
        if k % 10 == 5:
            answers.publish(an_answer(k))
        time.sleep(0.02)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=30)[0]
    assert process.returncode == 0 and "/roboref/answer: 2" in said, said
    assert not list(tmp_path.glob(".*"))

    (path,) = (tmp_path / "run").glob("*.mcap")
    with open(path, "rb") as file:
        reader = make_reader(file)
        assert reader.get_header().profile == "ros2"
        found = [(schema, channel, message) for schema, channel, message in reader.iter_messages()]
    assert {channel.topic for _, channel, _ in found} == {
        "/roboref/answer",
        "/roboref/markers",
        "/camera/color/image_raw",
    }
    assert all(100 * 10**9 <= message.log_time < 103 * 10**9 for *_, message in found)
    assert all(schema.encoding == "ros2msg" and channel.message_encoding == "cdr" for schema, channel, _ in found)
    # Every second of ten images a second.
    assert sum(channel.topic == "/camera/color/image_raw" for _, channel, _ in found) == 10

    # What the bag itself says of its types is enough to read it.
    with Reader(tmp_path / "run") as bag:
        store = get_typestore(Stores.EMPTY)
        for connection in bag.connections:
            store.register(get_types_from_msg(connection.msgdef.data, connection.msgtype))
        read = [(c.topic, store.deserialize_cdr(data, c.msgtype)) for c, _, data in bag.messages()]
        qos = {c.topic: c.ext.offered_qos_profiles[0].durability.name for c in bag.connections}
    assert qos["/roboref/markers"] == "TRANSIENT_LOCAL" and qos["/roboref/answer"] == "VOLATILE"
    heard = [message for topic, message in read if topic == "/roboref/answer"]
    assert [(a.status, a.raw_answer, a.targets[0].position.x) for a in heard] == [
        (ReferAnswer.STATUS_FOUND, "answer 5", 6.0),
        (ReferAnswer.STATUS_FOUND, "answer 15", 16.0),
    ]
    assert [m.markers[0].id for topic, m in read if topic == "/roboref/markers"] == [4]


def test_a_killed_recorder_leaves_no_bag_and_the_next_one_clears_up(tmp_path, node, record):
    answers = node.create_publisher(ReferAnswer, "/roboref/answer", 10)

    def recording(process) -> bool:
        answers.publish(an_answer(0))
        return answers.get_subscription_count() > 0

    process = record("--topics", "/roboref/*")
    assert wait_until(lambda: recording(process))
    process.kill()
    process.wait()
    assert not (tmp_path / "run").exists()
    assert wait_until(lambda: not answers.get_subscription_count(), 60)
    process = record("--topics", "/roboref/*")
    assert wait_until(lambda: recording(process))
    time.sleep(0.5)
    recording(process)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    with Reader(tmp_path / "run") as bag:
        assert bag.message_count >= 1


def test_nothing_published_is_an_error_and_makes_no_bag(tmp_path, record):
    process = record("--topics", "/no/such/topic", "--seconds", "0.5")
    said = process.communicate(timeout=30)[0]
    assert process.returncode == 2 and "nothing was published on /no/such/topic" in said
    assert not list(tmp_path.iterdir())


def test_every_message_of_the_node_has_a_definition():
    types = InstalledTypes()
    for name in ("ReferAnswer", "ReferenceView", "PoseResidual"):
        types.learn(f"roboref_msgs/msg/{name}")
        assert types.store.generate_msgdef(f"roboref_msgs/msg/{name}", ros_version=2)
    with pytest.raises(ValueError, match="no_msgs/msg/No cannot be read"):
        types.learn("no_msgs/msg/No")
