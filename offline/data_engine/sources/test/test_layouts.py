from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from roboref_core.geometry.pose import from_quaternion, inverse, rotation_angle, to_quaternion

from offline.data_engine.sources import BadFrame, Scene, open_scene
from offline.data_engine.sources.test import sens_bytes as raw

K = (60.0, 61.0, 31.5, 23.5)
SMALL_K = (30.0, 30.5, 15.5, 11.5)
POSES = [from_quaternion((0.1 * i, 0.2, -0.1, 1), (i, -i, 0.5)) for i in range(4)]


def matrix_text(M: np.ndarray) -> str:
    return "\n".join(" ".join(f"{x:f}" for x in row) for row in M)


def intrinsics_text(fx, fy, cx, cy, side=4) -> str:
    M = np.eye(side)
    M[0, 0], M[1, 1], M[0, 2], M[1, 2] = fx, fy, cx, cy
    return matrix_text(M)


def write_png(path: Path, image: np.ndarray) -> None:
    assert cv2.imwrite(str(path), image if image.ndim == 2 else image[:, :, ::-1])


def write_pgm(path: Path, counts: np.ndarray) -> None:
    """16-bit PGM by hand: most significant byte first."""
    h, w = counts.shape
    path.write_bytes(b"P5 %d %d 65535\n" % (w, h) + counts.astype(">u2").tobytes())


def exported(folder: Path) -> Path:
    for name in ("color", "depth", "pose", "intrinsic"):
        (folder / name).mkdir()
    for i in (0, 2, 10):
        (folder / "color" / f"{i}.jpg").write_bytes(raw.jpeg(raw.picture(i)))
        write_png(folder / "depth" / f"{i}.png", raw.depth_counts(i))
        (folder / "pose" / f"{i}.txt").write_text(matrix_text(POSES[i % 4]))
    (folder / "pose" / "2.txt").write_text(matrix_text(np.full((4, 4), -np.inf)))
    (folder / "intrinsic" / "intrinsic_color.txt").write_text(intrinsics_text(*K))
    (folder / "intrinsic" / "intrinsic_depth.txt").write_text(intrinsics_text(*SMALL_K))
    return folder


def seven_scenes(folder: Path) -> Path:
    for i in (0, 40):
        (folder / f"frame-{i:06d}.color.jpg").write_bytes(raw.jpeg(raw.picture(i)))
        counts = raw.depth_counts(i)
        counts[0, :5] = 65535
        write_png(folder / f"frame-{i:06d}.depth.png", counts)
        (folder / f"frame-{i:06d}.pose.txt").write_text(matrix_text(POSES[i % 3]))
    (folder / "depth-intrinsics.txt").write_text(intrinsics_text(*SMALL_K, side=3))
    (folder / "camera-intrinsics.txt").write_text(intrinsics_text(*K, side=3))
    return folder


def slambook(folder: Path) -> Path:
    (folder / "color").mkdir()
    (folder / "depth").mkdir()
    for i in range(1, 12):
        write_png(folder / "color" / f"{i}.png", raw.picture(i))
        write_pgm(folder / "depth" / f"{i}.pgm", raw.depth_counts(i))
    rows = [np.concatenate([POSES[i % 4][:3, 3], to_quaternion(POSES[i % 4])]) for i in range(1, 12)]
    (folder / "pose.txt").write_text("\n".join(" ".join(f"{x:.8f}" for x in row) for row in rows))
    return folder


def tum(folder: Path) -> Path:
    """Colour at 0, 1/30, ... s after 1305031102.175304; depth 5 ms later; truth at 100 Hz until frame 3."""
    t0 = 1305031102.175304
    (folder / "rgb").mkdir()
    (folder / "depth").mkdir()
    rgb, depth, truth = ["# color images", "# file"], ["# depth maps"], ["# timestamp tx ty tz qx qy qz qw"]
    for i in range(5):
        write_png(folder / "rgb" / f"{i}.png", raw.picture(i))
        write_png(folder / "depth" / f"{i}.png", raw.depth_counts(i, (64, 48)))
        rgb.append(f"{t0 + i / 30:.6f} rgb/{i}.png")
        if i != 1:
            depth.append(f"{t0 + i / 30 + 0.005:.6f} depth/{i}.png")
    for k in range(12):
        t = k / 100 - 0.003
        quaternion = (0, np.sin(t), 0, np.cos(t))
        truth.append(f"{t0 + t:.4f} {t * 2:.6f} 1 0 " + " ".join(f"{x:.8f}" for x in quaternion))
    for name, lines in (("rgb", rgb), ("depth", depth), ("groundtruth", truth)):
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_scannet_export(tmp_path):
    scene = open_scene(exported(tmp_path))
    assert isinstance(scene, Scene)
    assert scene.frame_ids.tolist() == [0, 2, 10]
    assert scene.stamps_ns is None
    assert scene.defects == {"lost_tracking": 1}
    assert np.isnan(scene.poses[1]).all()
    np.testing.assert_allclose(scene.poses[2], POSES[2], atol=1e-6)
    assert (scene.color_camera.width, scene.color_camera.fx) == (64, 60)
    assert (scene.depth_camera.width, scene.depth_camera.fx) == (32, 30)
    np.testing.assert_array_equal(scene.depth_raw(2)[0], raw.depth_counts(10))
    assert scene.color_encoded(2).data == raw.jpeg(raw.picture(10))


def test_scannet_export_keeps_the_scans_own_knowledge(tmp_path):
    folder = tmp_path / "scene0001_00"
    folder.mkdir()
    exported(folder)
    (folder / "scene0001_00.txt").write_text("axisAlignment = 0 -1 0 0 1 0 0 0 0 0 1 2 0 0 0 1 \nnumColorFrames = 3\n")
    scene = open_scene(folder)
    assert scene.axis_alignment[2, 3] == 2
    assert scene.defects == {"lost_tracking": 1}


def test_seven_scenes(tmp_path):
    scene = open_scene(seven_scenes(tmp_path))
    assert scene.frame_ids.tolist() == [0, 40]
    assert (scene.color_camera.fx, scene.depth_camera.fx) == (60, 30)
    counts, unit = scene.depth_raw(1)
    expected = raw.depth_counts(40)
    expected[0, :5] = 0
    np.testing.assert_array_equal(counts, expected)
    assert unit == 0.001
    assert (scene.depth(1)[0, :5] == 0).all()
    assert open_scene(tmp_path, color_intrinsics=(70, 70, 32, 24)).color_camera.fx == 70


def test_export_with_info_file(tmp_path):
    folder = seven_scenes(tmp_path)
    (folder / "camera-intrinsics.txt").unlink()
    (folder / "_info.txt").write_text(
        "m_versionNumber = 4\nm_depthShift = 2000\n"
        f"m_calibrationColorIntrinsic = {' '.join(intrinsics_text(*K).split())} \n"
        f"m_calibrationDepthIntrinsic = {' '.join(intrinsics_text(*SMALL_K).split())} \n"
    )
    scene = open_scene(folder)
    assert scene.depth_raw(0)[1] == 1 / 2000
    assert scene.color_camera.fy == 61


def test_slambook(tmp_path):
    scene = open_scene(slambook(tmp_path), color_intrinsics=K, depth_intrinsics=SMALL_K)
    assert scene.frame_ids.tolist() == list(range(1, 12))
    np.testing.assert_allclose(scene.poses, [POSES[i % 4] for i in range(1, 12)], atol=1e-7)
    np.testing.assert_array_equal(scene.depth_raw(10)[0], raw.depth_counts(11))
    np.testing.assert_array_equal(scene.color(10), raw.picture(11))
    assert scene.color_encoded(0).format == "png"


def test_tum(tmp_path):
    scene = open_scene(tum(tmp_path), color_intrinsics=K)
    assert scene.frame_ids.tolist() == [0, 2, 3, 4]
    assert scene.defects == {"unpaired_frames": 1, "lost_tracking": 1}
    assert scene.stamps_ns[0] == 1305031102_175304000
    assert np.isnan(scene.poses[3]).all()
    for i, frame in ((0, 0), (1, 2), (2, 3)):
        t = frame / 30
        expected = from_quaternion((0, np.sin(t), 0, np.cos(t)), (2 * t, 1, 0))
        error = inverse(expected) @ scene.poses[i]
        assert np.linalg.norm(error[:3, 3]) < 1e-3 and rotation_angle(error) < 1e-3
    np.testing.assert_allclose(scene.depth(1), raw.depth_counts(2, (64, 48)) / 5000, rtol=1e-6)


def test_incomplete_frames_and_wrong_poses_are_counted(tmp_path):
    folder = exported(tmp_path)
    (folder / "depth" / "0.png").unlink()
    (folder / "pose" / "10.txt").write_text("1 0 0 nonsense")
    scene = open_scene(folder)
    assert scene.frame_ids.tolist() == [2, 10]
    assert scene.defects == {"incomplete_frames": 1, "lost_tracking": 1, "invalid_pose": 1}


def test_a_bad_first_image_does_not_decide_the_camera(tmp_path):
    folder = exported(tmp_path)
    write_png(folder / "depth" / "0.png", raw.depth_counts(2, (16, 12)))
    (folder / "color" / "0.jpg").write_bytes(b"")
    scene = open_scene(folder)
    assert (scene.color_camera.width, scene.depth_camera.width) == (64, 32)
    with pytest.raises(BadFrame, match=r"0\.png .*is 16x12 pixels"):
        scene.depth(0)
    with pytest.raises(BadFrame, match=r"0\.jpg"):
        scene.color(0)
    for i in range(3):
        (folder / "color" / f"{(0, 2, 10)[i]}.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="no image's size can be read"):
        open_scene(folder)


def test_each_bad_image_is_a_bad_frame_with_its_name(tmp_path):
    folder = exported(tmp_path)
    (folder / "color" / "2.jpg").write_bytes(raw.jpeg(raw.picture(3))[:-200])
    data = bytearray((folder / "depth" / "2.png").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (folder / "depth" / "2.png").write_bytes(data)
    write_png(folder / "depth" / "10.png", (raw.depth_counts(1) // 256).astype(np.uint8))
    scene = open_scene(folder)
    with pytest.raises(BadFrame, match=r"2\.jpg .*frame 2"):
        scene.color(1)
    with pytest.raises(BadFrame, match=r"2\.png .*frame 2"):
        scene.depth(1)
    with pytest.raises(BadFrame, match=r"10\.png .*frame 10.*16-bit"):
        scene.depth(2)
    (folder / "depth" / "0.png").unlink()
    with pytest.raises(BadFrame, match=r"0\.png .*frame 0"):
        scene.depth(0)
    scene.color(0)


def test_intrinsics_of_another_size_are_refused(tmp_path):
    folder = exported(tmp_path)
    (folder / "intrinsic" / "intrinsic_color.txt").write_text(intrinsics_text(1170, 1170, 647, 483))
    with pytest.raises(ValueError, match=r"intrinsic_color\.txt: .*intrinsics of another image size"):
        open_scene(folder)


def test_missing_intrinsics_say_how_to_give_them(tmp_path):
    with pytest.raises(ValueError, match=r"no color intrinsics: looked for .*camera-intrinsics\.txt.*color_intrinsics"):
        open_scene(slambook(tmp_path))


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("pose.txt", "1 2 3 0 0 0 1\n", "1 poses for 11 images"),
        ("pose.txt", "1 2 3 0 0 0\n", "line 1: expected 7 numbers, found 6"),
        ("pose.txt", "1 2 3 0 0 0 x\n", "line 1"),
        ("camera-intrinsics.txt", "1 2 3", "expected a 3x3 or 4x4 matrix"),
    ],
)
def test_damaged_text_files_are_refused_by_name(tmp_path, name, text, says):
    folder = slambook(tmp_path)
    (folder / "camera-intrinsics.txt").write_text(intrinsics_text(*K))
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=says) as error:
        open_scene(folder)
    assert name in str(error.value)


def test_one_frame_number_twice_is_refused(tmp_path):
    folder = exported(tmp_path)
    write_png(folder / "color" / "000.png", raw.picture(0))
    with pytest.raises(ValueError, match=r"0\.jpg.*frame 0"):
        open_scene(folder)


def test_unknown_layout_says_what_was_looked_for(tmp_path):
    with pytest.raises(ValueError, match=r"no known layout.*\.sens.*7-Scenes.*TUM"):
        open_scene(tmp_path)
    (tmp_path / "seq-01").mkdir()
    with pytest.raises(ValueError, match="sequences seq-01: name one"):
        open_scene(tmp_path)
    with pytest.raises(ValueError, match="no such file"):
        open_scene(tmp_path / "nothing")
    (tmp_path / "a.sens").write_bytes(b"")
    (tmp_path / "b.sens").write_bytes(b"")
    with pytest.raises(ValueError, match="name one"):
        open_scene(tmp_path)


SAMPLES = Path(__file__).parents[5] / "shared" / "data"


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="no real samples here")
def test_real_samples():
    kitchen = open_scene(SAMPLES / "redkitchen_rgbd", color_intrinsics=(525, 525, 320, 240))
    assert len(kitchen) == 25 and not kitchen.defects
    assert 0.5 < np.median(kitchen.depth(12)[kitchen.depth(12) > 0]) < 4
    assert kitchen.depth(12).max() < 10
    slam = open_scene(SAMPLES / "slambook2_ch5", color_intrinsics=(518, 519, 325.5, 253.5))
    assert len(slam) == 5 and not slam.defects
    assert slam.color(4).shape == (480, 640, 3)


def test_scannet_frames_25k(tmp_path):
    """Six digits, intrinsics beside the folders, and the annotation in another place."""
    folder = tmp_path / "scannet_frames_25k" / "scene0000_00"
    for name in ("color", "depth", "pose", "label", "instance"):
        (folder / name).mkdir(parents=True)
    for i in (0, 100, 200):
        (folder / "color" / f"{i:06d}.jpg").write_bytes(raw.jpeg(raw.picture(i)))
        write_png(folder / "depth" / f"{i:06d}.png", raw.depth_counts(i))
        (folder / "pose" / f"{i:06d}.txt").write_text(matrix_text(POSES[i // 100]))
    with pytest.raises(ValueError, match="no intrinsics of color and depth"):
        open_scene(folder)
    (folder / "intrinsics_color.txt").write_text(intrinsics_text(*K))
    (folder / "intrinsics_depth.txt").write_text(intrinsics_text(*SMALL_K))
    scene = open_scene(folder)
    assert scene.frame_ids.tolist() == [0, 100, 200] and scene.mesh() is None
    np.testing.assert_allclose(scene.poses, POSES[:3], atol=1e-6)
    annotated = tmp_path / "scans" / "scene0000_00"
    annotated.mkdir(parents=True)
    (annotated / "scene0000_00.aggregation.json").write_text("{}")
    with pytest.raises(ValueError, match=r"_vh_clean_2\.ply, .*segs\.json: missing"):
        open_scene(folder, annotations=annotated).instances()
