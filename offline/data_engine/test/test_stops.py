"""A build that is stopped in every way leaves no process behind, and the same command then writes the same bytes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from offline.data_engine.sealed_folder import SEAL, broken_files, sealed_folder
from offline.data_engine.test.test_runner import digest

MOMENTS = int(os.environ.get("ROBOREF_STOPS", "4"))
"""Random moments of the slow test; more by hand."""
WAYS = [(number, whom) for number in ("TERM", "HUP", "KILL") for whom in ("parent", "worker", "everything")]


def build(scans: Path, out: Path, workers: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "offline.data_engine.cli", "build", "--scans", str(scans), "--out", str(out)]
    options = ["--workers", str(workers), "--validation-share", "0", "--scene.filters.keep-immobile"]
    return subprocess.Popen(
        command + options, start_new_session=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )


def session(leader: int) -> list[int]:
    """Living processes of a session, the leader aside."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            # After the name in parentheses: state, parent, group, session.
            state, _, _, owner = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue
        if entry.name.isdigit() and int(owner) == leader and int(entry.name) != leader and state != "Z":
            found.append(int(entry.name))
    return found


def nobody_of(leader: int) -> bool:
    return not session(leader)


def workers_of(leader: int) -> list[int]:
    """Processes that work on a scene: those whose parent is the fork server."""
    parents = {}
    for pid in session(leader):
        try:
            parents[pid] = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    return [pid for pid, parent in parents.items() if parent in parents]


def stop(process: subprocess.Popen, number: str, whom: str) -> None:
    kind = getattr(signal, f"SIG{number}")
    if whom == "everything":
        os.killpg(process.pid, kind)
    elif whom == "parent":
        os.kill(process.pid, kind)
    else:
        for pid in workers_of(process.pid)[:1]:
            os.kill(pid, kind)


def wait_until(condition, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


@pytest.mark.slow
def test_stopped_at_random_moments_and_run_again(scans, tmp_path):
    out = tmp_path / "out"
    began = time.monotonic()
    process = build(scans, out, 1)
    assert process.communicate()[1] is not None and process.returncode == 0
    length = time.monotonic() - began
    expected = digest(out)
    shutil.rmtree(out)
    rng = random.Random(20)
    for k in range(MOMENTS):
        number, whom = WAYS[k % len(WAYS)] if MOMENTS >= len(WAYS) else rng.choice(WAYS)
        workers = 1 + k % 2
        process = build(scans, out, workers)
        time.sleep(rng.uniform(0.3, length))
        if process.poll() is None:
            stop(process, number, whom)
        if whom != "worker" and number != "KILL":
            errors = process.communicate(timeout=30)[1].decode()
            assert "Traceback" not in errors
        else:
            process.communicate(timeout=300)
        assert wait_until(partial(nobody_of, process.pid), 5), f"{number} of {whom}: processes are left"
        again = build(scans, out, workers)
        errors = again.communicate(timeout=300)[1].decode()
        assert again.returncode == 0, errors
        assert digest(out) == expected, f"{number} of {whom} with {workers} workers"
        assert not list(out.rglob("*.part")) and not list(out.rglob("*.old"))
        shutil.rmtree(out)


def test_ctrl_c_is_one_line_and_a_second_build_is_refused(scans, tmp_path):
    out = tmp_path / "out"
    process = build(scans, out, 2)
    try:
        assert wait_until(lambda: len(workers_of(process.pid)) == 2, 60)
        second = build(scans, out, 1)
        errors = second.communicate(timeout=60)[1].decode()
        assert second.returncode == 2 and f"process {process.pid} on" in errors
        os.killpg(process.pid, signal.SIGINT)
        errors = process.communicate(timeout=30)[1].decode().replace("\r", "\n")
        assert process.returncode == 75
        assert [line for line in errors.splitlines() if line and "B/s" not in line] == [
            "roboref data build: stopped; the same command goes on"
        ]
        assert wait_until(partial(nobody_of, process.pid), 5)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def test_a_seal_tells_what_is_broken(tmp_path):
    folder = tmp_path / "scene"
    with sealed_folder(folder) as draft:
        draft.write("a/one.bin", b"one")
        draft.json("two.json", {"b": 1})
    assert broken_files(folder) == [] and broken_files(folder, read_all=True) == []
    assert set(json.loads((folder / SEAL).read_text())) == {"a/one.bin", "two.json"}
    # A copy without its times is read once and found whole.
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, copy_function=shutil.copyfile)
    os.utime(copy / SEAL, (1, 1))
    assert broken_files(copy) == [] and (copy / SEAL).stat().st_mtime > 1
    (folder / "a/one.bin").write_bytes(b"eno")
    os.utime(folder / "a/one.bin", (1, 1))
    assert broken_files(folder) == []
    assert "content" in broken_files(folder, read_all=True)[0]
    os.utime(folder / "a/one.bin")
    os.utime(folder / SEAL, (1, 1))
    assert "content" in broken_files(folder)[0]
    (folder / "a/one.bin").write_bytes(b"longer")
    assert "6 bytes, expected 3" in broken_files(folder)[0]
    (folder / "a/one.bin").unlink()
    assert "one.bin" in broken_files(folder)[0]
    (folder / SEAL).write_text("[1]")
    assert "not a list of files" in broken_files(folder)[0]


def test_a_draft_that_fails_leaves_nothing(tmp_path):
    def fail():
        with sealed_folder(tmp_path / "scene") as draft:
            draft.write("one", b"one")
            raise OSError("no")

    with pytest.raises(OSError, match="no"):
        fail()
    assert list(tmp_path.iterdir()) == []
