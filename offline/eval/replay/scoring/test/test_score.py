from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from roboref_core.errors import ErrorCode
from roboref_core.geometry.pose import pose, to_quaternion, transform
from roboref_core.referring.answer import Status
from roboref_core.views.locate import DepthSource
from roboref_core.views.visibility import Visibility

from offline.eval.records.node_answer import NodeAnswer
from offline.eval.records.replays import Question, Record, Truth, digest, read_records, write_records
from offline.eval.replay.scoring.score import score


def record(
    folder,
    n,
    visibility="visible",
    decidable=True,
    status=Status.FOUND,
    off=0.0,
    pixel=(10.0, 10.0),
    code=0,
    fate="unchanged",
    mask="mask.png",
    **answer,
):
    """An answer ``off`` metres beside the truth, by a camera at the world's origin."""
    targets = []
    if status in (Status.FOUND, Status.FOUND_WITHOUT_POSITION):
        source = DepthSource.SENSOR if status == Status.FOUND else DepthSource.NONE
        targets = [
            {
                "position": {"x": 1.0 + off, "y": 2.0, "z": 3.0},
                "position_covariance": [0.01, 0, 0, 0, 0.01, 0, 0, 0, 0.01],
                "depth_source": int(source),
                "pixel": {"u": pixel[0], "v": pixel[1]},
            }
        ]
    truth = Truth(Visibility(visibility), decidable, (1.0, 2.0, 3.0), (10.0, 10.0), (1.0, 2.0, 3.0))
    question = Question(f"q{n}", "the mug", 1, "mug", 0, 9, (3.0, 4.0), truth, fate)
    message = {"status": int(status), "error_code": int(code), "targets": targets} | answer
    return Record(question, NodeAnswer.from_message(message), 0.01 * (n + 1), {"mask": mask}, folder)


def test_perfect_answers_score_perfect(folder):
    records = [record(folder, i) for i in range(5)] + [record(folder, 5, "occluded", status=Status.NOT_VISIBLE)]
    s = score(records)
    assert s["error_3d"]["median"] == 0.0
    assert s["hit_at_mask"]["value"] == 1.0
    assert s["not_visible"]["accuracy"]["value"] == 1.0
    assert s["error_3d"]["below_5cm"]["value"] == 1.0
    assert s["outcomes"] == {"hit": 5, "right refusal": 1}


def test_wrong_answers_score_zero(folder):
    records = [
        record(folder, 0, off=0.2, pixel=(14.0, 10.0)),  # just outside the mask
        record(folder, 1, status=Status.NOT_VISIBLE),
        record(folder, 2, status=Status.ERROR, code=ErrorCode.TF_ERROR),
        record(folder, 3, "out_of_frustum"),
        record(folder, 4, "occluded", status=Status.FOUND_WITHOUT_POSITION),
        record(folder, 5, "occluded", status=Status.UNKNOWN),
    ]
    s = score(records)
    assert s["hit_at_mask"]["value"] == 0.0
    assert s["error_3d"]["below_10cm"]["value"] == 0.0
    assert s["not_visible"]["recall"]["value"] == 0.0
    assert s["not_visible"]["false_refusals"]["hits"] == 1
    assert s["error_codes"] == {"NONE": 1, "TF_ERROR": 1}
    assert s["outcomes"] == {"error": 2, "false point": 2, "false refusal": 1, "miss": 1}


def test_an_error_counts_as_wrong_not_as_missing(folder):
    s = score([record(folder, 0), record(folder, 1, status=Status.ERROR, code=ErrorCode.TIMEOUT)])
    assert s["error_3d"]["below_5cm"]["value"] == 0.5
    assert s["hit_at_mask"]["value"] == 0.5
    assert s["not_visible"]["accuracy"]["value"] == 0.5


def test_undecidable_cases_and_holes_are_counted_apart(folder):
    records = [
        record(folder, 0, decidable=False, off=9.0),
        record(folder, 1, "unknown", status=Status.FOUND_WITHOUT_POSITION),
        record(folder, 2, "unknown", off=0.5),
        record(folder, 3, "unknown", off=0.3),
    ]
    s = score(records)
    assert s["error_3d"]["count"] == 0
    assert s["error_3d"]["median"] is None
    # Three of its stated standard deviations are 30 cm.
    assert s["no_depth"] == {"count": 3, "without_position": 1, "far_position": 2, "wrong_position": 1}
    assert s["not_visible"]["accuracy"]["total"] == 0


@pytest.mark.parametrize(
    ("pixel", "hit"), [((7.4, 10), 0), ((7.6, 10), 1), ((12.4, 10), 1), ((12.6, 10), 0), ((-1, 3), 0)]
)
def test_hit_at_the_edges_of_the_mask(folder, pixel, hit):
    assert score([record(folder, 0, pixel=pixel)])["hit_at_mask"]["hits"] == hit


@pytest.mark.parametrize(("off", "inside"), [(0.0, 1), (0.27, 1), (0.29, 0)])
def test_stated_ellipsoid(folder, off, inside):
    assert score([record(folder, 0, off=off)])["error_3d"]["inside_95"]["hits"] == inside  # 0.1 * sqrt(7.81) = 0.2796


def test_no_records_at_all(folder):
    s = score([])
    assert s["latency"]["p50"] is None
    assert s["hit_at_mask"] == {"hits": 0, "total": 0, "value": None, "low": 0.0, "high": 1.0}


def test_missing_mask_is_named(folder):
    with pytest.raises(ValueError, match=r"q0.*gone\.png"):
        score([record(folder, 0, mask="gone.png")])


def test_in_the_cameras_frame_the_error_of_its_pose_cancels(folder):
    """The node was told a pose 0.2 m and 90 degrees off: what it points at is right where the camera is."""
    off = pose(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), (0.2, 0, 0))
    place = transform(off, np.array([1.0, 2.0, 3.0]))
    x, y, z, w = to_quaternion(off)
    told = {"position": {"x": 0.2, "y": 0, "z": 0}, "orientation": {"x": x, "y": y, "z": z, "w": w}}
    target = {
        "header": {"frame_id": "map"},
        "position": dict(zip("xyz", place.tolist(), strict=True)),
        "position_covariance": [0.01, 0, 0, 0, 0.04, 0, 0, 0, 0.01],
        "depth_source": int(DepthSource.SENSOR),
        "pixel": {"u": 10.0, "v": 10.0},
    }
    view = {"header": {"frame_id": "camera"}, "has_camera_pose": True, "camera_pose": {"pose": told}}
    one = record(folder, 0, targets=[target], view=view)
    s = score([one])
    assert s["error_3d"]["median"] > 0.5
    assert s["error_camera"]["median"] < 1e-9
    assert s["error_camera"]["inside_95"]["hits"] == 1
    np.testing.assert_allclose(one.answer.in_camera.covariance, np.diag([0.04, 0.01, 0.01]), atol=1e-12)
    target["header"]["frame_id"] = "camera"  # a node without poses answers in the camera's frame
    target["position"] = {"x": 1.0, "y": 2.0, "z": 3.0}
    assert score([record(folder, 0, targets=[target], view=view)])["error_camera"]["median"] == 0.0


def test_records_round_trip_and_digest(folder):
    records = [record(folder, i) for i in range(3)]
    path = folder / "records.jsonl"
    write_records(records, path)
    read = read_records(path)
    assert [r.to_json() for r in read] == [r.to_json() for r in records]
    assert [r.question for r in read] == [r.question for r in records]
    assert score(read) == score(records)
    slower = [replace(r, latency=99.0) for r in records]
    slower[1] = replace(
        slower[1], answer=NodeAnswer.from_message(slower[1].answer.message | {"view": {"view_id": "a"}})
    )
    records[1] = replace(
        records[1], answer=NodeAnswer.from_message(records[1].answer.message | {"view": {"view_id": "b"}})
    )
    assert digest(records) == digest(slower)
    assert digest(records) != digest([record(folder, 0, off=1e-9), *slower[1:]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda line: line[:-9], r"records\.jsonl, line 2: not JSON"),
        (lambda line: "[]", r"records\.jsonl, line 2: expected an object, found list"),
        (lambda line: line.replace('"decidable": true, ', ""), r"line 2, field 'question\.truth\.decidable': Field"),
        (lambda line: line.replace('"u": 10.0', '"u": "left"'), r"line 2, field 'targets\.0\.pixel\.u': .*'?left"),
        (lambda line: line.replace('"status": 1', '"status": 77'), r"line 2, field 'status': .*found 77"),
    ],
)  # fmt: skip
def test_a_broken_record_is_named_by_file_line_and_field(folder, change, message):
    path = folder / "records.jsonl"
    write_records([record(folder, i) for i in range(3)], path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], change(lines[1]), lines[2]]))
    with pytest.raises(ValueError, match=message):
        read_records(path)
