"""A lock that nobody holds is removed once it is old; one that a living process holds is not."""

from __future__ import annotations

import os

import pytest
import torch
from torch.utils.file_baton import FileBaton

from offline.train.compile_locks import free_abandoned, is_open


@pytest.fixture
def lock(tmp_path):
    folder = tmp_path / f"py3_{torch.__version__}" / "some_operation"
    folder.mkdir(parents=True)
    return folder / "lock"


def test_a_lock_left_by_a_killed_process_is_removed(lock, tmp_path, capsys):
    if (child := os.fork()) == 0:
        FileBaton(str(lock)).try_acquire()
        os._exit(9)  # as a kill does: without release
    os.waitpid(child, 0)
    os.utime(lock, (0, 0))
    assert free_abandoned(tmp_path) == [lock]
    assert not lock.exists()
    assert str(lock) in capsys.readouterr().err


def test_a_lock_that_is_held_stays(lock, tmp_path):
    baton = FileBaton(str(lock))
    assert baton.try_acquire()
    os.utime(lock, (0, 0))
    assert is_open(lock)
    assert free_abandoned(tmp_path) == []
    baton.release()


def test_a_young_lock_is_waited_for(lock, tmp_path, capsys):
    """Another machine may be compiling: its processes cannot be seen here."""
    lock.touch()
    assert free_abandoned(tmp_path, patience=1.0) == [lock]
    assert "another machine" in capsys.readouterr().err


def test_the_cache_that_pytorch_uses_is_searched(lock, tmp_path, monkeypatch):
    lock.touch()
    os.utime(lock, (0, 0))
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    assert free_abandoned() == [lock]
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "none"))
    assert free_abandoned() == []
