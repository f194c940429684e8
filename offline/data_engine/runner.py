"""Many scenes: one process for each, any number at a time, the same bytes out.

A scene's result is one sealed folder and one records file; a run that was killed anywhere is resumed by running it
again: what is whole stays, what is broken is made again. Nothing a worker does depends on the others or their order.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import cv2
from roboref_core.atomic import sole_writer
from roboref_core.command_line import Stopped
from roboref_core.progress import Progress

from offline.data_engine.building.rectify import rectified
from offline.data_engine.building.scene_build import SceneBuilder
from offline.data_engine.config import SceneConfig, TaskConfig, config_hash
from offline.data_engine.five_frames import SPLITS
from offline.data_engine.jobs import SceneJob, shard_of
from offline.data_engine.sealed_folder import SEAL, broken_files, seal_digest
from offline.data_engine.sources import open_scene
from offline.data_engine.sources.labels import LabelTable
from offline.data_engine.task_build import build_tasks, choose_donors
from offline.data_engine.tree_survey import MIN_VIEWS, fingerprint, read_survey, write_survey
from offline.data_engine.workers import run_each, stopped_by_signals
from offline.files import read_json, write_json

DISK_FULL = 28
FAILED = 1


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

    def pictures(self, job: SceneJob) -> Path:
        return self.tasks / "pictures" / job.split / job.scene_id

    def survey(self, split: str, scene_id: str) -> Path:
        """Of a tree that was made elsewhere."""
        return self.root / "survey" / split / f"{scene_id}.json"

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
        tree: a finished five_frames tree, also of another program, in place of the first phase. None: the run makes its
            own.
        annotations: folder with a folder per scan that holds its mesh and annotation; None: they lie beside the frames.
    """

    jobs: tuple[SceneJob, ...]
    out: Path
    scene: SceneConfig = field(default_factory=SceneConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    label_table: Path | None = None
    tree: Path | None = None
    annotations: Path | None = None

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
        """Was the scene finished? Raises ValueError if it was made with other settings."""
        if self.tree is not None:
            path = self.layout.survey(job.split, job.scene_id)
            return path.exists() and read_survey(path).count >= MIN_VIEWS
        folder = self.layout.scene(job)
        return _matches(folder / "scene.json", self.scene_hash) and (folder / SEAL).exists()

    def broken(self, job: SceneJob, read_all: bool = False) -> list[str]:
        """What is wrong with a finished scene: files that are missing or differ from what was written."""
        if self.tree is None:
            return broken_files(self.layout.scene(job), read_all)
        survey = read_survey(self.layout.survey(job.split, job.scene_id))
        same = survey.fingerprint == fingerprint(self.tree, job.split, job.scene_id)
        return [] if same else [f"{self.layout.scene(job)}: its files have changed"]

    def content(self, job: SceneJob) -> str:
        """A hash of a finished scene's files."""
        if self.tree is None:
            return seal_digest(self.layout.scene(job))
        return read_survey(self.layout.survey(job.split, job.scene_id)).fingerprint

    @contextmanager
    def alone(self, shard: tuple[int, int] = (0, 1)) -> Iterator[None]:
        """Hold the output, or one shard of it, for this process, and let signals stop it like Ctrl-C.

        Raises FolderInUse naming the process that writes there.
        """
        index, count = shard
        purpose = "roboref data" if count == 1 else f"roboref data, shard {index}/{count}"
        with ExitStack() as stack:
            stack.enter_context(stopped_by_signals())
            stack.enter_context(sole_writer(self.out, purpose, shared=count > 1))
            if count > 1:
                stack.enter_context(sole_writer(self.out / "shards" / f"{index}-of-{count}", purpose))
            yield


def run_scenes(run: Run, workers: int = 1, shard: tuple[int, int] = (0, 1), read_all: bool = False) -> list[str]:
    """First phase. Returns the ids of the scenes that failed; each has a file under ``failed/``.

    Finished scenes are compared with their list of files, and built again if they are broken.

    Args:
        read_all: compare the content of all files, not only of those that changed since.
    Raises:
        ValueError: scenes are there that were made with other settings.
    """
    jobs = []
    for job in shard_of(run.jobs, *shard):
        broken = run.broken(job, read_all) if run.has_scene(job) else None
        if broken:
            more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
            print(f"scenes: {job.scene_id} is built again: {broken[0]}{more}", file=sys.stderr)
        if broken or broken is None:
            jobs.append(job)
    return _run(jobs, workers, _scene_job, run, "scenes")


def run_tasks(run: Run, workers: int = 1, shard: tuple[int, int] = (0, 1)) -> list[str]:
    """Second phase; needs the first to be over for all scenes of all shards.

    Raises ValueError if scenes are missing that have not failed either.
    """
    missing = [j.scene_id for j in run.jobs if not run.has_scene(j) and not run.layout.failure(j).exists()]
    if missing:
        raise ValueError(f"{len(missing)} scenes are not built yet ({', '.join(missing[:5])}): run that phase first")
    plan = TaskPlan.of(run)
    mine = [job for job in shard_of(run.jobs, *shard) if job.scene_id in plan.content]
    jobs = [job for job in mine if not _tasks_are_done(run, job, plan.hash_of(run, job))]
    return _run(jobs, workers, partial(_task_job, plan=plan), run, "tasks")


@dataclass(frozen=True)
class TaskPlan:
    """What the second phase needs to know of all scenes.

    Attributes:
        finished: split -> scenes that can be donors, sorted.
        content: scene -> hash of its files.
    """

    finished: dict[str, list[str]]
    content: dict[str, str]

    @classmethod
    def of(cls, run: Run) -> TaskPlan:
        jobs = [job for job in run.jobs if run.has_scene(job)]
        finished = {split: sorted(job.scene_id for job in jobs if job.split == split) for split in SPLITS}
        return cls(finished, {job.scene_id: run.content(job) for job in jobs})

    def hash_of(self, run: Run, job: SceneJob) -> str:
        """Of a scene's samples: they depend on the scene and on its donors."""
        donors = choose_donors(job.scene_id, self.finished[job.split], run.task.pairs.donors, run.task.seed)
        return config_hash(
            run.scene_hash, run.task, self.content[job.scene_id], [(name, self.content[name]) for name in donors]
        )


def _tasks_are_done(run: Run, job: SceneJob, wanted: str) -> bool:
    if not _matches(run.layout.done(job), wanted, stale_ok=True):
        return False
    size, digest = read_json(run.layout.done(job))["records"]
    records = run.layout.records(job)
    whole = records.is_file() and records.stat().st_size == size
    whole = whole and hashlib.sha256(records.read_bytes()).hexdigest() == digest
    return whole and not broken_files(run.layout.pictures(job))


def _run(jobs: list[SceneJob], workers: int, target: Callable[[Run, SceneJob], None], run: Run, name: str) -> list[str]:
    failed = []
    unit, total = "B" if run.tree is None else " objects", sum(job.size for job in jobs)
    with Progress(total=total, unit=unit, unit_scale=True, desc=name, disable=not jobs) as bar:

        def ended(job: SceneJob, status: int) -> None:
            if status == DISK_FULL:
                raise Stopped(
                    f"no space left on the device of {run.out} (at scene {job.scene_id}); free some and run the same "
                    "command again"
                )
            if status:
                failed.append(job.scene_id)
            if status < 0 or status not in (0, FAILED):
                reason = f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
                _note_failure(run, job, name, reason)
                Progress.write(f"{name}: {job.scene_id} {reason}", file=sys.stderr)
            bar.update(job.size)

        try:
            run_each(jobs, partial(target, run), workers, ended, ["offline.data_engine.runner"])
        finally:
            for job in jobs:
                _clear_drafts(run, job)
    with contextlib.suppress(OSError):
        (run.out / "failed").rmdir()
    return sorted(failed)


def _clear_drafts(run: Run, job: SceneJob) -> None:
    """Remove what killed workers left half-written."""
    folders = [run.layout.pictures(job), run.layout.records(job), run.layout.done(job), run.layout.failure(job)]
    if run.tree is None:
        folders.append(run.layout.scene(job))
    for path in folders:
        for kind in ("part", "old"):
            for draft in path.parent.glob(f".{path.name}.*.{kind}"):
                if draft.is_dir():
                    shutil.rmtree(draft, ignore_errors=True)
                else:
                    draft.unlink(missing_ok=True)


def _scene_job(run: Run, job: SceneJob) -> None:
    def work() -> None:
        _clear_drafts(run, job)
        if run.tree is not None:
            write_survey(run.layout.survey(job.split, job.scene_id), run.tree, job.split, job.scene_id)
            return
        annotations = run.annotations / job.scene_id if run.annotations else None
        scene = rectified(open_scene(job.path, annotations=annotations))
        if scene.scene_id != job.scene_id:
            raise ValueError(f"{job.path}: the source calls itself {scene.scene_id}, expected {job.scene_id}")
        table = LabelTable.read(run.label_table) if run.label_table else getattr(scene, "label_table", None)
        SceneBuilder(scene, run.scene, run.scene_hash, table).build(run.layout.tree, job.split)

    _guarded(run, job, "scenes", work)


def _task_job(run: Run, job: SceneJob, plan: TaskPlan) -> None:
    def work() -> None:
        _clear_drafts(run, job)
        survey_of = None
        if run.tree is not None:
            survey_of = {name: read_survey(run.layout.survey(job.split, name)) for name in plan.finished[job.split]}
        build_tasks(
            run.layout.tree,
            run.layout.tasks,
            job.split,
            job.scene_id,
            plan.finished[job.split],
            run.task,
            plan.hash_of(run, job),
            survey_of,
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
