"""What is written is read back by a plain reader made from the format's description, and by the project's own."""

from __future__ import annotations

import io
import json
import struct
import zlib
from dataclasses import replace

import cv2
import numpy as np
import pytest
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import transform

from offline.data_engine.sources.scannet import ScanNetPaths, ScanNetScene
from offline.data_engine.sources.sens import SensScene
from sim.rooms.labels import LABELS
from sim.rooms.noise import DepthNoise
from sim.rooms.scannet_writer import LABEL_FILE, ply_bytes, write_scene
from sim.rooms.sens_writer import IMU_SAMPLE, write_sens
from sim.rooms.sim_source import CAMERA_1296, SimSource, lost_frames
from sim.rooms.test.rooms_for_tests import SMALL, renderer, room, source

COLOR = Camera(200, 150, 181.0, 180.0, 100.1, 74.2)
FRAMES = 7


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    src = source(3, FRAMES, color_camera=COLOR, depth_camera=SMALL, depth_noise=DepthNoise(), lost=(2, 5))
    done = []
    folder = write_scene(src, tmp_path_factory.mktemp("scans"), on_frame=done.append)
    assert done == list(range(1, FRAMES + 1))
    return src, folder


def read_sens(data: bytes) -> dict:
    """The whole file, in the order of the format's description; fails on any byte left over."""
    file = io.BytesIO(data)

    def take(format_):
        values = struct.unpack("<" + format_, file.read(struct.calcsize("<" + format_)))
        return values[0] if len(values) == 1 else values

    sens = {"version": take("I"), "name": file.read(take("Q")).decode()}
    for name in ("intrinsic_color", "extrinsic_color", "intrinsic_depth", "extrinsic_depth"):
        sens[name] = np.array(take("16f")).reshape(4, 4)
    sens["compression"] = take("2i")
    sens["color_size"], sens["depth_size"] = take("2I"), take("2I")
    sens["shift"] = take("f")
    sens["frames"] = []
    for _ in range(take("Q")):
        pose = np.array(take("16f")).reshape(4, 4)
        stamp_color, stamp_depth, n_color, n_depth = take("4Q")
        sens["frames"].append((pose, stamp_color, stamp_depth, file.read(n_color), file.read(n_depth)))
    sens["imu"] = [(np.array(take("15d")).reshape(5, 3), take("Q")) for _ in range(take("Q"))]
    assert file.read() == b""
    return sens


def test_sens_by_a_plain_reader(written):
    src, folder = written
    sens = read_sens((folder / f"{src.scene_id}.sens").read_bytes())
    assert (sens["version"], sens["compression"], sens["shift"]) == (4, (2, 1), 1000.0)
    assert (sens["color_size"], sens["depth_size"]) == ((200, 150), (160, 120))
    K = sens["intrinsic_color"]
    assert np.allclose(K[:3, :3], COLOR.matrix) and (K[3] == (0, 0, 0, 1)).all() and (K[:3, 3] == 0).all()
    assert (sens["extrinsic_depth"] == np.eye(4)).all()
    assert len(sens["frames"]) == FRAMES
    for i, (pose, stamp_color, stamp_depth, color, depth) in enumerate(sens["frames"]):
        assert stamp_color == stamp_depth == src.stamps_ns[i] // 1000
        if i in (2, 5):
            assert (pose == -np.inf).all()
        else:
            assert np.allclose(pose, src.true_poses[i], atol=1e-6)
        raw = np.frombuffer(zlib.decompress(depth), "<u2").reshape(120, 160)
        assert (raw == src.depth_raw(i)[0]).all()
        assert color[:2] == b"\xff\xd8" and color[-2:] == b"\xff\xd9"
        image = cv2.imdecode(np.frombuffer(color, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert np.abs(image.astype(int) - src.color(i)).mean() < 4


def test_imu_block(written):
    src, folder = written
    samples = read_sens((folder / f"{src.scene_id}.sens").read_bytes())["imu"]
    assert IMU_SAMPLE.itemsize == 128
    span = (src.stamps_ns[-1] - src.stamps_ns[0]) / 1e9
    assert len(samples) == pytest.approx(span * 100, abs=2)
    for (_, _, _, _, gravity), stamp in samples:
        assert np.linalg.norm(gravity) == pytest.approx(1)
        # Held upright, gravity points along the picture's down (camera y).
        assert gravity[1] > 0.3
        assert src.stamps_ns[0] // 1000 <= stamp <= src.stamps_ns[-1] // 1000


def test_project_readers_agree(written):
    src, folder = written
    paths = ScanNetPaths(folder, src.scene_id)
    scene = ScanNetScene(SensScene(paths.sens), paths)
    assert scene.defects == {"lost_tracking": 2}
    assert np.allclose(scene.poses, src.poses, atol=1e-6, equal_nan=True)
    assert (scene.stamps_ns == src.stamps_ns).all()
    assert np.allclose(scene.axis_alignment, src.axis_alignment, atol=2e-6)
    assert (scene.depth_raw(4)[0] == src.depth_raw(4)[0]).all()
    instances, expected = scene.instances(), src.instances()
    assert (instances.vertex_ids == expected.vertex_ids).all() and instances.labels == expected.labels
    mesh = scene.mesh()
    assert (mesh.vertices == src.mesh().vertices).all() and (mesh.faces == src.mesh().faces).all()
    assert (mesh.colors == src.mesh().colors).all()


def test_mesh_segments_and_aggregation(written):
    src, folder = written
    stem = f"{src.scene_id}_vh_clean_2"
    segs = json.loads((folder / f"{stem}.0.010000.segs.json").read_text())
    aggregation = json.loads((folder / f"{src.scene_id}.aggregation.json").read_text())
    assert aggregation["segmentsFile"] == f"scannet.{stem}.0.010000.segs.json"
    assert aggregation["sceneId"] == segs["sceneId"] == f"scannet.{src.scene_id}"
    seg_of_vertex = np.array(segs["segIndices"])
    distinct = np.unique(seg_of_vertex)
    assert len(seg_of_vertex) == len(src.mesh().vertices)
    assert distinct.max() > 2 * len(distinct)  # sparse, as ScanNet's
    instance = np.zeros(len(seg_of_vertex), dtype=int)
    for group in aggregation["segGroups"]:
        assert group["id"] == group["objectId"] and group["segments"]
        instance[np.isin(seg_of_vertex, group["segments"])] = group["objectId"] + 1
    assert (instance == src.instances().vertex_ids).all()
    assert (instance == 0).any()  # some geometry is unannotated, as in real scans
    # The labelled mesh by a plain reader.
    data = (folder / f"{stem}.labels.ply").read_bytes()
    header, body = data.split(b"end_header\n", 1)
    assert header.splitlines()[:2] == [b"ply", b"format binary_little_endian 1.0"]
    vertices = np.frombuffer(body, [("xyz", "<f4", 3), ("rgba", "u1", 4), ("label", "<u2")], len(seg_of_vertex))
    nyu40 = {i: LABELS[label].nyu40id for i, label in src.scene.labels.items()} | {0: 0}
    assert (vertices["label"] == [nyu40[i] for i in instance]).all()
    assert len(body) == vertices.nbytes + 13 * len(src.mesh().faces)


def test_metadata_and_label_table(written):
    src, folder = written
    lines = (folder / f"{src.scene_id}.txt").read_text().splitlines()
    values = dict(line.split(" = ", 1) for line in lines)
    A = np.array(values["axisAlignment"].split(), dtype=float).reshape(4, 4)
    assert (A[2, :2] == 0).all() and A[2, 2] == 1 and (A[:2, 2] == 0).all()
    floor = src.instances().vertex_ids == next(i for i, n in src.scene.labels.items() if n == "floor")
    aligned = transform(A, src.mesh().vertices[floor].astype(np.float64))
    assert np.allclose(aligned.min(axis=0), 0, atol=1e-4) and np.allclose(aligned[:, 2], 0, atol=1e-4)
    assert values["numColorFrames"] == str(FRAMES) and values["colorWidth"] == "200" and values["depthWidth"] == "160"
    assert lines[-1].startswith("sceneType = ") and values["sceneType"] == src.scene.scene_type
    table = (folder.parent / LABEL_FILE).read_text().splitlines()
    spelled = {row.split("\t")[1] for row in table[1:]}
    assert set(src.scene.labels.values()) <= spelled


def test_the_same_source_gives_the_same_bytes(written, tmp_path):
    src, folder = written
    write_sens(src, tmp_path / "again.sens")
    assert (tmp_path / "again.sens").read_bytes() == (folder / f"{src.scene_id}.sens").read_bytes()
    assert ply_bytes(src.mesh()) == (folder / f"{src.scene_id}_vh_clean_2.ply").read_bytes()


def test_nothing_half_written_remains(tmp_path):
    src = source(3, 3, color_camera=SMALL)

    def fail(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sens(src, tmp_path / "a.sens", on_frame=fail)
    assert list(tmp_path.iterdir()) == []
    lens = replace(SMALL, distortion_model="plumb_bob", distortion=(0.1, 0, 0, 0))
    distorted = SimSource(renderer(3), src.path, color_camera=lens)
    with pytest.raises(ValueError, match="no field for lens distortion"):
        write_sens(distorted, tmp_path / "b.sens")


def test_source_is_lazy_exact_and_registered():
    src = source(0, 4, color_camera=CAMERA_1296, depth_camera=SMALL)
    assert src.color(1).shape == (968, 1296, 3) and src.ids(1).shape == (968, 1296) and src.depth(1).shape == (120, 160)
    exact = renderer(0).render(SMALL, src.true_poses[1], color=False)
    assert (src.depth(1) == exact.depth).all()
    raw, unit = src.depth_raw(1)
    assert unit == 0.001 and np.abs(raw * unit - exact.depth).max() <= 0.000501
    with pytest.raises(IndexError):
        src.depth(4)
    options = {"color_camera": SMALL, "depth_noise": DepthNoise()}
    a, b, c = (SimSource(renderer(0), src.path, seed=s, **options).depth(2) for s in (1, 1, 2))
    assert (a == b).all() and (a != c).any()


def test_lost_frames():
    lost = lost_frames(1, 200, 0.1)
    assert len(lost) == 20 and lost == lost_frames(1, 200, 0.1) and max(lost) < 200
    assert lost_frames(1, 200, 0.0) == ()
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        lost_frames(1, 10, 1.0)


def test_scene_ids():
    assert room(3).scene_id == "scene0003_00"
