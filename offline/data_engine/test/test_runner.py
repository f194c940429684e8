"""A run over real files: the same bytes whatever the workers, shards and kills."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from roboref_core import atomic

from offline.data_engine import runner
from offline.data_engine.assemble import assemble
from offline.data_engine.build_command import Build
from offline.data_engine.building.scene_build import SceneBuilder
from offline.data_engine.checking.validate import validate_files
from offline.data_engine.cli import main
from offline.data_engine.config import SceneConfig
from offline.data_engine.filters import FilterConfig
from offline.data_engine.jobs import SceneJob, find_jobs, shard_of, tree_jobs
from offline.data_engine.runner import Run, run_scenes, run_tasks
from offline.data_engine.slurm import Slurm, batch_script
from offline.data_engine.sources import open_scene
from offline.data_engine.splits import assign
from offline.files import read_json

SCENE_CONFIG = SceneConfig(filters=FilterConfig(keep_immobile=True))


def make_run(scans: Path, out: Path) -> Run:
    return Run(find_jobs(scans, lambda ids: assign(ids, train=ids))[0], out, SCENE_CONFIG)


def digest(root: Path) -> dict[str, str]:
    files_ = (path for path in sorted(root.rglob("*")) if path.is_file() and path.name != ".writer.json")
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files_}


@pytest.fixture(scope="module")
def reference(scans, tmp_path_factory):
    """The result of one worker in one go. Paths are part of records: every run of this module has the same one."""
    out = tmp_path_factory.mktemp("runs") / "out"
    run = make_run(scans, out)
    assert run_scenes(run, 1) == [] and run_tasks(run, 1) == []
    assemble(run)
    result = digest(out)
    kept = out.with_name("reference")
    out.rename(kept)
    return run, result, kept


def test_a_run_has_everything_and_the_validator_agrees(reference):
    run, result, kept = reference
    kept.rename(run.out)
    try:
        manifest = read_json(run.out / "manifest.json")
        assert manifest["scenes"] == {"train": ["scene0001_00", "scene0002_00"], "validation": []}
        assert {
            "t1_train_multi.json",
            "t1_train_concat.json",
            "t2a_train_multi.json",
            "t2b_train_multi.json",
            "referring_train.json",
            "t1_train_multi_grid.json",
        } <= set(manifest["files"])
        paths = [run.layout.tasks / name for name in manifest["files"]]
        assert validate_files(paths) == []
        assert not [name for name in result if ".part" in name]
        filtering = manifest["filtering"]
        assert filtering["frames"]["by_reason"]["kept"] > 0 and "structural" in filtering["objects"]["by_reason"]
        assert main(["stats", "--out", str(run.out)]) == 0
        assert main(["validate", *map(str, paths)]) == 0
        page = run.out.parent / "page.html"
        assert main(["show", "--json-file", str(paths[0]), "--html", str(page), "--samples", "3"]) == 0
        assert page.read_text().count("<article>") == 3
    finally:
        run.out.rename(kept)


@pytest.mark.slow
def test_two_workers_shards_and_kills_give_the_same_bytes(reference, scans):
    run, expected, _ = reference
    code = (
        "import sys; from pathlib import Path; from offline.data_engine.test.test_runner import make_run;"
        "from offline.data_engine.runner import run_scenes, run_tasks;"
        "run = make_run(Path(sys.argv[1]), Path(sys.argv[2]));"
        "run_scenes(run, 2); run_tasks(run, 2)"
    )
    for delay in (2.5, 4.0, 6.0, 9.0):
        # A session of its own, so that the kill takes the workers too.
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(scans), str(run.out)], start_new_session=True, stderr=subprocess.DEVNULL
        )
        time.sleep(delay)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    for index in (1, 0):
        assert run_scenes(run, 2, (index, 2)) == []
    for index in (0, 1):
        assert run_tasks(run, 1, (index, 2)) == []
    assemble(run)
    assert digest(run.out) == expected
    shutil.rmtree(run.out)


def test_a_broken_scan_fails_alone_and_is_named(scans, tmp_path):
    copies = tmp_path / "scans"
    shutil.copytree(scans / "scene0001_00", copies / "scene0001_00")
    (copies / "scene0009_00").mkdir()
    (copies / "scene0009_00" / "scene0009_00.sens").write_bytes(b"not a scan")
    run = make_run(copies, tmp_path / "out")
    assert run_scenes(run, 2) == ["scene0009_00"]
    failure = read_json(run.layout.failure(next(j for j in run.jobs if j.scene_id == "scene0009_00")))
    assert failure["phase"] == "scenes" and "scene0009_00.sens" in failure["error"]
    assert run_tasks(run, 1) == []
    assert set(assemble(run)["failed"]) == {"scene0009_00"}
    # What is there stays; other settings are refused, not mixed in.
    other = dataclasses.replace(run, scene=SceneConfig(seed=1))
    with pytest.raises(ValueError, match="other settings"):
        run_scenes(other)


def test_tasks_wait_for_all_scenes(scans, tmp_path):
    run = make_run(scans, tmp_path / "out")
    with pytest.raises(ValueError, match="2 scenes are not built yet"):
        run_tasks(run)


def test_a_full_disk_leaves_nothing_behind(scans, tmp_path, monkeypatch):
    scene = open_scene(scans / "scene0001_00")
    written = []

    def full(handle):
        written.append(handle)
        if len(written) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        SceneBuilder(scene, SCENE_CONFIG, "hash").build(tmp_path, "train")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def job_on_a_full_disk(run, job):
    """As a worker whose first write finds no space."""

    def work():
        raise OSError(errno.ENOSPC, "No space left on device")

    runner._guarded(run, job, "scenes", work)


def test_a_full_disk_stops_the_run_and_says_so(scans, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runner, "_scene_job", job_on_a_full_disk)
    lists = tmp_path / "train.txt"
    lists.write_text("scene0001_00 scene0002_00")
    out = tmp_path / "out"
    assert main(["build", "--scans", str(scans), "--out", str(out), "--train-list", str(lists)]) == 75
    assert "no space left" in capsys.readouterr().err
    assert not list((out / "failed").glob("*"))


def test_unreadable_frames_are_quarantined_not_fatal(scans, tmp_path):
    """Flip bytes in the middle of the file: some frame's depth or colour does not decode any more."""
    folder = tmp_path / "scene0001_00"
    shutil.copytree(scans / "scene0001_00", folder)
    for sidecar in folder.glob("*.npz"):
        sidecar.unlink()
    sens = folder / "scene0001_00.sens"
    scene = open_scene(folder)
    data = bytearray(sens.read_bytes())
    blob = scene.color_encoded(20).data
    at = data.find(blob)
    data[at : at + len(blob)] = b"\x00" * len(blob)
    sens.write_bytes(data)
    facts = SceneBuilder(open_scene(folder), SCENE_CONFIG, "hash").build(tmp_path / "out", "train")
    frame = str(scene.frame_ids[20])
    assert set(facts["bad_frames"]) <= {frame}
    assert f"{int(frame):06d}" not in facts["frames"] and facts["counts"]["frames"]["kept"] > 0


def test_shards_share_the_work_and_lose_none():
    jobs = [SceneJob(f"scene{i:04d}_00", Path("x"), "train", (i * 37) % 11) for i in range(23)]
    shards = [shard_of(jobs, i, 4) for i in range(4)]
    assert sorted(job.scene_id for shard in shards for job in shard) == [job.scene_id for job in jobs]
    assert all(shard == sorted(shard, key=lambda j: -j.size) for shard in shards)
    sizes = [sum(job.size for job in shard) for shard in shards]
    assert max(sizes) - min(sizes) <= 25
    assert shard_of(jobs[::-1], 2, 4) == shards[2]
    with pytest.raises(ValueError, match="index must lie"):
        shard_of(jobs, 4, 4)


def test_no_scans_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no scenes"):
        find_jobs(tmp_path, lambda ids: assign(ids))
    assert main(["build", "--scans", str(tmp_path / "nowhere"), "--out", str(tmp_path / "o")]) == 2


def test_the_batch_script_is_one_shell_can_read(scans, tmp_path):
    settings = Slurm(Build(scans, tmp_path / "an out", train_list=tmp_path / "list.txt"), shards=8, partition="cpu")
    script = batch_script(settings)
    assert "#SBATCH --array=0-7" in script and "--partition=cpu" in script and "'" in script
    assert subprocess.run(["bash", "-n"], input=script.encode(), check=False).returncode == 0


def test_a_foreign_tree_becomes_tasks(built, tmp_path):
    tree, out = tmp_path / "tree", tmp_path / "out"
    ours_only = shutil.ignore_patterns("scene.json", "frames", "*_depth.png")
    shutil.copytree(built, tree, ignore=ours_only)
    small = tmp_path / "x3"
    assert main(["shrink", "--source", str(tree), "--target", str(small)]) == 0
    assert main(["tasks", "--tree", str(small), "--out", str(out), "--workers", "2"]) == 0
    manifest = read_json(out / "manifest.json")
    assert manifest["scenes"]["train"] == ["scene0000_00", "scene0001_00"]
    assert {"t1_train_multi.json", "t2b_train_multi.json"} <= set(manifest["files"])
    assert not any(name.startswith("referring") for name in manifest["files"])
    assert validate_files([out / "tasks" / name for name in manifest["files"]]) == []
    with pytest.raises(ValueError, match="no scenes"):
        tree_jobs(out)


def test_a_scene_in_which_nothing_is_wanted_is_built_empty(scans, tmp_path):
    config = SceneConfig(filters=FilterConfig(labels=("unicorn",)))
    facts = SceneBuilder(open_scene(scans / "scene0001_00"), config, "hash").build(tmp_path, "train")
    assert facts["frames"] == {} and facts["referring"] == [] and facts["counts"]["objects"]["label_not_wanted"] > 0
