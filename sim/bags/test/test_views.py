"""Which messages make up the views of bags that are not recorded as ours are."""

from __future__ import annotations

import numpy as np
import pytest
from roboref_core.geometry.camera import Camera
from roboref_core.scene import EncodedImage
from rosbags.rosbag2 import StoragePlugin, Writer

from sim.bags.player_bag import Bag, header_stamp_ns
from sim.bags.recorder_messages import Frames, Messages, typestore
from sim.bags.views import ImageTopics, ViewPlan

MS = 1_000_000
BASE = 1_700_000_000 * 10**9
M = Messages(Frames())
COLOR, DEPTH, INFO, POSE = "/rgb/image", "/d/image", "/rgb/camera_info", "/pose"
TYPES = {
    COLOR: "sensor_msgs/msg/Image",
    DEPTH: "sensor_msgs/msg/Image",
    INFO: "sensor_msgs/msg/CameraInfo",
    POSE: "geometry_msgs/msg/PoseStamped",
    "/tf": "tf2_msgs/msg/TFMessage",
    "/debug/image": "sensor_msgs/msg/Image",
    "/rgb/image/compressed": "sensor_msgs/msg/CompressedImage",
}
DATA = {
    COLOR: lambda s: M.image(s, np.zeros((2, 2, 3), np.uint8)),
    "/debug/image": lambda s: M.image(s, np.zeros((2, 2, 3), np.uint8)),
    "/rgb/image/compressed": lambda s: M.compressed(s, EncodedImage(b"", "jpeg")),
    DEPTH: lambda s: M.image(s, np.zeros((2, 2), np.uint16)),
    INFO: lambda s: M.camera_info(s, Camera(2, 2, 1, 1, 1, 1)),
    POSE: lambda s: M.camera_pose(s, np.eye(4)),
    "/tf": lambda s: M.tf(s, np.eye(4)),
}


def write_bag(path, messages):
    """messages: (topic, stamp [ms], recorded at [ms])."""
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {}
        for topic, stamp, time in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, TYPES[topic], typestore=typestore())
            writer.write(connections[topic], BASE + round(time * MS), DATA[topic](BASE + round(stamp * MS)))
    return path


def plan(tmp_path, messages, tolerance=20 * MS, topics=None):
    with Bag(write_bag(tmp_path / "bag", messages)) as bag:
        topics = topics or tuple(bag.topics)
        color, depth = ImageTopics.of(bag, topics).best(bag, ())
        made = ViewPlan(bag, topics, color, depth, tolerance)
        order = [(m.topic, m.data) for m in bag.messages(topics)]
    views = [((v.stamp_ns - BASE) // MS, v.has_pose) for v in made.views]
    return made, views, order


@pytest.mark.parametrize("pose", [POSE, "/tf"])
@pytest.mark.parametrize("late", [1, 150, 1000])
def test_poses_recorded_after_their_images_belong_to_their_view(tmp_path, pose, late):
    messages = [(INFO, 0, 0)]
    for i in range(12):
        messages += [(COLOR, 100 * i, 100 * i + 1), (DEPTH, 100 * i, 100 * i + 2), (pose, 100 * i, 100 * i + 2 + late)]
    made, views, order = plan(tmp_path, messages)
    assert views == [(100 * i, True) for i in range(12)]
    assert all(order[view.last][0] == pose for view in made.views)


@pytest.mark.parametrize(("color_every", "depth_every"), [(4, 1), (1, 4), (3, 2)])
def test_image_topics_of_unequal_rates_pair_by_stamp(tmp_path, color_every, depth_every):
    messages = []
    for i in range(24):
        for topic, every in ((POSE, 1), (COLOR, color_every), (DEPTH, depth_every)):
            if i % every == 0:
                messages.append((topic, 33 * i, 33 * i + len(messages) / 1000))
    _, views, _ = plan(tmp_path, messages)
    assert views == [(33 * i, True) for i in range(24) if i % color_every == 0 and i % depth_every == 0]


def test_stamps_that_differ_within_the_tolerance_pair_with_the_nearest(tmp_path):
    messages = []
    for i in range(10):
        messages += [(COLOR, 33 * i, 33 * i), (DEPTH, 33 * i + 9, 33 * i + 9.5)]
    _, views, _ = plan(tmp_path, messages)
    assert [stamp for stamp, _ in views] == [33 * i for i in range(10)]
    with Bag(tmp_path / "bag") as bag:
        assert not ViewPlan(bag, tuple(bag.topics), COLOR, DEPTH, 5 * MS).views


def test_other_image_topics_do_not_make_views(tmp_path):
    messages = [("/debug/image", 0, 3)]
    for i in range(5):
        messages += [(POSE, 50 * i, 50 * i), (COLOR, 50 * i, 50 * i), (DEPTH, 50 * i, 50 * i)]
        messages += [("/rgb/image/compressed", 50 * i, 50 * i + 1)]
    _, views, _ = plan(tmp_path, messages)
    assert len(views) == 5
    with Bag(tmp_path / "bag") as bag:
        images = ImageTopics.of(bag, bag.topics)
        assert images.depth == (DEPTH,) and set(images.color) == {COLOR, "/debug/image", "/rgb/image/compressed"}
        assert images.best(bag, ["/rgb/image/compressed", DEPTH]) == ("/rgb/image/compressed", DEPTH)
        assert images.best(bag, ["/debug/image"]) == ("/debug/image", DEPTH)


def test_images_without_a_pose_have_none(tmp_path):
    exact = [(t, 40 * i, 40 * i) for i in range(6) for t in (POSE, COLOR, DEPTH) if t != POSE or i != 3]
    _, views, _ = plan(tmp_path, exact)
    assert [has_pose for _, has_pose in views] == [True, True, True, False, True, True]


def test_odometry_of_another_rate_is_read_between(tmp_path):
    messages = [(t, 40 * i, 40 * i) for i in range(6) for t in (COLOR, DEPTH)]
    messages += [(POSE, 15 * i + 7, 15 * i + 9) for i in range(9)]
    made, views, order = plan(tmp_path, sorted(messages, key=lambda m: m[2]))
    # Before the first pose and after the last one there is nothing to read between.
    assert views == [(0, False), (40, True), (80, True), (120, True), (160, False), (200, False)]
    for view in made.views:
        if view.has_pose:
            assert order[view.last][0] == POSE and header_stamp_ns(order[view.last][1]) >= view.stamp_ns


def test_playing_may_start_anywhere(tmp_path):
    messages = [(t, 40 * i, 40 * i) for i in range(6) for t in (POSE, COLOR, DEPTH)]
    made, _, order = plan(tmp_path, messages)
    assert made.next_view(made.place(BASE + 80 * MS)) == 2
    assert made.next_view(made.place(BASE + 79 * MS)) == 2
    assert made.next_view(made.place(BASE + 80 * MS) + 1) == 3
    assert made.next_view(len(order)) == 6 == len(made.views)
