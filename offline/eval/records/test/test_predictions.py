"""The predictions file survives any cut, belongs to one model, and is written by one process at a time."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roboref_core.models.model_answer import Outcome
from roboref_core.models.vision_language_model import Generation

from offline.eval.records.predictions import PredictionLog, prediction_line, read_predictions

RUN = {"kind": "run", "run": "r1", "model": "m", "model_hash": "h"}


def line(name, text="NOT_VISIBLE", key=None):
    return prediction_line(name, key or f"key {name}", "asked", "r1", Generation(text, Outcome.UNPARSABLE))


def write(path, names):
    with PredictionLog(path, "h") as log:
        if not log.runs:
            log.append(RUN)
        for name in names:
            if name not in log.latest:
                log.append(line(name))
        return log


@given(st.integers(0, 10**9))
@settings(max_examples=60, deadline=None)
def test_a_file_cut_at_any_byte_is_completed_to_the_same_file(tmp_path_factory, where):
    path = tmp_path_factory.mktemp("cut") / "p.jsonl"
    names = ["a", "b", "ü", "d"]
    write(path, names)
    whole = path.read_bytes()
    path.write_bytes(whole[: where % (len(whole) + 1)])
    write(path, names)
    assert path.read_bytes() == whole


def test_repair_is_reported_and_a_line_that_only_lacks_its_end_is_kept(tmp_path):
    path = tmp_path / "p.jsonl"
    write(path, ["a", "b"])
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    log = write(path, ["a", "b"])
    assert log.repaired == 0 and path.read_bytes() == whole
    path.write_bytes(whole[:-20])
    assert write(path, []).repaired > 0
    assert list(read_predictions(path).by_id) == ["a"]


def test_garbage_in_the_middle_stays_and_is_counted(tmp_path):
    path = tmp_path / "p.jsonl"
    write(path, ["a"])
    with open(path, "ab") as file:
        file.write(b"\xff\xfe not a line\n\n")
    log = write(path, ["a", "b"])
    assert log.garbage == 1
    read = read_predictions(path)
    assert list(read.by_id) == ["a", "b"] and read.garbage == 1 and read.name == "m"
    with PredictionLog(path, "h") as again:
        assert again.line("key b")["id"] == "b", "offsets count what lies between"


def test_another_models_file_is_refused(tmp_path):
    path = tmp_path / "p.jsonl"
    write(path, ["a"])
    before = path.read_bytes()
    with pytest.raises(ValueError, match="give each model a file of its own"):
        PredictionLog(path, "another hash")
    assert path.read_bytes() == before


def test_a_second_process_is_refused(tmp_path):
    path = tmp_path / "p.jsonl"
    with PredictionLog(path, "h"):
        code = "import sys; from pathlib import Path; from offline.eval.records.predictions import PredictionLog as P; "
        code += "P(Path(sys.argv[1]), 'h')"
        done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert done.returncode == 1 and "another process is writing" in done.stderr
    PredictionLog(path, "h").__exit__()
