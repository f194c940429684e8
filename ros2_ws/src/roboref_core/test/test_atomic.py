"""Files and folders that appear whole or not at all; one writer at a time."""

from __future__ import annotations

import json
import multiprocessing
import os

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


def _hold(folder, held, release):
    with sole_writer(folder, "the first"):
        held.set()
        release.wait(30)


def test_a_second_writer_is_refused_with_the_first_ones_name(tmp_path):
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, held, release))
    process.start()
    try:
        assert held.wait(30)
        with pytest.raises(FolderInUse, match=f"the first .process {process.pid} on"), sole_writer(tmp_path, "second"):
            pass
    finally:
        release.set()
        process.join(30)
    with sole_writer(tmp_path, "second"):
        assert json.loads((tmp_path / ".writer.json").read_text())["pid"] == os.getpid()


def test_a_killed_writer_leaves_the_folder_free(tmp_path):
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, held, release))
    process.start()
    assert held.wait(30)
    process.kill()
    process.join(30)
    with sole_writer(tmp_path, "second"):
        pass
