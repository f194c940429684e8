from __future__ import annotations

import numpy as np
import pytest
from rosbags.rosbag1 import Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from sim.bags.convert import convert_bag
from sim.bags.player_bag import Bag, header_stamp_ns
from sim.bags.recorder_messages import typestore
from sim.bags.views import ImageTopics, ViewPlan

STORE = get_typestore(Stores.ROS1_NOETIC)
STORE.register(get_types_from_msg("geometry_msgs/TransformStamped[] transforms", "tf/msg/tfMessage"))
T0 = 1_305_031_102 * 10**9
COLOR, DEPTH, INFO = "/camera/rgb/image_color", "/camera/depth/image", "/camera/rgb/camera_info"


@pytest.fixture
def tum_bag(tmp_path):
    """Topics, encodings and frames as in the bags of TUM RGB-D; depth 7 ms after colour."""
    path = tmp_path / "freiburg.bag"
    types = STORE.types

    def header(stamp, frame):
        return types["std_msgs/msg/Header"](0, types["builtin_interfaces/msg/Time"](*divmod(stamp, 10**9)), frame)

    with Writer(path) as writer:
        kinds = {COLOR: "Image", DEPTH: "Image", INFO: "CameraInfo"}
        connections = {t: writer.add_connection(t, f"sensor_msgs/msg/{k}", typestore=STORE) for t, k in kinds.items()}
        tf = writer.add_connection("/tf", "tf/msg/tfMessage", typestore=STORE)
        roi = types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
        for i in range(4):
            stamp = T0 + i * 33_000_000
            frame = "openni_rgb_optical_frame"
            rgb = np.full(6 * 4 * 3, i, np.uint8)
            depth = np.full(6 * 4, 0.5 + i, np.float32).view(np.uint8)
            info = np.arange(9, dtype=np.float64)
            vector, rotation = (
                types["geometry_msgs/msg/Vector3"](i, 0, 0),
                types["geometry_msgs/msg/Quaternion"](0, 0, 0, 1),
            )
            transform = types["geometry_msgs/msg/Transform"](vector, rotation)
            stamped = types["geometry_msgs/msg/TransformStamped"](header(stamp, "world"), "kinect", transform)
            messages = {
                COLOR: types["sensor_msgs/msg/Image"](header(stamp, frame), 4, 6, "rgb8", 0, 18, rgb),
                DEPTH: types["sensor_msgs/msg/Image"](header(stamp + 7_000_000, frame), 4, 6, "32FC1", 0, 24, depth),
                INFO: types["sensor_msgs/msg/CameraInfo"](
                    header(stamp, frame), 4, 6, "plumb_bob", np.zeros(5), info, info, np.zeros(12), 0, 0, roi
                ),
            }
            for topic, message in messages.items():
                data = STORE.serialize_ros1(message, f"sensor_msgs/msg/{kinds[topic]}")
                writer.write(connections[topic], stamp, data)
            data = STORE.serialize_ros1(types["tf/msg/tfMessage"]([stamped]), "tf/msg/tfMessage")
            writer.write(tf, stamp, data)
    return path


def test_a_bag_of_ros_1_becomes_one_that_is_played_view_by_view(tmp_path, tum_bag):
    assert convert_bag([tum_bag], tmp_path / "two") == {COLOR: 4, DEPTH: 4, INFO: 4, "/tf": 4}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["freiburg.bag", "two"]
    with Bag(tmp_path / "two") as bag:
        images = ImageTopics.of(bag, bag.topics)
        assert images == ((COLOR,), (DEPTH,))
        plan = ViewPlan(bag, tuple(bag.topics), COLOR, DEPTH, 20_000_000)
        assert [(view.stamp_ns, view.has_pose) for view in plan.views] == [
            (T0 + i * 33_000_000, True) for i in range(4)
        ]
        for i, message in enumerate(bag.messages([DEPTH])):
            image = typestore().deserialize_cdr(message.data, "sensor_msgs/msg/Image")
            assert (image.data.view(np.float32) == 0.5 + i).all() and image.encoding == "32FC1"
            assert header_stamp_ns(message.data) == T0 + i * 33_000_000 + 7_000_000
        info = next(bag.messages([INFO]))
        assert typestore().deserialize_cdr(info.data, "sensor_msgs/msg/CameraInfo").k.tolist() == list(range(9))


def test_what_cannot_be_converted_is_named_and_leaves_nothing(tmp_path, tum_bag):
    with pytest.raises(ValueError, match=r"freiburg\.bag: none of the topics /rgb"):
        convert_bag([tum_bag], tmp_path / "two", topics=["/rgb"])
    cut = tmp_path / "cut.bag"
    cut.write_bytes(tum_bag.read_bytes()[:900])
    with pytest.raises(ValueError, match=r"cut\.bag: .*Reading source bag"):
        convert_bag([cut], tmp_path / "two")
    with pytest.raises(ValueError, match="expected a ROS 1 bag"):
        convert_bag([tmp_path / "none.bag"], tmp_path / "two")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut.bag", "freiburg.bag"]
    convert_bag([tum_bag], tmp_path / "two", topics=[COLOR])
    with pytest.raises(ValueError, match="exists"):
        convert_bag([tum_bag], tmp_path / "two")
