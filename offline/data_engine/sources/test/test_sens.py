from __future__ import annotations

import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roboref_core.geometry.pose import from_quaternion

from offline.data_engine.sources import BadFrame, Scene, sens_index
from offline.data_engine.sources.sens import SensScene
from offline.data_engine.sources.test import sens_bytes as raw


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def written(path, data: bytes):
    path.write_bytes(data)
    return path


def test_reads_what_the_format_says(tmp_path):
    T = from_quaternion((0.1, -0.4, 0.2, 0.8), (1.5, -2, 0.7))
    poses = [np.eye(4), T, T @ T, np.eye(4)]
    path = written(tmp_path / "scene0001_02.sens", raw.sens(4, poses=poses))
    scene = SensScene(path)
    assert isinstance(scene, Scene)
    assert (scene.scene_id, len(scene), scene.defects) == ("scene0001_02", 4, {})
    assert scene.header.sensor_name == "StructureSensor"
    camera = scene.color_camera
    assert (camera.width, camera.height, camera.fx, camera.cy) == (64, 48, 60.0, 23.5)
    assert (scene.depth_camera.width, scene.depth_camera.fy) == (32, 30.5)
    np.testing.assert_array_equal(scene.frame_ids, range(4))
    np.testing.assert_array_equal(scene.stamps_ns, 1_000_000_000 + 33_333_000 * np.arange(4))
    np.testing.assert_allclose(scene.poses, poses, atol=1e-6)
    for i in (3, 0, 2):
        counts, unit = scene.depth_raw(i)
        np.testing.assert_array_equal(counts, raw.depth_counts(i))
        assert unit == 0.001
        np.testing.assert_allclose(scene.depth(i), raw.depth_counts(i) / 1000, rtol=1e-6)
        assert scene.depth(i).dtype == np.float32
        assert scene.color_encoded(i).data == raw.jpeg(raw.picture(i))
        assert np.abs(scene.color(i).astype(int) - raw.picture(i)).mean() < 3
    assert scene.mesh() is None and scene.instances() is None


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_float32_rotations_become_orthonormal(tmp_path_factory, seed):
    rng = np.random.default_rng(seed)
    poses = [from_quaternion(rng.normal(size=4), rng.normal(size=3)) for _ in range(3)]
    path = written(tmp_path_factory.mktemp("sens") / "a.sens", raw.sens(3, poses=poses))
    read = SensScene(path).poses
    R = read[:, :3, :3]
    np.testing.assert_allclose(R @ R.transpose(0, 2, 1), np.tile(np.eye(3), (3, 1, 1)), atol=1e-14)
    np.testing.assert_allclose(read, poses, atol=1e-6)


def test_lost_tracking_is_nan_and_counted(tmp_path):
    zero_at_m00 = np.eye(4)
    zero_at_m00[0, 0] = 0
    sheared = np.eye(4)
    sheared[0, 1] = 0.5
    # A camera that looks along x has a true zero at m[0][0].
    sideways = np.array([[0.0, 0, 1, 2], [-1, 0, 0, 3], [0, -1, 0, 1], [0, 0, 0, 1]])
    poses = [np.full((4, 4), -np.inf), np.zeros((4, 4)), zero_at_m00, sheared, sideways, np.eye(4)]
    scene = SensScene(written(tmp_path / "a.sens", raw.sens(6, poses=poses)))
    np.testing.assert_array_equal(np.isnan(scene.poses).all(axis=(1, 2)), [True] * 4 + [False] * 2)
    np.testing.assert_allclose(scene.poses[4], sideways)
    assert scene.defects == {"lost_tracking": 3, "invalid_pose": 1}
    assert scene.depth(0).shape == (24, 32)


def test_zero_timestamps_are_none(tmp_path):
    scene = SensScene(written(tmp_path / "a.sens", raw.sens(3, stamps=[0, 0, 0])))
    assert scene.stamps_ns is None
    assert scene.defects == {"no_timestamps": 3}


def test_depth_shift_is_honoured(tmp_path):
    scene = SensScene(written(tmp_path / "a.sens", raw.sens(1, depth_shift=4000.0)))
    np.testing.assert_allclose(scene.depth(0), raw.depth_counts(0) / 4000, rtol=1e-6)
    assert scene.depth_raw(0)[1] == 1 / 4000


def test_raw_colour_and_raw_depth(tmp_path):
    body = raw.frame(np.eye(4), 5, raw.picture(9).tobytes(), raw.depth_counts(9).tobytes())
    path = written(tmp_path / "a.sens", raw.header(1, color_compression=0, depth_compression=0) + body + raw.imu(0))
    scene = SensScene(path)
    assert scene.color_encoded(0) is None
    np.testing.assert_array_equal(scene.color(0), raw.picture(9))
    np.testing.assert_array_equal(scene.depth_raw(0)[0], raw.depth_counts(9))


def test_second_opening_reads_the_sidecar_only(tmp_path, monkeypatch):
    path = written(tmp_path / "a.sens", raw.sens(5))
    first = SensScene(path)
    assert (tmp_path / "a.sens.index.npz").is_file()

    def refuse(*_):
        raise AssertionError("walked the file again")

    with monkeypatch.context() as patched:
        patched.setattr(sens_index.SensIndex, "_build", refuse)
        second = SensScene(path)
    np.testing.assert_array_equal(second.poses, first.poses)
    np.testing.assert_array_equal(second.depth(4), first.depth(4))
    # A sidecar of another file, or a damaged one, is not used.
    path.write_bytes(raw.sens(3))
    assert len(SensScene(path)) == 3
    (tmp_path / "a.sens.index.npz").write_bytes(b"PK\x03\x04 not a zip")
    assert len(SensScene(path)) == 3
    stat = path.stat()
    path.write_bytes(raw.sens(3, stamps=[7, 8, 9]))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    assert SensScene(path).stamps_ns.tolist() == [7000, 8000, 9000]


def test_sidecar_goes_to_the_cache_of_a_read_only_folder(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    folder.mkdir()
    path = written(folder / "a.sens", raw.sens(2))
    replace = os.replace

    def read_only(source, target):
        if str(target).startswith(str(folder)):
            raise PermissionError("read-only")
        replace(source, target)

    monkeypatch.setattr(os, "replace", read_only)
    assert len(SensScene(path)) == 2
    assert [p.name for p in folder.iterdir()] == ["a.sens"]
    assert len(list((tmp_path / "cache").rglob("*.npz"))) == 1


@pytest.mark.parametrize("cut", [-400, -1700, -6000])
def test_truncated_file_is_refused_with_its_counts_and_can_be_salvaged(tmp_path, cut):
    path = written(tmp_path / "cut.sens", raw.sens(6)[:cut])
    with pytest.raises(ValueError, match=r"cut\.sens: truncated .*says 6 frames, \d are present") as error:
        SensScene(path)
    scene = SensScene(path, salvage=True)
    assert f"{len(scene)} are present" in str(error.value)
    assert scene.defects == {"truncated_frames": 6 - len(scene)}
    for i in range(len(scene)):
        np.testing.assert_array_equal(scene.depth_raw(i)[0], raw.depth_counts(i))


def test_every_cut_of_the_header_is_refused(tmp_path):
    whole = raw.header(0)
    for size in range(len(whole)):
        with pytest.raises(ValueError, match=r"h\.sens: truncated"):
            SensScene(written(tmp_path / "h.sens", whole[:size]))
    assert len(SensScene(written(tmp_path / "h.sens", whole + raw.imu(0)))) == 0


def test_version_3_is_refused_unless_salvaged(tmp_path):
    path = written(tmp_path / "old.sens", raw.sens(2, version=3))
    with pytest.raises(ValueError, match=r"old\.sens.*version 3, expected 4"):
        SensScene(path)
    np.testing.assert_array_equal(SensScene(path, salvage=True).depth_raw(1)[0], raw.depth_counts(1))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"version": 2}, "version 2"),
        ({"version": 5}, "version 5"),
        ({"depth_compression": 2}, "Occipital"),
        ({"depth_compression": -1}, "unknown depth compression -1"),
        ({"color_compression": -1}, "unknown color compression -1"),
        ({"depth_shift": 0.0}, "depth shift is 0"),
        ({"depth_shift": float("nan")}, "depth shift is nan"),
        ({"color_K": (0.0, 0.0, 0.0, 0.0)}, "color intrinsics"),
    ],
)
def test_unreadable_files_are_refused_by_name(tmp_path, fields, says):
    path = written(tmp_path / "bad.sens", raw.sens(1, **fields))
    with pytest.raises(ValueError, match=says) as error:
        SensScene(path, salvage=True)
    assert "bad.sens" in str(error.value)


def test_something_else_is_refused(tmp_path):
    path = written(tmp_path / "not.sens", struct.pack("<IQ", 4, 10**9) + bytes(1000))
    with pytest.raises(ValueError, match=r"not a \.sens file"):
        SensScene(path)


def test_one_bad_frame_does_not_spoil_the_others(tmp_path):
    good_color, good_depth = raw.jpeg(raw.picture(1)), raw.deflated(raw.depth_counts(1))
    broken_depth = bytearray(good_depth)
    broken_depth[40:60] = bytes(20)
    broken_jpeg = bytearray(good_color)
    broken_jpeg[len(good_color) // 2 :] = b"\0" * (len(good_color) - len(good_color) // 2)
    too_short = raw.deflated(raw.depth_counts(1)[:-1])
    too_long = raw.deflated(np.vstack([raw.depth_counts(1)] * 3))
    blobs = [
        (good_color, bytes(broken_depth)),
        (good_color, good_depth[:-40]),
        (good_color, too_short),
        (good_color, too_long),
        (good_color, b""),
        (bytes(broken_jpeg), good_depth),
        (b"no picture at all", good_depth),
        (raw.jpeg(raw.picture(0, (80, 60))), good_depth),
        (b"", good_depth),
        (good_color, good_depth),
    ]
    body = b"".join(raw.frame(np.eye(4), i + 1, *blob) for i, blob in enumerate(blobs))
    scene = SensScene(written(tmp_path / "scene0207_02.sens", raw.header(len(blobs)) + body + raw.imu(0)))
    for i in range(5):
        with pytest.raises(BadFrame, match=rf"scene0207_02\.sens frame {i} depth"):
            scene.depth(i)
        scene.color(i)
    for i in range(5, 9):
        with pytest.raises(BadFrame, match=rf"scene0207_02\.sens frame {i} colour"):
            scene.color(i)
        scene.depth(i)
    for i in range(6, 9):
        with pytest.raises(BadFrame, match=rf"scene0207_02\.sens frame {i} colour"):
            scene.color_encoded(i)
    scene.color(9), scene.depth(9)


def test_a_bomb_in_a_depth_blob_is_not_inflated(tmp_path):
    bomb = zlib.compress(bytes(1 << 28), 9)
    body = raw.frame(np.eye(4), 1, raw.jpeg(raw.picture(0)), bomb)
    scene = SensScene(written(tmp_path / "a.sens", raw.header(1) + body + raw.imu(0)))
    with pytest.raises(BadFrame, match="expected 1536"):
        scene.depth(0)
