from __future__ import annotations

import pytest
from roboref_core.errors import ErrorCode
from roboref_core.referring.answer import Status
from roboref_core.views.locate import DepthSource

from offline.eval.replay.scoring.record import digest, read_jsonl, write_jsonl
from offline.eval.replay.scoring.score import score


def record(
    n,
    visibility="visible",
    decidable=True,
    status=Status.FOUND,
    off=0.0,
    pixel=(10.0, 10.0),
    code=0,
    fate="unchanged",
    **answer,
):
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
    truth = {"visibility": visibility, "decidable": decidable, "point": [1.0, 2.0, 3.0], "pixel": [10.0, 10.0]}
    return {
        "question": {"question_id": f"q{n}", "truth": truth, "fate": fate},
        "answer": {"status": int(status), "error_code": int(code), "targets": targets} | answer,
        "latency": 0.01 * (n + 1),
        "files": {"mask": "mask.png"},
    }


def test_perfect_answers_score_perfect(folder):
    records = [record(i) for i in range(5)] + [record(5, "occluded", status=Status.NOT_VISIBLE)]
    s = score(records, folder)
    assert s["error_3d"]["median"] == 0.0
    assert s["hit_at_mask"]["value"] == 1.0
    assert s["not_visible"]["accuracy"]["value"] == 1.0
    assert s["error_3d"]["below_5cm"]["value"] == 1.0
    assert s["outcomes"] == {"pointed": 5, "rightly refused": 1}


def test_wrong_answers_score_zero(folder):
    records = [
        record(0, off=0.2, pixel=(14.0, 10.0)),  # just outside the mask
        record(1, status=Status.NOT_VISIBLE),
        record(2, status=Status.ERROR, code=ErrorCode.TF_ERROR),
        record(3, "out_of_frustum"),
        record(4, "occluded", status=Status.FOUND_WITHOUT_POSITION),
        record(5, "occluded", status=Status.UNKNOWN),
    ]
    s = score(records, folder)
    assert s["hit_at_mask"]["value"] == 0.0
    assert s["error_3d"]["below_10cm"]["value"] == 0.0
    assert s["not_visible"]["recall"]["value"] == 0.0
    assert s["not_visible"]["false_refusals"]["hits"] == 1
    assert s["error_codes"] == {"NONE": 1, "TF_ERROR": 1}
    assert s["outcomes"] == {"error": 2, "false point": 2, "false refusal": 1, "pointed": 1}


def test_an_error_counts_as_wrong_not_as_missing(folder):
    s = score([record(0), record(1, status=Status.ERROR, code=ErrorCode.TIMEOUT)], folder)
    assert s["error_3d"]["below_5cm"]["value"] == 0.5
    assert s["hit_at_mask"]["value"] == 0.5
    assert s["not_visible"]["accuracy"]["value"] == 0.5


def test_undecidable_cases_and_holes_are_counted_apart(folder):
    records = [
        record(0, decidable=False, off=9.0),
        record(1, "unknown", status=Status.FOUND_WITHOUT_POSITION),
        record(2, "unknown", off=0.5),
    ]
    s = score(records, folder)
    assert s["error_3d"]["count"] == 0
    assert s["error_3d"]["median"] is None
    assert s["no_depth"] == {"count": 2, "without_position": 1, "wrong_position": 1}
    assert s["not_visible"]["accuracy"]["total"] == 0


@pytest.mark.parametrize(
    ("pixel", "hit"), [((7.4, 10), 0), ((7.6, 10), 1), ((12.4, 10), 1), ((12.6, 10), 0), ((-1, 3), 0)]
)
def test_hit_at_the_edges_of_the_mask(folder, pixel, hit):
    assert score([record(0, pixel=pixel)], folder)["hit_at_mask"]["hits"] == hit


@pytest.mark.parametrize(("off", "inside"), [(0.0, 1), (0.27, 1), (0.29, 0)])
def test_stated_ellipsoid(folder, off, inside):
    assert score([record(0, off=off)], folder)["error_3d"]["inside_95"]["hits"] == inside  # 0.1 * sqrt(7.81) = 0.2796


def test_no_records_at_all(folder):
    s = score([], folder)
    assert s["latency"]["p50"] is None
    assert s["hit_at_mask"] == {"hits": 0, "total": 0, "value": None, "low": 0.0, "high": 1.0}


def test_missing_mask_is_named(folder):
    broken = record(0)
    broken["files"]["mask"] = "gone.png"
    with pytest.raises(ValueError, match=r"gone\.png.*q0"):
        score([broken], folder)


def test_jsonl_round_trip_and_digest(folder):
    records = [record(i) for i in range(3)]
    path = folder / "records.jsonl"
    write_jsonl(records, path)
    assert read_jsonl(path) == records
    slower = [record(i) for i in range(3)]
    slower[1]["latency"] = 99.0
    slower[1]["answer"]["view"] = {"view_id": "abc"}
    records[1]["answer"]["view"] = {"view_id": "def"}
    assert digest(records) == digest(slower)
    slower[1]["answer"]["targets"][0]["position"]["x"] += 1e-9
    assert digest(records) != digest(slower)
    path.write_text('{"a": 1}\n{"b":')
    with pytest.raises(ValueError, match="line 2"):
        read_jsonl(path)
