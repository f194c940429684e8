from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request

import cv2
import numpy as np
import pytest

from offline.data_engine.checking.audit import Audit, draw
from offline.data_engine.checking.audit_page import audit_server
from offline.data_engine.tasks.kinds import TASKS, first_file


@pytest.fixture
def out(tmp_path):
    (tmp_path / "tasks").mkdir()
    picture = tmp_path / "a.png"
    cv2.imwrite(str(picture), np.full((20, 30, 3), 90, np.uint8))
    samples = [
        {
            "id": f"t1_multi_{k}",
            "image": [str(picture), str(picture)],
            "task": "t1",
            "conversations": [{"from": "human", "value": f"where <is> {k}"}, {"from": "gpt", "value": "[(0.5, 0.5)]"}],
        }
        for k in range(30)
    ]
    (tmp_path / "tasks" / "t1_train_multi.json").write_text(json.dumps(samples))
    return tmp_path


def test_a_draw_is_the_beginning_of_a_longer_one(out):
    few, many = (draw(out, ("t1", "t2b"), "train", count, 0)["t1"] for count in (5, 12))
    assert few == many[:5] and [s["id"] for s in few] != [f"t1_multi_{k}" for k in range(5)]
    assert draw(out, ("t1",), "train", 5, 1)["t1"] != few
    with pytest.raises(ValueError, match=r"none of t1_val_multi\.json"):
        draw(out, ("t1",), "val", 5, 0)
    with pytest.raises(ValueError, match="no task t9; there are t1"):
        draw(out, ("t9",), "train", 5, 0)


def test_every_task_has_a_file_to_draw_from():
    names = [first_file(task, "val") for task in TASKS]
    assert names[:2] == ["t1_val_multi.json", "t2a_val_multi.json"] and names[-1] == "reasoning_val.json"


def test_verdicts_are_kept_and_taken_up_again(out):
    samples, path = draw(out, ("t1",), "train", 10, 0), out / "audit.json"
    audit = Audit(samples, path)
    for verdict, fault in (("right", ""), ("wrong", "point"), ("unclear", ""), ("right", "")):
        audit.record(audit.next()["id"], verdict, fault)
    audit.undo()
    again = Audit(samples, path)
    assert (again.judged, again.total) == (3, 10) and again.next() == samples["t1"][3]
    lines = again.report().splitlines()
    # 1 of 2: the Wilson interval is 9.5 to 90.5 %.
    assert lines[1].split() == ["t1", "1", "2", "50.0%", "9.5%", "to", "90.5%", "1"]
    assert lines[2].split() == ["1", "point"]
    samples["t1"][0]["conversations"][1]["value"] = "NOT_VISIBLE"
    assert Audit(samples, path).judged == 2, "a sample that changed is to be looked at again"
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"audit\.json: no verdicts"):
        Audit(samples, path)


def test_the_page_takes_keys_of_this_machine_only(out):
    audit = Audit(draw(out, ("t1",), "train", 2, 0), out / "audit.json")
    server = audit_server(audit, 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/"

    def ask(body, **headers):
        request = urllib.request.Request(
            url, json.dumps(body).encode(), {"Content-Type": "application/json", **headers}
        )
        with urllib.request.urlopen(request, timeout=20) as reply:
            return json.load(reply)

    try:
        with urllib.request.urlopen(url, timeout=20) as reply:
            assert b"<kbd>y</kbd>" in reply.read()
        first = ask({})
        assert "where &lt;is&gt;" in first["html"] and first["judged"] == 0
        second = ask({"id": first["id"], "verdict": "wrong", "fault": "mask"})
        assert second["id"] != first["id"] and second["judged"] == 1
        assert ask({"undo": True})["id"] == first["id"]
        for body, headers in (
            ({"id": "other", "verdict": "right"}, {}),
            ({"id": first["id"], "verdict": "good"}, {}),
            ([], {}),
            ({}, {"Content-Type": "text/plain"}),
            ({}, {"Host": "example.com:80"}),
        ):
            with pytest.raises(urllib.error.HTTPError):
                ask(body, **headers)
        for sample in audit.samples["t1"]:
            last = ask({"id": sample["id"], "verdict": "right"})
        assert last["id"] is None and last["judged"] == 2
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
