"""``roboref data``: build, check, look at and validate training data."""
from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

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


@dataclass(frozen=True)
class Tasks:
    """Make training samples from a finished five_frames or x3 tree, whoever made it.

    Without the facts that ``build`` keeps beside its views, negatives are limited to painted-out objects and pictures
    of other places, and there are no referring expressions. Exit status as of ``build``.
    """

    tree: Path
    """Root of the tree: <split>/<scene>/uid_<n>/."""
    out: Path
    """Where the samples go."""
    workers: int = 1
    """Scenes at a time."""
    task: TaskConfig = field(default_factory=TaskConfig)

    def __call__(self) -> int:
        from offline.data_engine.assemble import assemble
        from offline.data_engine.runner import Run, run_tasks, tree_jobs

        tree = self.tree.absolute()
        run = Run(tree_jobs(tree), self.out.absolute(), task=self.task, tree=tree)
        failed = run_tasks(run, self.workers)
        for name, facts in assemble(run)["files"].items():
            print(f"{facts['samples']:9d}  {run.layout.tasks / name}")
        return 1 if failed else 0


@dataclass(frozen=True)
class Check:
    """Project a scan's mesh and objects into its frames, and score how well they fit.

    Writes a report as JSON and contact sheets as PNG. Scans without a mesh are checked frame against frame.
    Exit status: 0 if the share of agreeing frames reaches the threshold, else 1.
    """

    scene: Path
    """A scan's folder or .sens file, or the id of one in --scans."""
    scans: Path = Path("scans")
    """Where a scene that is given by its id lies."""
    out: Path = Path("out/check")
    """Where the report and the pictures go."""
    frames: int = 30
    """At most this many frames, evenly spaced."""
    min_good: float = 0.8
    """Share of the judged frames that must be good."""
    annotations: Path | None = None
    """A 2D instance zip (<scan>_2d-instance-filt.zip) to compare masks with; it is no truth either."""
    color_intrinsics: tuple[float, float, float, float] | None = None
    """fx fy cx cy [pixel] of colour, for folders without intrinsics."""
    depth_intrinsics: tuple[float, float, float, float] | None = None
    """fx fy cx cy [pixel] of depth, for folders without intrinsics."""

    def __call__(self) -> int:
        from offline.data_engine.check import check_scene
        from offline.data_engine.rectify import rectified
        from offline.data_engine.sources import open_scene

        path = self.scene if self.scene.exists() else self.scans / self.scene
        scene = open_scene(
            path, color_intrinsics=self.color_intrinsics, depth_intrinsics=self.depth_intrinsics
        )
        report = check_scene(rectified(scene), self.out, self.frames, self.min_good, self.annotations)
        print(json.dumps({key: value for key, value in report.items() if key != "frames"}, indent=1))
        return 0 if report["passed"] else 1


@dataclass(frozen=True)
class Stats:
    """Counts of a built data set: by task, label, relation and reason, and what the filters removed."""

    out: Path
    """Folder that ``build`` wrote."""

    def __call__(self) -> int:
        from offline.data_engine.stats import describe

        print(describe(self.out))
        return 0


@dataclass(frozen=True)
class Show:
    """Make a page to browse samples: their pictures, marks, mask, prompt and answer."""

    json_file: Path
    """A task file, ours or any in LLaVA's form."""
    html: Path = Path("out/show.html")
    """Page to write; it holds its pictures."""
    samples: int = 100
    """How many, drawn at random."""
    seed: int = 0
    """Of the draw."""
    image_root: Path = Path("/")
    """What relative picture paths start from."""

    def __call__(self) -> int:
        from offline.data_engine.show import write_page

        print(write_page(self.json_file, self.html, self.samples, self.seed, self.image_root))
        return 0


@dataclass(frozen=True)
class Validate:
    """Check task files, ours or foreign: pictures, sizes, points in masks, answers, duplicates, leakage.

    Exit status: 0 if nothing is wrong, else 1.
    """

    json_files: tyro.conf.Positional[tuple[Path, ...]]
    """Task files; those with "train" and "val" in their names are checked against each other."""
    image_root: Path = Path("/")
    """What relative picture paths start from."""
    report: Path | None = None
    """Write all findings here as JSON."""
    limit: int = 20
    """Print at most this many findings of each kind."""

    def __call__(self) -> int:
        from offline.data_engine.files import write_json
        from offline.data_engine.validate import summarise, validate_files

        findings = validate_files(list(self.json_files), self.image_root)
        print(summarise(findings, self.limit))
        if self.report:
            write_json(self.report, [finding.__dict__ for finding in findings])
        return 1 if findings else 0


@dataclass(frozen=True)
class Shrink:
    """Make the x3 form of a five_frames tree: pictures by area, masks by nearest neighbour."""

    source: Path
    """Root of the tree."""
    target: Path
    """Root of the smaller tree."""
    factor: int = 3

    def __call__(self) -> int:
        from offline.data_engine.five_frames import shrink_tree

        print(f"{shrink_tree(self.source, self.target, self.factor)} objects")
        return 0


@dataclass(frozen=True)
class Convert:
    """Read or write the data of other programs.

    "from-grounding": manipulation records (box, point, trajectory, choice) to our training JSON. "to-grounding":
    views of a five_frames tree to such records. "from-refspatial": a RefSpatial tree to training JSON.
    "to-refspatial": one of our task files to a RefSpatial tree.
    """

    how: tyro.conf.Positional[Literal["from-grounding", "to-grounding", "from-refspatial", "to-refspatial"]]
    source: Path
    """File or folder to read."""
    target: Path
    """File (folder for to-refspatial) to write."""
    image_root: Path = Path("/")
    """from-grounding: what picture paths start from."""
    split: Literal["train", "validation"] = "train"
    """to-grounding: of the tree."""
    seed: int = 0
    """to-grounding: of the points."""

    def __call__(self) -> int:
        from offline.data_engine.convert import convert

        print(convert(self.how, self.source, self.target, self.image_root, self.split, self.seed))
        return 0


@dataclass(frozen=True)
class Slurm:
    """Build on a cluster: one job array per phase, failed shards again, then the files are joined.

    Waits until all is done. Exit status as of ``build``.
    """

    build: Build
    """What to build; its --phase and --shard are set per job."""
    shards: int = 16
    """Jobs per array."""
    executor: Literal["slurm", "local", "debug"] = "slurm"
    """submitit's executor: a cluster, processes of this machine, or this process."""
    partition: str | None = None
    minutes: int = 240
    cpus: int = 4
    """Per job; as many scans at a time."""
    memory_gb: int = 8
    """Per job."""
    retries: int = 2
    """How often the shards that failed are submitted again."""
    logs: Path = Path("out/slurm")
    """Where submitit keeps scripts, logs and results."""
    dry_run: bool = False
    """Only print the batch script that does the same without submitit."""

    def __call__(self) -> int:
        from offline.data_engine.slurm import batch_script, run_on_slurm

        if self.dry_run:
            print(batch_script(self))
            return 0
        return run_on_slurm(self)


COMMANDS: dict[str, Callable] = {
    "build": Build,
    "tasks": Tasks,
    "check": Check,
    "stats": Stats,
    "show": Show,
    "validate": Validate,
    "shrink": Shrink,
    "convert": Convert,
    "slurm": Slurm,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit status; 2 means that the input or the settings are wrong."""
    from offline.data_engine.runner import DiskFull

    command = tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="roboref data", args=argv)
    try:
        return command() if callable(command) else int(command or 0)
    except DiskFull as error:
        print(f"roboref data: {error}; free some space and run the same command again", file=sys.stderr)
        return 3
    except (ValueError, OSError) as error:
        print(f"roboref data: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
