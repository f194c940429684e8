from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from roboref_core.geometry.pose import from_quaternion, inverse

from offline.data_engine.sources import BadFrame, Scene, open_scene
from offline.data_engine.sources.discover import annotated_labels
from offline.data_engine.sources.test.test_mesh import scannet_ply

POSES = [from_quaternion((0.1 * i, -0.3, 0.2, 0.9), (i, 0.5, 1.5)) for i in range(4)]
STAMPS = [98.764, 98.865, 98.966, 99.067]


def write_recording(folder: Path, frames: str, *, wide: bool = False) -> Path:
    name = folder.name
    place = folder / frames
    for kind in ("lowres_wide", "lowres_depth", "lowres_wide_intrinsics", *(("wide", "wide_intrinsics") * wide)):
        (place / kind).mkdir(parents=True)
    lines = []
    for i, (stamp, pose) in enumerate(zip(STAMPS, POSES, strict=True)):
        stem = f"{name}_{stamp:.3f}"
        picture = np.full((192, 256, 3), 40 * i + 20, np.uint8)
        cv2.imwrite(str(place / "lowres_wide" / f"{stem}.png"), picture)
        cv2.imwrite(str(place / "lowres_depth" / f"{stem}.png"), np.full((192, 256), 1000 + i, np.uint16))
        (place / "lowres_wide_intrinsics" / f"{stem}.pincam").write_text("256 192 212.5 212.6 127.9 95.7\n")
        if wide:
            cv2.imwrite(str(place / "wide" / f"{stem}.png"), cv2.resize(picture, (1024, 768)))
            (place / "wide_intrinsics" / f"{stem}.pincam").write_text("1024 768 850 850.4 513.1 384.3")
        T = inverse(pose)
        rotation = cv2.Rodrigues(T[:3, :3])[0].ravel()
        lines.append(" ".join(f"{x:.9f}" for x in (stamp - 0.05, *rotation, *T[:3, 3])))
    lines.append(lines[-1].replace(f"{STAMPS[-1] - 0.05:.9f}", f"{STAMPS[-1] + 0.05:.9f}"))
    (place / "lowres_wide.traj").write_text("\n".join(lines))
    vertices = np.array(
        [[0, 0, 0], [0.4, 0, 0.5], [0, 0.4, 0.9], [2, 0, 0.5], [2, 0.1, 0.01], [2.1, 0, 0.2]], np.float32
    )
    (folder / f"{name}_3dod_mesh.ply").write_bytes(
        scannet_ply(vertices, [[0, 1, 2], [3, 4, 5]], np.full((6, 3), 9, np.uint8))
    )
    turned = [[0, 1, 0], [-1, 0, 0], [0, 0, 1]]
    boxes = [("tv_monitor", [0, 0, 0.5], [1, 1.2, 1], turned), (None, [2, 0, 0.5], [0.5, 0.5, 1], np.eye(3).tolist())]
    data = [
        {
            "label": label,
            "segments": {
                "obbAligned": {
                    "centroid": centre,
                    "axesLengths": lengths,
                    "normalizedAxes": np.ravel(axes).tolist(),
                }
            },
        }
        for label, centre, lengths, axes in boxes
    ]
    (folder / f"{name}_3dod_annotation.json").write_text(json.dumps({"data": data}))
    return folder


@pytest.mark.parametrize("frames", ["", "40777060_frames"])
def test_both_published_layouts(tmp_path, frames):
    folder = write_recording(tmp_path / "40777060", frames)
    scene = open_scene(folder)
    assert isinstance(scene, Scene) and scene.scene_id == "40777060"
    assert scene.frame_ids.tolist() == [98764, 98865, 98966, 99067]
    # Stamps lie halfway between two samples of the trajectory.
    between = (np.array([p[:3, 3] for p in POSES[:-1]]) + np.array([p[:3, 3] for p in POSES[1:]])) / 2
    np.testing.assert_allclose(scene.poses[:3, :3, 3], between, atol=0.02)
    assert (scene.color_camera.fx, scene.color_camera.cx, scene.color_camera.width) == (212.5, 127.9, 256)
    np.testing.assert_allclose(scene.depth(2), 1.002, atol=1e-6)
    np.testing.assert_array_equal(scene.color(1)[0, 0], 60)
    instances = scene.instances()
    # The foot of the second box is the ground.
    np.testing.assert_array_equal(instances.vertex_ids, [0, 1, 1, 2, 0, 2])
    assert instances.labels == {1: "tv monitor", 2: ""} and annotated_labels(folder) == {"tv monitor", ""}
    assert scene.defects == {"objects_from_boxes": 2, "no_object_label": 1}


def test_the_largest_pictures_are_taken(tmp_path):
    scene = open_scene(write_recording(tmp_path / "40777060", "", wide=True))
    assert (scene.color_camera.width, scene.depth_camera.width) == (1024, 256)
    assert scene.depth_camera.fx == pytest.approx(212.5)


def test_defects_are_named_all_at_once(tmp_path):
    folder = write_recording(tmp_path / "40777060", "")
    (folder / "lowres_depth" / "40777060_98.865.png").unlink()
    (folder / "lowres_depth" / "40777060_98.966.png").write_bytes(b"x")
    scene = open_scene(folder)
    assert scene.frame_ids.tolist() == [98764, 98966, 99067] and scene.defects == {"unpaired_frames": 1}
    with pytest.raises(BadFrame, match=r"98\.966\.png"):
        scene.depth(1)
    for kind in ("lowres_depth", "lowres_wide_intrinsics"):
        for path in (folder / kind).iterdir():
            path.unlink()
    with pytest.raises(ValueError, match=r"no pictures in lowres_depth; no \.pincam files"):
        open_scene(folder)
    trajectory = folder / "lowres_wide.traj"
    trajectory.write_text("1 2 3")
    write_recording(tmp_path / "other" / "40777060", "")
    (tmp_path / "other" / "40777060" / "lowres_wide.traj").write_text("1 2 3")
    with pytest.raises(ValueError, match=r"lowres_wide\.traj line 1"):
        open_scene(tmp_path / "other" / "40777060")
