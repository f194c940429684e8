from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
from mcap.reader import make_reader
from roboref_core.atomic import FolderInUse, sole_writer
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import from_quaternion, inverse, rotation_angle
from roboref_core.scene import BadFrame, EncodedImage
from rosbags.interfaces import QosDurability, QosReliability
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from sim.bags.perturb import Delivery, PoseDrift, PoseNoise
from sim.bags.recorder import FIRST_STAMP_NS, RecordOptions, bag_stamps, on_time, record

STORE = get_typestore(Stores.ROS2_JAZZY)


class MemoryScene:
    """A sequence without files: 5 frames, JPEG colour of another size than depth, tracking lost in frame 3."""

    scene_id = "memory"
    color_camera = Camera(64, 48, 60, 61, 31.5, 23.5, "plumb_bob", (0.1, -0.2, 0.001, 0.002, 0.05))
    depth_camera = Camera(32, 24, 30, 30.5, 15.5, 11.5)
    axis_alignment = np.eye(4)

    def __init__(self, stamps_ns=None, jpeg=True, unit=0.001, bad=()):
        self.frame_ids = np.array([0, 1, 2, 3, 10])
        self.poses = np.array([from_quaternion((0.1 * i, 0.3, -0.2, 1), (i, 2, -1)) for i in range(5)])
        self.poses[3] = np.nan
        self.stamps_ns = None if stamps_ns is None else np.asarray(stamps_ns, dtype=np.int64)
        self.defects: dict[str, int] = {}
        self._jpeg, self._unit, self._bad = jpeg, unit, bad

    def __len__(self):
        return 5

    def color(self, i):
        u, v = np.meshgrid(np.arange(64), np.arange(48))
        return np.stack([u + 10 * i, 2 * v, u + v], axis=-1).astype(np.uint8)

    def color_encoded(self, i):
        return EncodedImage(simplejpeg.encode_jpeg(self.color(i), colorspace="RGB"), "jpeg") if self._jpeg else None

    def depth_raw(self, i):
        if i in self._bad:
            raise BadFrame(f"memory frame {i}: corrupt")
        counts = np.random.default_rng(i).integers(0, 2**16, (24, 32), dtype=np.uint16)
        return counts, self._unit

    def depth(self, i):
        counts, unit = self.depth_raw(i)
        return (counts * unit).astype(np.float32)

    def mesh(self):
        return None

    def instances(self):
        return None


def read(path: Path, late: bool = False) -> dict[str, list]:
    """Topic -> messages in order, each with its log time, which is their stamp unless some are ``late``."""
    topics: dict[str, list] = {}
    with Reader(path) as reader:
        for connection, log_time, data in reader.messages(reader.connections):
            message = STORE.deserialize_cdr(data, connection.msgtype)
            stamped = message.transforms[0] if hasattr(message, "transforms") else message
            stamp = stamped.header.stamp
            assert late or stamp.sec * 10**9 + stamp.nanosec == log_time
            topics.setdefault(connection.topic, []).append((log_time, message))
    return topics


def to_pose(translation, rotation) -> np.ndarray:
    q = (rotation.x, rotation.y, rotation.z, rotation.w)
    return from_quaternion(q, (translation.x, translation.y, translation.z))


def assert_same_pose(T, expected):
    np.testing.assert_allclose(T, expected, atol=1e-12)


@pytest.mark.parametrize(("storage", "compression"), list(itertools.product(("mcap", "sqlite3"), ("none", "zstd"))))
def test_what_is_recorded_is_read_back(tmp_path, storage, compression):
    scene = MemoryScene()
    result = record(scene, tmp_path / "bag", RecordOptions(storage=storage, compression=compression))
    assert (result.path, result.frames, result.without_pose, result.bad_frames) == (tmp_path / "bag", 5, 1, [])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bag"]
    topics = read(tmp_path / "bag")
    assert {topic: len(messages) for topic, messages in topics.items()} == {
        "/tf_static": 1,
        "/tf": 4,
        "/odom": 4,
        "/camera_pose": 4,
        "/camera/color/camera_info": 5,
        "/camera/depth/camera_info": 5,
        "/camera/color/image_raw/compressed": 5,
        "/camera/depth/image_raw": 5,
    }
    for i, (_, message) in enumerate(topics["/camera/color/image_raw/compressed"]):
        assert bytes(message.data) == scene.color_encoded(i).data
        assert message.format == "jpeg"
        assert message.header.frame_id == "camera_color_optical_frame"
    for i, (_, message) in enumerate(topics["/camera/depth/image_raw"]):
        assert (message.encoding, message.width, message.height, message.step) == ("16UC1", 32, 24, 64)
        assert message.is_bigendian == 0
        np.testing.assert_array_equal(message.data.view("<u2").reshape(24, 32), scene.depth_raw(i)[0])
    for name, camera in (("color", scene.color_camera), ("depth", scene.depth_camera)):
        for _, info in topics[f"/camera/{name}/camera_info"]:
            assert info.header.frame_id == "camera_color_optical_frame"
            assert Camera.from_camera_info(info.width, info.height, info.k, info.distortion_model, info.d) == camera
            np.testing.assert_array_equal(info.p.reshape(3, 4)[:, :3], camera.matrix)
            np.testing.assert_array_equal(info.r.reshape(3, 3), np.eye(3))


def test_every_pose_topic_says_the_same(tmp_path):
    scene = MemoryScene()
    record(scene, tmp_path / "bag")
    topics = read(tmp_path / "bag")
    static = topics["/tf_static"][0][1].transforms[0]
    assert (static.header.frame_id, static.child_frame_id) == ("camera_link", "camera_color_optical_frame")
    q = static.transform.rotation
    np.testing.assert_allclose((q.x, q.y, q.z, q.w), (-0.5, 0.5, -0.5, 0.5))  # REP-103's suffix _optical
    T_link_optical = to_pose(static.transform.translation, static.transform.rotation)
    for (time, tf), (_, odom), (_, pose), i in zip(
        topics["/tf"], topics["/odom"], topics["/camera_pose"], (0, 1, 2, 4), strict=True
    ):
        assert time == bag_stamps(scene)[i]
        transform = tf.transforms[0]
        assert (transform.header.frame_id, transform.child_frame_id) == ("map", "camera_link")
        T_map_link = to_pose(transform.transform.translation, transform.transform.rotation)
        assert_same_pose(T_map_link @ T_link_optical, scene.poses[i])
        assert (odom.header.frame_id, odom.child_frame_id) == ("map", "camera_link")
        assert_same_pose(to_pose(odom.pose.pose.position, odom.pose.pose.orientation), T_map_link)
        assert not odom.pose.covariance.any()
        assert pose.header.frame_id == "map"
        assert_same_pose(to_pose(pose.pose.position, pose.pose.orientation), scene.poses[i])


def test_raw_colour_and_compressed_depth(tmp_path):
    scene = MemoryScene()
    record(scene, tmp_path / "bag", RecordOptions(color="raw", depth="compressed", namespace="/kinect/"))
    topics = read(tmp_path / "bag")
    for i, (_, message) in enumerate(topics["/kinect/color/image_raw"]):
        assert (message.encoding, message.step) == ("rgb8", 192)
        np.testing.assert_array_equal(message.data.reshape(48, 64, 3), scene.color(i))
    for i, (_, message) in enumerate(topics["/kinect/depth/image_raw/compressedDepth"]):
        assert message.format == "16UC1; compressedDepth png"
        depth = cv2.imdecode(message.data[12:], cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(depth, scene.depth_raw(i)[0])


def test_raw_pixels_become_jpeg(tmp_path):
    scene = MemoryScene(jpeg=False)
    record(scene, tmp_path / "bag")
    _, message = read(tmp_path / "bag")["/camera/color/image_raw/compressed"][2]
    decoded = simplejpeg.decode_jpeg(bytes(message.data), colorspace="RGB").astype(int)
    assert np.abs(decoded - scene.color(2)).mean() < 3


def test_depth_of_another_unit_becomes_millimetres(tmp_path):
    scene = MemoryScene(unit=1 / 500)
    record(scene, tmp_path / "bag")
    counts = scene.depth_raw(0)[0].astype(int)
    _, message = read(tmp_path / "bag")["/camera/depth/image_raw"][0]
    np.testing.assert_array_equal(message.data.view("<u2").reshape(24, 32), np.where(counts * 2 < 2**16, counts * 2, 0))


def test_stamps():
    synthetic = FIRST_STAMP_NS + np.array([0, 1, 2, 3, 10]) * 33_333_333
    np.testing.assert_array_equal(bag_stamps(MemoryScene()), synthetic)
    np.testing.assert_array_equal(bag_stamps(MemoryScene([5, 5, 6, 7, 8])), synthetic)
    np.testing.assert_array_equal(bag_stamps(MemoryScene([5, 4, 6, 7, 8])), synthetic)
    own = np.arange(5) * 40_000_000 + 77 * 10**9
    np.testing.assert_array_equal(bag_stamps(MemoryScene(own)), own)
    # Stamp 0 means "no time" to ROS.
    np.testing.assert_array_equal(bag_stamps(MemoryScene(own - own[0])), FIRST_STAMP_NS + own - own[0])


def test_selection_keeps_stamps(tmp_path):
    scene = MemoryScene()
    record(scene, tmp_path / "bag", RecordOptions(start=1, stride=2, max_frames=5))
    times = [time for time, _ in read(tmp_path / "bag")["/camera/depth/image_raw"]]
    assert times == bag_stamps(scene)[1::2].tolist()
    result = record(scene, tmp_path / "two", RecordOptions(end=4, max_frames=2))
    assert result.frames == 2
    for options in (RecordOptions(start=5), RecordOptions(max_frames=0), RecordOptions(stride=0)):
        with pytest.raises(ValueError, match=r"no frame selected|stride"):
            record(scene, tmp_path / "none", options)
    assert not (tmp_path / "none").exists()


def test_noise_is_recorded_as_such(tmp_path):
    scene = MemoryScene()
    noise = PoseNoise(translation=0.02, rotation=np.radians(1), seed=3)
    record(scene, tmp_path / "a", RecordOptions(noise=noise))
    record(scene, tmp_path / "b", RecordOptions(noise=noise, start=2))
    a, b = (read(tmp_path / name)["/camera_pose"] for name in "ab")
    for i, (_, message) in zip((0, 1, 2, 4), a, strict=True):
        error = inverse(scene.poses[i]) @ to_pose(message.pose.position, message.pose.orientation)
        assert 0 < np.linalg.norm(error[:3, 3]) < 0.12
        assert 0 < rotation_angle(error) < np.radians(6)
    assert [m.pose.position.x for _, m in a[2:]] == [m.pose.position.x for _, m in b]
    _, odom = read(tmp_path / "a")["/odom"][0]
    np.testing.assert_allclose(np.diag(odom.pose.covariance.reshape(6, 6)), [0.0004] * 3 + [np.radians(1) ** 2] * 3)


def test_noise_has_its_stated_spread():
    noise = PoseNoise(translation=0.02, rotation=0.01)
    errors = np.array([noise.perturb(np.eye(4), "a", i) for i in range(3000)])
    np.testing.assert_allclose(errors[:, :3, 3].std(axis=0), 0.02, rtol=0.06)
    np.testing.assert_allclose(errors[:, :3, 3].mean(axis=0), 0, atol=0.002)
    np.testing.assert_allclose(errors[:, [2, 0, 1], [1, 2, 0]].std(axis=0), 0.01, rtol=0.06)
    with pytest.raises(ValueError, match="negative"):
        PoseNoise(translation=-1)


def test_late_and_dropped_frames_keep_their_stamps(tmp_path):
    scene = MemoryScene()
    delivery = Delivery(dropped=0.2, late=0.5, delay=0.1, seed=4)
    result = record(scene, tmp_path / "bag", RecordOptions(delivery=delivery))
    assert 0 < len(result.positions) < 5 and result.positions != sorted(result.positions)
    assert on_time(result.positions) == sorted(on_time(result.positions))
    topics = read(tmp_path / "bag", late=True)
    stamps = bag_stamps(scene)
    for topic in ("/camera/color/camera_info", "/camera/depth/image_raw", "/camera/color/image_raw/compressed"):
        found = [(time, m.header.stamp.sec * 10**9 + m.header.stamp.nanosec) for time, m in topics[topic]]
        assert [stamp for _, stamp in found] == stamps[result.positions].tolist()
        assert [time for time, _ in found] == sorted(time for time, _ in found)
        assert {round((time - stamp) / 1e9, 6) for time, stamp in found} == {0.0, 0.1}
    with pytest.raises(ValueError, match="none of the 1 frames arrives"):
        lost = next(i for i in range(5) if i not in result.positions)
        record(scene, tmp_path / "none", RecordOptions(start=lost, end=lost + 1, delivery=delivery))


def test_on_time_are_the_frames_that_nothing_newer_came_before():
    assert on_time([0, 2, 1, 5, 3, 4, 6]) == [0, 2, 5, 6]
    assert on_time([]) == []


def test_drift_and_another_calibration_are_recorded(tmp_path):
    scene = MemoryScene()
    drift = PoseDrift(0.1, 0.05, 3)
    record(scene, tmp_path / "bag", RecordOptions(drift=drift, focal_scale=1.1, start=1))
    topics = read(tmp_path / "bag")
    told = drift.perturb(scene.poses, bag_stamps(scene), "memory")
    for i, (_, message) in zip((1, 2, 4), topics["/camera_pose"], strict=True):
        T = to_pose(message.pose.position, message.pose.orientation)
        np.testing.assert_allclose(T, told[i], atol=1e-9)
        assert not np.allclose(T, scene.poses[i])
    for topic, camera in (("color", scene.color_camera), ("depth", scene.depth_camera)):
        k = topics[f"/camera/{topic}/camera_info"][0][1].k
        np.testing.assert_allclose(k[[0, 4, 2, 5]], [1.1 * camera.fx, 1.1 * camera.fy, camera.cx, camera.cy])


def test_bad_frames_are_left_out_and_named(tmp_path):
    result = record(MemoryScene(bad=(0, 2)), tmp_path / "bag")
    assert result.frames == 3
    assert result.bad_frames == ["memory frame 0: corrupt", "memory frame 2: corrupt"]
    topics = read(tmp_path / "bag")
    counts = {topic: len(messages) for topic, messages in topics.items()}
    assert counts["/camera/color/camera_info"] == counts["/camera/depth/image_raw"] == 3
    assert counts["/tf"] == 2 and counts["/tf_static"] == 1
    with pytest.raises(ValueError, match=r"none of the 5 frames can be read, first: memory frame 0"):
        record(MemoryScene(bad=range(5)), tmp_path / "nothing")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bag"]


def test_existing_bag_is_kept_unless_overwritten(tmp_path):
    record(MemoryScene(), tmp_path / "bag", RecordOptions(max_frames=1))
    with pytest.raises(ValueError, match="exists"):
        record(MemoryScene(), tmp_path / "bag")
    with pytest.raises(ValueError, match="none of the"):
        record(MemoryScene(bad=range(5)), tmp_path / "bag", RecordOptions(overwrite=True))
    assert len(read(tmp_path / "bag")["/tf"]) == 1
    record(MemoryScene(), tmp_path / "bag", RecordOptions(overwrite=True))
    assert len(read(tmp_path / "bag")["/tf"]) == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bag"]


def test_what_killed_recorders_left_is_removed_and_two_recorders_of_one_bag_are_refused(tmp_path):
    for name in ("bag", "other"):
        left = tmp_path / f".{name}.partial" / name
        left.mkdir(parents=True)
        (left / "part.mcap").write_bytes(b"half")
    with sole_writer(tmp_path / ".held.partial", "roboref sim record held"):
        record(MemoryScene(), tmp_path / "bag")
        assert sorted(p.name for p in tmp_path.iterdir()) == [".held.partial", "bag"]
        with pytest.raises(FolderInUse, match=r"held\.partial is being written by roboref sim record held"):
            record(MemoryScene(), tmp_path / "held")
    record(MemoryScene(), tmp_path / "held")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bag", "held"]


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_metadata_lets_ros2_bag_play_it(tmp_path, storage):
    record(MemoryScene(), tmp_path / "bag", RecordOptions(storage=storage))
    with Reader(tmp_path / "bag") as reader:
        assert reader.message_count == 33
        assert reader.start_time == FIRST_STAMP_NS
        for connection in reader.connections:
            (qos,) = connection.ext.offered_qos_profiles
            static = connection.topic == "/tf_static"
            assert qos.reliability == QosReliability.RELIABLE
            assert qos.durability == (QosDurability.TRANSIENT_LOCAL if static else QosDurability.VOLATILE)
            assert connection.digest == STORE.hash_rihs01(connection.msgtype)
            assert connection.msgdef.data == STORE.generate_msgdef(connection.msgtype, ros_version=2)[0]
    if storage == "mcap":
        # The MCAP project's own reader, which knows nothing of rosbags.
        with open(tmp_path / "bag" / "bag.mcap", "rb") as file:
            reader = make_reader(file, validate_crcs=True)
            summary = reader.get_summary()
            assert summary.statistics.message_count == 33
            assert {s.encoding for s in summary.schemas.values()} == {"ros2msg"}
            times = [message.log_time for _, _, message in reader.iter_messages()]
            assert len(times) == 33 and times == sorted(times)
