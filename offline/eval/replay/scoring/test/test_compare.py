from __future__ import annotations

import copy
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from roboref_core.referring.answer import Status
from roboref_core.views.locate import DepthSource
from roboref_core.views.visibility import Visibility

from offline.eval.records.node_answer import NodeAnswer
from offline.eval.records.replays import Question, Record, Truth, write_records
from offline.eval.replay.cli import main
from offline.eval.replay.scoring.compare import compare, read_replay
from offline.eval.scoring.paired import NOT_TESTED

TRUE = (1.0, 2.0, 3.0)
PIXEL = (10.0, 10.0)


def record(
    n: int, object_id: int, hidden: bool, off: float | None, *, query: int = 9, model: str = "m", fate="unchanged"
) -> Record:
    """An answer ``off`` metres, and ten times as many pixels, beside the truth; None: refused."""
    targets = []
    if off is not None:
        targets = [
            {
                "position": {"x": TRUE[0] + off, "y": TRUE[1], "z": TRUE[2]},
                "depth_source": int(DepthSource.SENSOR),
                "pixel": {"u": PIXEL[0] + 10 * off, "v": PIXEL[1]},
            }
        ]
    truth = Truth(Visibility.OCCLUDED if hidden else Visibility.VISIBLE, True, TRUE, PIXEL)
    question = Question(f"q{n:04d}", f"the thing {object_id}", object_id, "thing", 1, query, (3.0, 4.0), truth, fate)
    status = Status.NOT_VISIBLE if off is None else Status.FOUND
    message = {"status": int(status), "error_code": 0, "targets": targets, "model": model}
    return Record(question, NodeAnswer.from_message(message), 0.1, {} if hidden else {"mask": "mask.png"})


def changed(one: Record, **changes) -> Record:
    return replace(one, question=replace(one.question, **changes))


def write_replay(folder, sequences: dict[str, list[Record]], bag="abc", not_asked=()):
    for name, records in sequences.items():
        (folder / name).mkdir(parents=True)
        mask = np.zeros((30, 30), np.uint8)
        mask[8:13, 8:13] = 255
        cv2.imwrite(str(folder / name / "mask.png"), mask)
        write_records(records, folder / name / "questions.jsonl")
        (folder / name / "run.json").write_text(
            json.dumps({"bag": bag, "live": {"not_asked": dict.fromkeys(not_asked, "missed")} if not_asked else None})
        )
    return folder


def room(seed: int, errors: list[float | None], hidden: list[float | None]) -> list[Record]:
    first = 1000 * seed
    shown = [record(first + n, n // 2, False, off) for n, off in enumerate(errors)]
    return shown + [record(first + 500 + n, 50 + n, True, off) for n, off in enumerate(hidden)]


def rooms(error_of, hidden_of, count=6):
    return {
        f"seed-{seed}": room(seed, [error_of(seed, n) for n in range(12)], [hidden_of(seed, n) for n in range(6)])
        for seed in range(count)
    }


def jitter(seed: int, n: int) -> float:
    return float(np.random.default_rng([seed, n]).uniform(0.0, 0.02))


def test_equal_replays_differ_in_nothing(tmp_path):
    same = rooms(jitter, lambda seed, n: None)
    a, b = (read_replay(write_replay(tmp_path / name, same)) for name in "ab")
    found = compare(a, b)
    assert found["same_bags"]
    assert found["clusters"] == {"of": "sequence", "count": 6}
    untested = {"near_camera", "error_camera"}  # these records do not tell where the camera was
    for name, row in (found["shares"] | found["errors"]).items():
        assert (row["count"], row["verdict"]) == (0, NOT_TESTED) if name in untested else row["difference"] == 0.0
        assert name in untested or row["verdict"] == "within noise"
    assert found["shares"]["right"]["count"] == 6 * 18
    assert found["shares"]["refused"]["count"] == 6 * 6
    assert found["shares"]["mask"]["count"] == 6 * 12


@pytest.mark.parametrize("swapped", [False, True])
def test_a_clear_difference_is_found_in_2d_and_3d_and_its_direction(tmp_path, swapped):
    good = write_replay(tmp_path / "good", rooms(jitter, lambda seed, n: None))
    bad = write_replay(tmp_path / "bad", rooms(lambda s, n: jitter(s, n) + 0.3, lambda s, n: None if n % 2 else 0.0))
    order = (good, bad) if swapped else (bad, good)
    found = compare(*map(read_replay, order))
    winner = "A is better" if swapped else "B is better"
    assert found["shares"]["right"]["verdict"] == winner
    assert found["shares"]["near"]["verdict"] == winner
    assert found["shares"]["refused"]["verdict"] == winner
    assert found["shares"]["mask"]["verdict"] == winner
    assert found["errors"]["error_3d"]["verdict"] == winner
    assert found["errors"]["error_2d"]["verdict"] == winner
    assert abs(found["errors"]["error_3d"]["difference"]) == pytest.approx(0.3, abs=0.01)


def test_chance_is_within_noise(tmp_path):
    """Two models that are wrong one time in five, each by luck of its own."""

    def lucky(model):
        return lambda seed, n: 0.5 if np.random.default_rng([model, seed, n]).random() < 0.2 else 0.01

    a, b = (
        read_replay(write_replay(tmp_path / str(model), rooms(lucky(model), lambda s, n: None))) for model in (1, 2)
    )
    found = compare(a, b)
    assert found["shares"]["right"]["better_in"]["a"] > 0
    assert found["shares"]["right"]["verdict"] == "within noise"


def test_one_room_is_drawn_by_its_objects_and_few_objects_tell_nothing(tmp_path):
    a = read_replay(write_replay(tmp_path / "a", rooms(jitter, lambda s, n: None, count=1)))
    b = read_replay(write_replay(tmp_path / "b", rooms(lambda s, n: jitter(s, n) + 0.3, lambda s, n: None, count=1)))
    found = compare(a, b)
    assert found["clusters"] == {"of": "object", "count": 12}
    assert found["shares"]["near"]["verdict"] == "A is better"
    few = [{"seed-0": room(0, [off] * 4, [])} for off in (0.0, 0.5)]
    a, b = (read_replay(write_replay(tmp_path / name, rows)) for name, rows in zip(("c", "d"), few, strict=True))
    assert compare(a, b)["shares"]["near"]["verdict"] == NOT_TESTED


def test_an_error_is_wrong_and_undecidable_cases_do_not_count(tmp_path):
    rows = rooms(jitter, lambda s, n: None)
    other = copy.deepcopy(rows)
    for records in other.values():
        records[0] = replace(records[0], answer=NodeAnswer.from_message({"status": 5, "error_code": 17009}))
        records[1] = changed(records[1], truth=replace(records[1].question.truth, decidable=False))
    found = compare(*(read_replay(write_replay(tmp_path / n, r)) for n, r in (("a", rows), ("b", other))))
    assert found["shares"]["near"]["count"] == 6 * 11
    assert found["shares"]["near"]["better_in"] == {"a": 6, "b": 0}
    assert found["errors"]["error_3d"]["count"] == 6 * 10


def test_other_questions_other_bags_and_other_views_are_told(tmp_path):
    rows = rooms(jitter, lambda s, n: None)
    a = read_replay(write_replay(tmp_path / "a", rows))
    fewer = {name: records[1:] for name, records in rows.items()}
    with pytest.raises(ValueError, match=r"6 are in one only, e\.g\. q0000"):
        compare(a, read_replay(write_replay(tmp_path / "fewer", fewer)))
    missed = [f"q{1000 * seed:04d}" for seed in range(6)]
    live = compare(a, read_replay(write_replay(tmp_path / "live", fewer, not_asked=missed)))
    assert live["questions"] == 6 * 17
    assert live["not_asked"] == 6
    moved = copy.deepcopy(rows)
    moved["seed-0"][0] = changed(moved["seed-0"][0], mark=(9.0, 9.0))
    with pytest.raises(ValueError, match="q0000"):
        compare(a, read_replay(write_replay(tmp_path / "moved", moved)))
    later = copy.deepcopy(rows)
    later["seed-0"][0] = changed(later["seed-0"][0], query=10)
    found = compare(a, read_replay(write_replay(tmp_path / "later", later, bag="def")))
    assert found["other_view"] == 1
    assert not found["same_bags"]


def test_command(tmp_path, capsys):
    for name, off in (("a", 0.0), ("b", 0.3)):
        write_replay(tmp_path / name, rooms(lambda s, n, off=off: jitter(s, n) + off, lambda s, n: None))
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "found.json")]) == 0
    printed = capsys.readouterr().out
    assert "A is better" in printed
    assert "The bags differ" not in printed
    assert json.loads((tmp_path / "found.json").read_text())["shares"]["near"]["verdict"] == "A is better"
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "nothing")]) == 2
    assert "nothing: no finished replay" in capsys.readouterr().err
    (tmp_path / "b" / "seed-3" / "run.json").unlink()
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert "run.json is missing" in capsys.readouterr().err


def test_a_difference_on_what_was_moved_is_shown_by_itself(tmp_path):
    """B finds what was moved, A refuses it; of the rest they say the same."""
    a, b = {}, {}
    for seed in range(6):
        still = [record(1000 * seed + n, n // 2, False, 0.01) for n in range(8)]
        moved = range(8, 14)
        a[f"seed-{seed}"] = still + [record(1000 * seed + n, n, False, None, fate="moved") for n in moved]
        b[f"seed-{seed}"] = still + [record(1000 * seed + n, n, False, 0.01, fate="moved") for n in moved]
    found = compare(read_replay(write_replay(tmp_path / "a", a)), read_replay(write_replay(tmp_path / "b", b)))
    moved, unchanged = found["fates"]["moved"]["mask"], found["fates"]["unchanged"]["mask"]
    assert (moved["count"], moved["a"], moved["b"], moved["verdict"]) == (36, 0.0, 1.0, "B is better")
    assert (unchanged["count"], unchanged["difference"], unchanged["verdict"]) == (48, 0.0, "within noise")
    assert found["shares"]["mask"]["b"] == 1.0
