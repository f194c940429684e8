"""Files and folders that appear whole or not at all; one writer at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from roboref_core.atomic import FolderInUse, replacing, replacing_folder, sole_writer, write_bytes, write_json


def test_a_failed_write_keeps_what_was_there(tmp_path):
    path = tmp_path / "deep" / "file"
    write_bytes(path, b"old")
    with pytest.raises(RuntimeError), replacing(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_permissions_are_those_of_an_ordinary_file(tmp_path):
    write_bytes(tmp_path / "ours", b"")
    (tmp_path / "plain").touch()
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    write_json(tmp_path / "a.json", {"x": "ä"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"x": "ä"}


def test_a_folder_is_replaced_whole(tmp_path):
    target = tmp_path / "model"
    with replacing_folder(target) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a").write_text("1")
    with pytest.raises(RuntimeError), replacing_folder(target) as folder:
        (folder / "b").write_text("2")
        raise RuntimeError
    assert [p.name for p in target.rglob("*")] == ["sub", "a"]
    with replacing_folder(target) as folder:
        (folder / "b").write_text("2")
    assert [p.name for p in target.rglob("*")] == ["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


# A process started with a function of this file would have to find the file, which depends on pytest's release.
HOLD = """
import sys
from pathlib import Path
from roboref_core.atomic import sole_writer
with sole_writer(Path(sys.argv[1]), "the first"):
    print("held", flush=True)
    sys.stdin.readline()
"""


def holding(folder) -> subprocess.Popen:
    """A process that is the folder's writer until its input ends."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], text=True, **pipes)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_writer_is_refused_with_the_first_ones_name(tmp_path):
    process = holding(tmp_path)
    try:
        with pytest.raises(FolderInUse, match=f"the first .process {process.pid} on"), sole_writer(tmp_path, "second"):
            pass
    finally:
        process.communicate("", timeout=30)
    with sole_writer(tmp_path, "second"):
        assert json.loads((tmp_path / ".writer.json").read_text())["pid"] == os.getpid()


def test_a_killed_writer_leaves_the_folder_free(tmp_path):
    process = holding(tmp_path)
    process.kill()
    process.communicate(timeout=30)
    with sole_writer(tmp_path, "second"):
        pass
