from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import cv2
import lz4.block
import numpy as np
import pytest
from roboref_core.geometry.pose import from_quaternion, inverse, to_quaternion

from offline.data_engine.sources import BadFrame, Scene, open_scene
from offline.data_engine.sources.arkit_depth import ArkitDepth
from offline.data_engine.sources.test import sens_bytes as raw
from offline.data_engine.sources.test.test_mesh import scannet_ply

SIZE = (192, 144)
POSES = [from_quaternion((0.1 * i, -0.3, 0.2, 0.9), (i, 0.5, 1.5)) for i in range(8)]


def depth_mm(frame: int) -> np.ndarray:
    v, u = np.mgrid[:192, :256]
    counts = (1000 + 3 * u + 2 * v + 10 * frame).astype("<u2")
    counts[:5] = 0
    return counts


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


def metres_bytes(frame: int) -> bytes:
    return (depth_mm(frame) * np.float32(0.001)).astype("<f4").tobytes()


def sized(blobs) -> bytes:
    return b"".join(len(blob).to_bytes(4, "little") + blob for blob in blobs)


DEPTH_FILES = {
    "stream": lambda n: raw_deflate(b"".join(metres_bytes(i) for i in range(n))),
    "lz4": lambda n: sized(lz4.block.compress(depth_mm(i).tobytes(), store_size=False) for i in range(n)),
    "deflate": lambda n: sized(raw_deflate(metres_bytes(i)) for i in range(n)),
}


@pytest.mark.parametrize("encoding", DEPTH_FILES)
def test_depth_in_any_order(tmp_path, encoding):
    (tmp_path / "depth.bin").write_bytes(DEPTH_FILES[encoding](70))
    depth = ArkitDepth(tmp_path / "depth.bin")
    for frame in (3, 69, 0, 33, 34, 31, 64, 12, 12):
        np.testing.assert_allclose(depth.metres(frame, "x"), depth_mm(frame) / 1000, rtol=1e-6)
    for frame in (70, 500):
        with pytest.raises(BadFrame, match=r"depth\.bin \(here\)"):
            depth.metres(frame, "here")
    np.testing.assert_allclose(depth.metres(40, "x"), depth_mm(40) / 1000, rtol=1e-6)


def test_damaged_depth_is_a_bad_frame(tmp_path):
    blobs = [
        raw_deflate(metres_bytes(0)),
        b"\xff" * 50,
        raw_deflate(metres_bytes(2))[:-30],
        raw_deflate(metres_bytes(3)),
    ]
    (tmp_path / "depth.bin").write_bytes(sized(blobs))
    depth = ArkitDepth(tmp_path / "depth.bin")
    for frame in (1, 2):
        with pytest.raises(BadFrame, match=r"depth\.bin"):
            depth.metres(frame, "x")
    np.testing.assert_allclose(depth.metres(3, "x"), depth_mm(3) / 1000, rtol=1e-6)
    (tmp_path / "cut.bin").write_bytes(DEPTH_FILES["stream"](6)[:-2000])
    depth = ArkitDepth(tmp_path / "cut.bin")
    with pytest.raises(BadFrame, match="the stream ends"):
        depth.metres(5, "x")
    np.testing.assert_allclose(depth.metres(1, "x"), depth_mm(1) / 1000, rtol=1e-6)


def write_colmap(folder: Path, frames, camera="1 OPENCV 192 144 160 161 96.5 72.5 0.01 -0.02 0.001 0.002") -> None:
    folder.mkdir(exist_ok=True)
    (folder / "cameras.txt").write_text(f"# Camera list\n{camera}\n")
    lines = ["# Image list with two lines of data per image:", "#   IMAGE_ID, QW, ..."]
    for k, (frame, name) in enumerate(frames):
        T = inverse(POSES[frame])
        x, y, z, w = to_quaternion(T)
        lines += [f"{k + 1} {w:.9f} {x:.9f} {y:.9f} {z:.9f} " + " ".join(f"{t:.9f}" for t in T[:3, 3]) + f" 1 {name}"]
        lines += ["" if k % 2 else "10.5 20.5 -1 3 4 17"]
    (folder / "images.txt").write_text("\n".join(lines) + "\n")


def scene_folder(tmp_path: Path, *, colmap=True, video=False) -> Path:
    folder = tmp_path / "0a5c013435"
    (folder / "scans").mkdir(parents=True)
    iphone = folder / "iphone"
    (iphone / "rgb").mkdir(parents=True)
    if video:
        writer = cv2.VideoWriter(str(iphone / "rgb.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 60, SIZE)
        for i in range(8):
            writer.write(np.full((SIZE[1], SIZE[0], 3), 25 * i + 20, np.uint8))
        writer.release()
        (iphone / "rgb").rmdir()
    else:
        for i in range(8):
            (iphone / "rgb" / f"frame_{i:06d}.jpg").write_bytes(raw.jpeg(raw.picture(i, SIZE)))
    (iphone / "depth.bin").write_bytes(DEPTH_FILES["lz4"](8))
    wrong = from_quaternion((0, 0, 0, 1), (99, 99, 99))
    K = [[160.0, 0, 96], [0, 161.0, 72], [0, 0, 1]]
    arkit = {
        f"frame_{i:06d}": {
            "timestamp": 5000.25 + i / 60,
            "pose": wrong.tolist(),
            "aligned_pose": POSES[i].tolist(),
            "intrinsic": K,
        }
        for i in reversed(range(8))
    }
    (iphone / "pose_intrinsic_imu.json").write_text(json.dumps(arkit))
    if colmap:
        write_colmap(
            iphone / "colmap", [(6, "frame_000006.jpg"), (0, "iphone/frame_000000.jpg"), (3, "frame_000003.jpg")]
        )
    (folder / "scans" / "mesh_aligned_0.05.ply").write_bytes(
        scannet_ply(np.arange(18, dtype=np.float32).reshape(6, 3), [[0, 1, 2], [3, 4, 5]], np.full((6, 3), 9))
    )
    (folder / "scans" / "segments.json").write_text(json.dumps({"segIndices": [5, 5, 7, 8, 8, 40]}))
    groups = [
        {"id": 1, "objectId": 1, "segments": [7], "label": "cushion"},
        {"id": 2, "objectId": 2, "segments": [5, 7, 8], "label": "sofa"},
    ]
    (folder / "scans" / "segments_anno.json").write_text(json.dumps({"segGroups": groups}))
    return folder


def test_colmap_poses_are_preferred(tmp_path):
    scene = open_scene(scene_folder(tmp_path))
    assert isinstance(scene, Scene)
    assert (scene.scene_id, scene.frame_ids.tolist(), scene.defects) == ("0a5c013435", [0, 3, 6], {})
    np.testing.assert_allclose(scene.poses, [POSES[0], POSES[3], POSES[6]], atol=1e-7)
    camera = scene.color_camera
    # COLMAP's pixel centres are at .5, ours at integers.
    assert (camera.fx, camera.cx, camera.cy, camera.distortion_model) == (160, 96, 72, "plumb_bob")
    assert (scene.depth_camera.width, scene.depth_camera.height) == (256, 192)
    np.testing.assert_array_equal(scene.stamps_ns, 5000_250_000_000 + np.array([0, 50_000_000, 100_000_000]))
    np.testing.assert_array_equal(scene.depth_raw(1)[0], depth_mm(3))
    assert scene.color_encoded(2).data == raw.jpeg(raw.picture(6, SIZE))


def test_objects_that_share_vertices_yield_to_the_smallest(tmp_path):
    instances = open_scene(scene_folder(tmp_path)).instances()
    np.testing.assert_array_equal(instances.vertex_ids, [2, 2, 1, 2, 2, 0])
    assert instances.labels == {1: "cushion", 2: "sofa"}


def test_without_colmap_the_aligned_pose_is_used(tmp_path):
    folder = scene_folder(tmp_path, colmap=False)
    text = (folder / "iphone" / "pose_intrinsic_imu.json").read_text()
    for i in range(8):
        (folder / "iphone" / "rgb" / f"frame_{i:06d}.jpg").write_bytes(raw.jpeg(np.zeros((1440, 1920, 3), np.uint8)))
    text = text.replace("[160.0, 0, 96], [0, 161.0, 72]", "[1600.0, 0, 960], [0, 1600.0, 720]")
    (folder / "iphone" / "pose_intrinsic_imu.json").write_text(text)
    scene = open_scene(folder)
    assert scene.frame_ids.tolist() == list(range(8))
    np.testing.assert_allclose(scene.poses, POSES, atol=1e-9)
    assert scene.color(2).shape == (1440, 1920, 3)
    (folder / "iphone" / "pose_intrinsic_imu.json").write_text(text.replace("aligned_pose", "another_pose"))
    with pytest.raises(ValueError, match=r"pose_intrinsic_imu\.json: a frame has no 'aligned_pose'"):
        open_scene(folder)


def test_frames_from_the_video(tmp_path):
    scene = open_scene(scene_folder(tmp_path, video=True))
    assert scene.color_encoded(0) is None
    for i in (2, 0, 1, 1, 2):
        expected = 25 * scene.frame_ids[i] + 20
        assert abs(float(scene.color(i).mean()) - expected) < 6


def test_defects_are_counted_or_refused(tmp_path):
    folder = scene_folder(tmp_path)
    (folder / "iphone" / "rgb" / "frame_000003.jpg").unlink()
    scene = open_scene(folder)
    assert scene.frame_ids.tolist() == [0, 6] and scene.defects == {"no_image_file": 1}
    with pytest.raises(ValueError, match="its own intrinsics"):
        open_scene(folder, color_intrinsics=(1, 1, 1, 1))

    write_colmap(folder / "iphone" / "colmap", [(0, "picture.jpg")])
    with pytest.raises(ValueError, match=r"images\.txt: expected a name like"):
        open_scene(folder)
    write_colmap(folder / "iphone" / "colmap", [(0, "frame_000000.jpg")], camera="1 THIN_PRISM 192 144 1 2")
    with pytest.raises(ValueError, match=r"cameras\.txt line 2: unknown camera model THIN_PRISM"):
        open_scene(folder)
    write_colmap(folder / "iphone" / "colmap", [(0, "frame_000000.jpg")])
    (folder / "iphone" / "depth.bin").unlink()
    with pytest.raises(ValueError, match=r"iphone: no depth: looked for depth\.bin"):
        open_scene(folder)
    (folder / "scans" / "segments.json").unlink()
    (folder / "iphone" / "depth.bin").write_bytes(DEPTH_FILES["lz4"](1))
    with pytest.raises(ValueError, match=r"segments\.json: missing"):
        open_scene(folder).instances()


def binary_model(folder: Path) -> None:
    """The model of a folder's text files as COLMAP writes it in binary, by hand."""
    cameras = [line.split() for line in (folder / "cameras.txt").read_text().splitlines() if line[0] != "#"]
    with open(folder / "cameras.bin", "wb") as file:
        file.write(struct.pack("<Q", len(cameras)))
        for number, _, width, height, *parameters in cameras:
            file.write(struct.pack("<iiQQ", int(number), 4, int(width), int(height)))
            file.write(struct.pack(f"<{len(parameters)}d", *map(float, parameters)))
    lines = [line.split() for line in (folder / "images.txt").read_text().splitlines() if line[:1] != "#"]
    poses, points = lines[::2], lines[1::2]
    with open(folder / "images.bin", "wb") as file:
        file.write(struct.pack("<Q", len(poses)))
        for (number, *values, camera, name), seen in zip(poses, points, strict=True):
            file.write(struct.pack("<i7di", int(number), *map(float, values), int(camera)) + name.encode() + b"\0")
            triples = [seen[k : k + 3] for k in range(0, len(seen), 3)]
            file.write(struct.pack("<Q", len(triples)))
            file.write(b"".join(struct.pack("<ddq", float(x), float(y), int(k)) for x, y, k in triples))
    (folder / "cameras.txt").unlink()
    (folder / "images.txt").unlink()


@pytest.mark.parametrize("place", ["", "sparse/0"])
def test_a_binary_model_says_what_the_text_says(tmp_path, place):
    folder = scene_folder(tmp_path)
    text = open_scene(folder)
    model = folder / "iphone" / "colmap"
    binary_model(model)
    if place:
        (model / place).mkdir(parents=True)
        for name in ("cameras.bin", "images.bin"):
            (model / name).rename(model / place / name)
    binary = open_scene(folder)
    np.testing.assert_array_equal(binary.frame_ids, text.frame_ids)
    np.testing.assert_array_equal(binary.poses, text.poses)
    assert binary.color_camera == text.color_camera
    path = model / place / "images.bin"
    whole = path.read_bytes()
    for cut in (5, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"images\.bin"):
            open_scene(folder)


def test_depth_as_the_toolkit_writes_it(tmp_path):
    folder = scene_folder(tmp_path)
    (folder / "iphone" / "depth.bin").unlink()
    (folder / "iphone" / "depth").mkdir()
    for i in (0, 3):
        cv2.imwrite(str(folder / "iphone" / "depth" / f"frame_{i:06d}.png"), depth_mm(i))
    scene = open_scene(folder)
    np.testing.assert_array_equal(scene.depth_raw(1)[0], depth_mm(3))
    assert (scene.depth_camera.width, scene.depth_camera.height) == (256, 192)
    with pytest.raises(BadFrame, match="frame 6: no depth picture"):
        scene.depth(2)


def test_all_that_a_recording_lacks_is_named(tmp_path):
    (tmp_path / "0a5c013435" / "iphone").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"no frames: .*; no depth: .*; no poses: "):
        open_scene(tmp_path / "0a5c013435")


def test_a_null_label_is_no_name(tmp_path):
    folder = scene_folder(tmp_path)
    path = folder / "scans" / "segments_anno.json"
    path.write_text(path.read_text().replace('"cushion"', "null"))
    scene = open_scene(folder)
    assert scene.instances().labels == {1: "", 2: "sofa"} and scene.defects["no_object_label"] == 1
