"""Many scenes: one process for each, any number at a time, the same bytes out.

A scene's result is one folder, or one records file, that appears by renaming; a run that was killed anywhere is
resumed by running it again. Nothing a worker does depends on the others or on their order.
"""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import cv2
from tqdm import tqdm

from offline.data_engine import five_frames
from offline.data_engine.building.rectify import rectified
from offline.data_engine.building.scene_build import SceneBuilder
from offline.data_engine.config import SceneConfig, TaskConfig, config_hash
from offline.data_engine.five_frames import SPLITS
from offline.data_engine.sources import open_scene
from offline.data_engine.sources.labels import LabelTable
from offline.data_engine.task_build import build_tasks
from offline.files import read_json, write_json

DISK_FULL = 28
FAILED = 1


class DiskFull(RuntimeError):
    """There is no space left; nothing half-written was left behind."""


@dataclass(frozen=True)
class SceneJob:
    """One scene of a run.

    Attributes:
        scene_id: name of its folder or ``.sens`` file.
        path: of its source.
        split: "train" or "validation".
        size: bytes of the source, for the order of work.
    """

    scene_id: str
    path: Path
    split: str
    size: int


@dataclass(frozen=True)
class Layout:
    """Where a run's output lies; ``tree`` holds the scenes."""

    root: Path
    tree: Path

    @property
    def tasks(self) -> Path:
        return self.root / "tasks"

    def scene(self, job: SceneJob) -> Path:
        return self.tree / job.split / job.scene_id

    def records(self, job: SceneJob) -> Path:
        return self.tasks / "records" / job.split / f"{job.scene_id}.jsonl"

    def done(self, job: SceneJob) -> Path:
        return self.tasks / "records" / job.split / f"{job.scene_id}.done.json"

    def failure(self, job: SceneJob) -> Path:
        return self.root / "failed" / f"{job.scene_id}.json"


@dataclass(frozen=True)
class Run:
    """What a run does, the same for all its shards.

    Attributes:
        jobs: all scenes, in any order.
        out: where the output goes.
        scene: settings of the first phase.
        task: settings of the second.
        label_table: path of the label table, or None to use what lies beside the scans.
        tree: a finished five_frames tree, whoever made it: then there is no first phase. None: the run makes its own.
    """

    jobs: tuple[SceneJob, ...]
    out: Path
    scene: SceneConfig = field(default_factory=SceneConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    label_table: Path | None = None
    tree: Path | None = None

    @property
    def layout(self) -> Layout:
        return Layout(self.out, self.tree or self.out / "five_frames")

    @cached_property
    def scene_hash(self) -> str:
        if self.tree is not None:
            return config_hash("tree")
        table = hashlib.sha256(self.label_table.read_bytes()).hexdigest() if self.label_table else ""
        return config_hash(self.scene, table)

    def finished(self, split: str | None = None) -> list[str]:
        """Scenes whose folder is complete, sorted."""
        return sorted(
            job.scene_id for job in self.jobs if (split is None or job.split == split) and self.has_scene(job)
        )

    def has_scene(self, job: SceneJob) -> bool:
        """Is the scene's folder complete? Raises ValueError if it was made with other settings."""
        if self.tree is not None:
            return self.layout.scene(job).is_dir()
        return _matches(self.layout.scene(job) / "scene.json", self.scene_hash)

    def task_hash(self, split: str) -> str:
        """Of the second phase: it also depends on which other scenes there are."""
        return config_hash(self.scene_hash, self.task, self.finished(split))


def find_jobs(source: Path, splits: Callable[[list[str]], dict[str, str]]) -> tuple[SceneJob, ...]:
    """The scenes of a folder: one for each subfolder or ``.sens`` file in it.

    Args:
        source: a folder of scans, or one scan.
        splits: scene ids -> split by scene; scenes that it leaves out are no jobs.

    Raises:
        ValueError: no scenes.
    """
    source = Path(source)
    if not source.exists():
        raise ValueError(f"{source}: no such file or folder")
    children = sorted(source.iterdir()) if source.is_dir() else []
    paths = [path for path in children if path.suffix == ".sens" or (path.is_dir() and not path.name.startswith("."))]
    if source.is_file() or any(path.suffix == ".sens" and path.stem == source.name for path in paths):
        paths = [source]
    by_id = {(path.stem if path.suffix == ".sens" else path.name): path for path in paths}
    assigned = splits(sorted(by_id))
    jobs = tuple(SceneJob(name, by_id[name], split, _size(by_id[name])) for name, split in sorted(assigned.items()))
    if not jobs:
        raise ValueError(f"{source}: no scenes of the wanted splits, found {len(by_id)} folders or .sens files")
    return jobs


def tree_jobs(tree: Path) -> tuple[SceneJob, ...]:
    """The scenes of a five_frames tree. Raises ValueError if there are none."""
    jobs = tuple(
        SceneJob(scene_id, tree / split / scene_id, split, len(five_frames.objects(tree, split, scene_id)))
        for split in SPLITS
        if (tree / split).is_dir()
        for scene_id in five_frames.scenes(tree, split)
    )
    if not jobs:
        raise ValueError(f"{tree}: no scenes, expected {tree / SPLITS[0]}/<scene>/uid_<n>/")
    return jobs


def shard_of(jobs: Iterable[SceneJob], index: int, count: int) -> list[SceneJob]:
    """The jobs of shard ``index`` of ``count``, largest first: sizes are dealt out like cards.

    Raises ValueError unless 0 <= index < count.
    """
    if not 0 <= index < count:
        raise ValueError(f"shard {index}/{count}: the index must lie in 0..{count - 1}")
    return sorted(jobs, key=lambda job: (-job.size, job.scene_id))[index::count]


def run_scenes(run: Run, workers: int = 1, shard: tuple[int, int] = (0, 1)) -> list[str]:
    """First phase. Returns the ids of the scenes that failed; each has a file under ``failed/``.

    Raises ValueError if scenes are there that were made with other settings.
    """
    jobs = [job for job in shard_of(run.jobs, *shard) if not run.has_scene(job)]
    return _run(jobs, workers, _scene_job, run, "scenes")


def run_tasks(run: Run, workers: int = 1, shard: tuple[int, int] = (0, 1)) -> list[str]:
    """Second phase; needs the first to be over for all scenes of all shards.

    Raises ValueError if scenes are missing that have not failed either.
    """
    missing = [j.scene_id for j in run.jobs if not run.has_scene(j) and not run.layout.failure(j).exists()]
    if missing:
        raise ValueError(f"{len(missing)} scenes are not built yet ({', '.join(missing[:5])}): run that phase first")
    hashes = {split: run.task_hash(split) for split in SPLITS}
    jobs = [
        job
        for job in shard_of(run.jobs, *shard)
        if run.has_scene(job) and not _matches(run.layout.done(job), hashes[job.split], stale_ok=True)
    ]
    return _run(jobs, workers, _task_job, run, "tasks")


def _run(jobs: list[SceneJob], workers: int, target: Callable, run: Run, name: str) -> list[str]:
    """Run ``target(run, job)`` in one process per job, at most ``workers`` at a time."""
    # A worker is one thread: as many run as there are cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["offline.data_engine.runner"])
    waiting, running, failed = list(jobs), {}, []
    bar = tqdm(total=sum(job.size for job in jobs), unit="B", unit_scale=True, desc=name, disable=not jobs)
    try:
        while waiting or running:
            while waiting and len(running) < max(1, workers):
                job = waiting.pop(0)
                process = context.Process(target=target, args=(run, job))
                process.start()
                running[process.sentinel] = (process, job)
            for sentinel in multiprocessing.connection.wait(list(running)):
                process, job = running.pop(sentinel)
                process.join()
                if process.exitcode == DISK_FULL:
                    raise DiskFull(f"no space left on the device of {run.out} (at scene {job.scene_id})")
                if process.exitcode:
                    failed.append(job.scene_id)
                    if process.exitcode < 0:
                        reason = f"killed by {signal.Signals(-process.exitcode).name}"
                        _note_failure(run, job, name, reason)
                        tqdm.write(f"{name}: {job.scene_id} {reason}", file=sys.stderr)
                bar.update(job.size)
    finally:
        bar.close()
        for process, _ in running.values():
            process.terminate()
            process.join()
    return sorted(failed)


def _scene_job(run: Run, job: SceneJob) -> None:
    def work():
        scene = rectified(open_scene(job.path))
        if scene.scene_id != job.scene_id:
            raise ValueError(f"{job.path}: the source calls itself {scene.scene_id}, expected {job.scene_id}")
        table = LabelTable.read(run.label_table) if run.label_table else getattr(scene, "label_table", None)
        SceneBuilder(scene, run.scene, run.scene_hash, table).build(run.layout.tree, job.split)

    _guarded(run, job, "scenes", work)


def _task_job(run: Run, job: SceneJob) -> None:
    def work():
        candidates = run.finished(job.split)
        build_tasks(
            run.layout.tree, run.layout.tasks, job.split, job.scene_id, candidates, run.task, run.task_hash(job.split)
        )

    _guarded(run, job, "tasks", work)


def _guarded(run: Run, job: SceneJob, phase: str, work: Callable[[], None]) -> None:
    """Do the work of a child process; its exit code tells the parent how it went."""
    cv2.setNumThreads(1)
    try:
        work()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            os._exit(DISK_FULL)
        _fail(run, job, phase, error)
    except Exception as error:
        _fail(run, job, phase, error)
    run.layout.failure(job).unlink(missing_ok=True)


def _fail(run: Run, job: SceneJob, phase: str, error: Exception) -> None:
    _note_failure(run, job, phase, f"{type(error).__name__}: {error}", traceback.format_exc())
    print(f"{phase}: {job.scene_id} failed: {error}", file=sys.stderr, flush=True)
    os._exit(FAILED)


def _note_failure(run: Run, job: SceneJob, phase: str, reason: str, trace: str = "") -> None:
    write_json(
        run.layout.failure(job),
        {"scene_id": job.scene_id, "source": str(job.path), "phase": phase, "error": reason, "traceback": trace},
    )


def _matches(path: Path, wanted: str, stale_ok: bool = False) -> bool:
    if not path.exists():
        return False
    found = read_json(path).get("config_hash")
    if found != wanted and not stale_ok:
        raise ValueError(f"{path}: made with other settings (hash {found}, now {wanted})")
    return found == wanted


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
