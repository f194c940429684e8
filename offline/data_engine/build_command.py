"""`roboref data build`: what is built from which scans."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from offline.data_engine.config import SceneConfig, TaskConfig

Phase = Literal["all", "scenes", "tasks", "assemble"]


@dataclass(frozen=True)
class Build:
    """Turn a folder of scans into training data.

    Phase "scenes" makes one folder of views per scan, "tasks" the samples of each, "assemble" joins them into
    t1_train_multi.json and the others, with manifest.json. "all" does the three. Killed anywhere, the same command
    goes on; the result does not depend on --workers or --shard. Exit status: 0, 1 if scans failed (see failed/),
    3 if the disk is full.
    """

    scans: Path
    """Folder with one subfolder or .sens file per scan, or one scan."""
    out: Path
    """Where the data goes."""
    phase: Phase = "all"
    """What to do now; "all" needs every scan in this run."""
    workers: int = 1
    """Scans at a time; each takes one core and up to about 1 GB."""
    shard: str = "0/1"
    """i/n: only this part of the scans, for job arrays (not with "assemble")."""
    train_list: Path | None = None
    """Official list of training scans, one id per line."""
    validation_list: Path | None = None
    """Official list of validation scans. With lists, scans in neither are left out."""
    validation_share: float = 0.1
    """Without lists: share of the places that is held out."""
    label_table: Path | None = None
    """scannetv2-labels.combined.tsv; by default the one beside the scans, if any."""
    scene: SceneConfig = field(default_factory=SceneConfig)
    task: TaskConfig = field(default_factory=TaskConfig)

    def run(self):
        """The Run that these settings describe. Raises ValueError naming what is wrong with them."""
        from offline.data_engine.runner import Run, find_jobs
        from offline.data_engine.splits import assign, read_list

        train = read_list(self.train_list) if self.train_list else []
        validation = read_list(self.validation_list) if self.validation_list else []
        jobs = find_jobs(
            self.scans,
            lambda ids: assign(ids, train, validation, self.validation_share, self.scene.seed),
        )
        table = self.label_table
        beside = (self.scans if self.scans.is_dir() else self.scans.parent) / "scannetv2-labels.combined.tsv"
        if table is None and beside.is_file():
            table = beside
        return Run(jobs, self.out.absolute(), self.scene, self.task, table)

    def shard_index(self) -> tuple[int, int]:
        """(index, count). Raises ValueError unless it reads i/n."""
        index, slash, count = self.shard.partition("/")
        if not (slash and index.isdigit() and count.isdigit() and int(count) > 0):
            raise ValueError(f"--shard must read i/n, for example 3/16, found {self.shard!r}")
        return int(index), int(count)

    def __call__(self) -> int:
        from offline.data_engine.assemble import assemble
        from offline.data_engine.runner import run_scenes, run_tasks

        run, shard = self.run(), self.shard_index()
        failed: list[str] = []
        if self.phase in ("all", "scenes"):
            failed += run_scenes(run, self.workers, shard)
        if self.phase in ("all", "tasks"):
            failed += run_tasks(run, self.workers, shard)
        if self.phase in ("all", "assemble"):
            manifest = assemble(run)
            for name, facts in manifest["files"].items():
                print(f"{facts['samples']:9d}  {run.layout.tasks / name}")
            kinds = ("frames", "objects", "views")
            removed = (f"{manifest['filtering'][kind]['removed_share']:.1%} of {kind}" for kind in kinds)
            print(f"filters removed {', '.join(removed)}; roboref data stats --out {run.out} says why")
        if failed:
            print(f"{len(failed)} scans failed: {', '.join(failed[:10])}; see {run.out / 'failed'}", file=sys.stderr)
        return 1 if failed else 0
