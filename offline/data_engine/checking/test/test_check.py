from __future__ import annotations

import zipfile

import numpy as np
import pytest
from roboref_core.geometry.pose import from_quaternion
from roboref_core.scene import BadFrame

from offline.data_engine.checking.check import check_scene
from offline.data_engine.test.synthetic import SyntheticScene
from offline.files import encode_png, read_json, read_picture

pytest.importorskip("open3d")


def test_a_good_scene_passes_and_its_report_and_pictures_are_written(tmp_path):
    scene = SyntheticScene(frames=8, noise=0.003, holes=0.05)
    report = check_scene(scene, tmp_path, most_frames=8)
    assert report["passed"] and report["good_share"] == 1.0 and report["compared_with"] == "mesh"
    assert report == read_json(tmp_path / "scene0000_00_alignment.json")
    assert [facts["frame"] for facts in report["frames"]] == scene.frame_ids.tolist()
    assert read_picture(tmp_path / "scene0000_00_00.png").shape[1] == 3 * 800


def test_wrong_poses_fail_the_scene(tmp_path):
    scene, truth = SyntheticScene(frames=8), SyntheticScene(frames=8)
    scene.depth, scene.color = truth.depth, truth.color
    for i in range(0, 8, 2):
        scene.poses[i] = scene.poses[i] @ from_quaternion((0, np.sin(0.1), 0, np.cos(0.1)), (0.2, 0, 0))
    report = check_scene(scene, tmp_path, most_frames=8)
    verdicts = [facts["verdict"] for facts in report["frames"]]
    assert verdicts[::2] == ["bad_pose"] * 4 and verdicts[1::2] == ["good"] * 4 and not report["passed"]


def test_without_a_mesh_neighbours_are_compared(tmp_path):
    class NoMesh(SyntheticScene):
        def mesh(self):
            return None

    report = check_scene(NoMesh(frames=40), tmp_path, most_frames=5)
    assert report["compared_with"] == "neighbouring frames" and report["judged"] == 5 and report["passed"]


def test_published_instance_pictures_are_compared(tmp_path):
    scene = SyntheticScene(frames=4)
    archive = tmp_path / "scene0000_00_2d-instance-filt.zip"
    with zipfile.ZipFile(archive, "w") as out:
        for i, frame in enumerate(scene.frame_ids):
            _, ids, _ = scene.cast(i, scene.color_camera)
            out.writestr(f"instance-filt/{frame}.png", encode_png(ids.astype(np.uint8)))
    report = check_scene(scene, tmp_path, 4, annotations=archive)
    assert report["mask_iou"] > 0.98
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("instance-filt/999.png", b"")
    with pytest.raises(ValueError, match=r"no picture 0\.png"):
        check_scene(scene, tmp_path, 4, annotations=archive)


def test_unreadable_frames_are_reported_and_lost_ones_skipped(tmp_path):
    class Broken(SyntheticScene):
        def depth(self, i):
            if i == 2:
                raise BadFrame("frame 20: corrupt zlib stream")
            return super().depth(i)

    scene = Broken(frames=5)
    scene.poses[4] = np.nan
    report = check_scene(scene, tmp_path, 5)
    assert [facts["verdict"] for facts in report["frames"]] == ["good", "good", "unreadable", "good"]
    scene.poses[:] = np.nan
    with pytest.raises(ValueError, match="no frame has a pose"):
        check_scene(scene, tmp_path)
