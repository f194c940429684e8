from __future__ import annotations

import json

import numpy as np
import pytest

from offline.data_engine.sources import Scene, open_scene
from offline.data_engine.sources.test import sens_bytes as raw
from offline.data_engine.sources.test.test_mesh import scannet_ply

YAW = np.array([[0.8, -0.6, 0, 1.25], [0.6, 0.8, 0, -3], [0, 0, 1, 0.5], [0, 0, 0, 1]])
# Six vertices in segments 4, 9, 9, 17, 30, 31; the chair has 4 and 9, the table 17, nobody 30 and 31.
SEGMENTS = [4, 9, 9, 17, 30, 31]
GROUPS = [(0, [4, 9], "chair"), (1, [17], "table ")]


def scan(folder, *, name="scene0000_00", frames=3, groups=GROUPS, segments=SEGMENTS, extra_txt="", **sens_fields):
    """A scan's files as they lie in scans/<name>/."""
    folder = folder / name
    folder.mkdir()
    (folder / f"{name}.sens").write_bytes(raw.sens(frames, **sens_fields))
    vertices = np.arange(18, dtype=np.float32).reshape(6, 3)
    faces = [[0, 1, 2], [3, 4, 5]]
    (folder / f"{name}_vh_clean_2.ply").write_bytes(scannet_ply(vertices, faces, np.full((6, 3), 80)))
    (folder / f"{name}_vh_clean_2.0.010000.segs.json").write_text(
        json.dumps({"params": {"kThresh": "0.01"}, "sceneId": name, "segIndices": segments})
    )
    (folder / f"{name}.aggregation.json").write_text(
        json.dumps(
            {
                "sceneId": f"scannet.{name}",
                "appId": "Aggregator.v2",
                "segGroups": [{"id": i, "objectId": i, "segments": s, "label": label} for i, s, label in groups],
                "segmentsFile": f"scannet.{name}_vh_clean_2.0.010000.segs.json",
            }
        )
    )
    alignment = " ".join(f"{x:.6f}" for x in YAW.ravel())
    (folder / f"{name}.txt").write_text(
        f"axisAlignment = {alignment} \ncolorHeight = 48\nnumColorFrames = {frames}\n"
        f"sceneType = Bedroom / Hotel = both\n{extra_txt}"
    )
    return folder


def test_scan_with_everything(tmp_path):
    folder = scan(tmp_path)
    (tmp_path / "scannetv2-labels.combined.tsv").write_text(
        "id\traw_category\tcategory\tnyu40id\n2\tchair\tchair\t5\n", encoding="utf-8"
    )
    for path in (folder, folder / "scene0000_00.sens"):
        scene = open_scene(path)
        assert isinstance(scene, Scene)
        assert (scene.scene_id, len(scene), scene.defects) == ("scene0000_00", 3, {})
        np.testing.assert_allclose(scene.axis_alignment, YAW, atol=1e-6)
        assert scene.metadata["sceneType"] == "Bedroom / Hotel = both"
        assert len(scene.mesh().vertices) == 6
        instances = scene.instances()
        np.testing.assert_array_equal(instances.vertex_ids, [1, 1, 1, 2, 0, 0])
        assert instances.labels == {1: "chair", 2: "table"}
        assert scene.label_table.nyu40_of == {"chair": 5}
        np.testing.assert_array_equal(scene.depth_raw(2)[0], raw.depth_counts(2))
        assert scene.color(1).shape == (48, 64, 3)


def test_missing_axis_alignment_is_identity_and_counted(tmp_path):
    folder = scan(tmp_path)
    (folder / "scene0000_00.txt").write_text("numColorFrames = 3\n")
    scene = open_scene(folder)
    np.testing.assert_array_equal(scene.axis_alignment, np.eye(4))
    assert scene.defects == {"no_axis_alignment": 1}


@pytest.mark.parametrize("text", ["1 2 3", "a b c", " ".join(["2"] * 16)])
def test_damaged_axis_alignment_is_refused_by_name(tmp_path, text):
    folder = scan(tmp_path)
    (folder / "scene0000_00.txt").write_text(f"axisAlignment = {text}\n")
    with pytest.raises(ValueError, match=r"scene0000_00\.txt: axisAlignment"):
        open_scene(folder)


def test_frame_count_off_by_one_is_counted(tmp_path):
    folder = scan(tmp_path, frames=3)
    text = (folder / "scene0000_00.txt").read_text().replace("numColorFrames = 3", "numColorFrames = 4")
    (folder / "scene0000_00.txt").write_text(text)
    scene = open_scene(folder)
    assert len(scene) == 3 and scene.defects == {"frame_count_differs": 1}


def test_duplicated_groups_are_dropped(tmp_path):
    """scene0217_00 lists all of its objects a second time under new ids."""
    twice = GROUPS + [(i + 2, segments[::-1], label) for i, segments, label in GROUPS]
    scene = open_scene(scan(tmp_path, groups=twice))
    instances = scene.instances()
    np.testing.assert_array_equal(instances.vertex_ids, [1, 1, 1, 2, 0, 0])
    assert instances.labels == {1: "chair", 2: "table"}
    assert scene.defects == {"duplicate_objects": 2}


def test_two_objects_of_one_label_stay_two(tmp_path):
    """The label's segment list is shared with its first object in widely copied readers, which merges them."""
    groups = [(0, [4], "chair"), (1, [17, 30], "chair"), (2, [9, 17], "pile")]
    instances = open_scene(scan(tmp_path, groups=groups)).instances()
    np.testing.assert_array_equal(instances.vertex_ids, [1, 3, 3, 3, 2, 0])


def test_colour_of_another_size(tmp_path):
    """scene0704 and scene0705: colour as large as depth, with depth's intrinsics."""
    same = {"color_size": (32, 24), "color_K": (30.0, 30.5, 15.5, 11.5)}
    scene = open_scene(scan(tmp_path, **same))
    assert scene.color_camera == scene.depth_camera
    assert scene.color(0).shape[:2] == scene.depth(0).shape


def test_segments_of_the_other_mesh_are_refused(tmp_path):
    folder = scan(tmp_path, segments=SEGMENTS + [31])
    with pytest.raises(ValueError, match=r"segs\.json: segIndices has 7 entries, the mesh 6 vertices"):
        open_scene(folder).instances()


def test_aggregation_of_the_other_mesh_is_refused(tmp_path):
    folder = scan(tmp_path, groups=[(0, [100, 101, 102], "chair"), (1, [17], "table")])
    with pytest.raises(ValueError, match=r"aggregation\.json: 3 of its 4 segments are not in"):
        open_scene(folder).instances()
    aggregation = folder / "scene0000_00.aggregation.json"
    aggregation.write_text(aggregation.read_text().replace("_vh_clean_2.0.010000.segs", "_vh_clean.segs"))
    with pytest.raises(ValueError, match="full-resolution mesh"):
        open_scene(folder).instances()


def test_a_few_absent_segments_are_counted(tmp_path):
    many = list(range(1000, 1040))
    folder = scan(tmp_path, segments=many[:6], groups=[(0, many[:6], "chair"), (1, many[5:6], "b")])
    assert open_scene(folder).instances().labels == {1: "chair", 2: "b"}
    data = json.loads((folder / "scene0000_00.aggregation.json").read_text())
    data["segGroups"][0]["segments"] = [*many[:6]] * 3 + [7]
    data["segGroups"] += [{"objectId": k, "segments": many[k : k + 3], "label": "c"} for k in range(2, 4)]
    (folder / "scene0000_00.aggregation.json").write_text(json.dumps(data))
    scene = open_scene(folder)
    scene.instances()
    assert scene.defects == {"absent_segments": 1}


@pytest.mark.parametrize("missing", ["_vh_clean_2.ply", "_vh_clean_2.0.010000.segs.json", ".aggregation.json"])
def test_half_an_annotation_is_refused_by_name(tmp_path, missing):
    folder = scan(tmp_path)
    (folder / f"scene0000_00{missing}").unlink()
    with pytest.raises(ValueError, match=f"scene0000_00{missing}: missing"):
        open_scene(folder).instances()


def test_no_annotation_is_none(tmp_path):
    folder = scan(tmp_path)
    for name in ("_vh_clean_2.0.010000.segs.json", ".aggregation.json"):
        (folder / f"scene0000_00{name}").unlink()
    assert open_scene(folder).instances() is None


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"segGroups": [{"objectId": 0}]}',
        '{"segGroups": 3}',
        '{"segGroups": [{"objectId": 0, '
        '"segments": [4], "label": "a"}, {"objectId": 0, "segments": [9], "label": "b"}]}',
    ],
)
def test_damaged_aggregation_is_refused_by_name(tmp_path, text):
    folder = scan(tmp_path)
    (folder / "scene0000_00.aggregation.json").write_text(text)
    with pytest.raises(ValueError, match=r"aggregation\.json"):
        open_scene(folder).instances()


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"segIndices": [1.5, 2, 3, 4, 5, 6]}', '{"segIndices": [[1], 2]}'])
def test_damaged_segments_are_refused_by_name(tmp_path, text):
    folder = scan(tmp_path)
    (folder / "scene0000_00_vh_clean_2.0.010000.segs.json").write_text(text)
    with pytest.raises(ValueError, match=r"segs\.json"):
        open_scene(folder).instances()


def test_truncated_sens_of_a_scan(tmp_path):
    folder = scan(tmp_path, frames=5)
    path = folder / "scene0000_00.sens"
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(ValueError, match="truncated"):
        open_scene(folder)
    scene = open_scene(folder, salvage=True)
    assert scene.defects == {"truncated_frames": 5 - len(scene)}
    assert 0 < len(scene) < 5
