"""``roboref data``: build, check, look at and validate training data."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro
from roboref_core.command_line import CommandTable, ExitStatus

from offline.data_engine.config import TaskConfig
from offline.data_engine.tasks.kinds import TASKS


@dataclass(frozen=True)
class Tasks:
    """Make training samples from a finished five_frames or x3 tree, also of another program.

    Without the facts that `build` keeps beside its views, negatives are limited to painted-out objects and pictures
    of other places, and there are no referring expressions. Exit status as of `build`.

      roboref data tasks --tree five_frames --out out/tasks
    """

    tree: Path
    """Root of the tree: <split>/<scene>/uid_<n>/."""
    out: Path
    """Where the samples go."""
    workers: int = 1
    """Scenes at a time."""
    task: TaskConfig = field(default_factory=TaskConfig)

    def __call__(self) -> int:
        from offline.data_engine.build_command import print_summary, report_failures
        from offline.data_engine.jobs import notes_on_tree, tree_jobs
        from offline.data_engine.runner import Run, run_scenes, run_tasks

        tree = self.tree.absolute()
        run = Run(tree_jobs(tree), self.out.absolute(), task=self.task, tree=tree)
        for line in notes_on_tree(tree):
            print(line, file=sys.stderr)
        with run.alone():
            failed = run_scenes(run, self.workers)
            failed += run_tasks(run, self.workers)
            print_summary(run)
        return report_failures(run, failed)


@dataclass(frozen=True)
class Check:
    """Project a scan's mesh and objects into its frames, and score how well they fit.

    Writes a report as JSON and contact sheets as PNG. Scans without a mesh are checked frame against frame.
    Exit status: 0 if the share of agreeing frames reaches the threshold, else 1.

      roboref data check --scene scans/scene0000_00 --frames 10
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
    """A 2D instance zip (<scan>_2d-instance-filt.zip) to compare masks with; it is an estimate too."""
    color_intrinsics: tuple[float, float, float, float] | None = None
    """fx fy cx cy [pixel] of colour, for folders without intrinsics."""
    depth_intrinsics: tuple[float, float, float, float] | None = None
    """fx fy cx cy [pixel] of depth, for folders without intrinsics."""
    json: bool = False
    """Print the figures as JSON instead of lines, for scripts."""

    def __call__(self) -> int:
        from offline.data_engine.building.rectify import rectified
        from offline.data_engine.checking.check import check_scene
        from offline.data_engine.sources import open_scene
        from offline.files import as_json

        path = self.scene if self.scene.exists() else self.scans / self.scene
        scene = open_scene(path, color_intrinsics=self.color_intrinsics, depth_intrinsics=self.depth_intrinsics)
        report = check_scene(rectified(scene), self.out, self.frames, self.min_good, self.annotations)
        figures = {key: value for key, value in report.items() if key != "frames"}
        lines = [f"{key.replace('_', ' ')}: {value}" for key, value in figures.items()]
        print(as_json(figures) if self.json else "\n".join(lines))
        return 0 if report["passed"] else 1


@dataclass(frozen=True)
class Stats:
    """Counts of a built data set: by task, label, relation and reason, what was left out and why, and its yield.

    roboref data stats --out out/data --per-scene
    """

    out: Path
    """Folder that `build` wrote."""
    per_scene: bool = False
    """Also say for each scene what it gave and what was lost."""
    truth: Path | None = None
    """Simulated scans with true poses: also say how many labels are wrong, before the filters and after."""
    scans: Path | None = None
    """With --truth: the scans that were built from, if they are others (with errors of poses, for example)."""
    json: bool = False
    """Print the manifest as JSON instead of text, for scripts."""

    def __call__(self) -> int:
        from offline.data_engine.checking.stats import describe, read_manifest
        from offline.files import as_json

        manifest = read_manifest(self.out)
        if self.json:
            print(as_json(manifest))
            return ExitStatus.DONE
        print(describe(self.out, manifest, self.per_scene))
        if self.truth is not None:
            from offline.data_engine.checking.label_noise import label_noise

            print(f"\n{label_noise(self.out, manifest['scenes'], self.truth, self.scans or self.truth)}")
        return 0


@dataclass(frozen=True)
class Audit:
    """Look at a random draw of samples and say which are wrong, by keys on a page that this machine alone can open.

    Verdicts are kept one by one; the same command goes on where it was left, also with more --samples. Ctrl-C ends it,
    and it prints the share of wrong samples by task with its 95 % interval (Wilson; too narrow
    where scenes differ, since it counts samples).

      roboref data audit --out out/data --samples 50
    """

    out: Path
    """Folder that `build` or `tasks` wrote."""
    samples: int = 100
    """How many of each task."""
    tasks: tuple[str, ...] = tuple(TASKS)
    """Which to draw from."""
    split: Literal["train", "val"] = "train"
    """Which split to draw from."""
    verdicts: Path | None = None
    """Where verdicts are kept; by default audit.json in --out."""
    seed: int = 0
    """Seed of the draw."""
    port: int = 0
    """Port of the page; 0 takes a free one."""
    report: bool = False
    """Only print what was found so far."""

    def __call__(self) -> int:
        from roboref_core.atomic import sole_writer

        from offline.data_engine.checking import audit as auditing
        from offline.data_engine.checking.audit_page import audit_server

        path = self.verdicts or self.out / "audit.json"
        drawn = auditing.draw(self.out, self.tasks, self.split, self.samples, self.seed)
        audit = auditing.Audit(drawn, path)
        if not self.report:
            with sole_writer(path.with_name(f".{path.name}.lock"), "roboref data audit"):
                server = audit_server(audit, self.port)
                print(f"http://127.0.0.1:{server.server_port}/  (Ctrl-C ends)", flush=True)
                with contextlib.suppress(KeyboardInterrupt), server:
                    server.serve_forever()
        print(audit.report())
        return ExitStatus.DONE


@dataclass(frozen=True)
class Show:
    """Make a page to browse samples: their pictures, marks, mask, prompt and answer.

    roboref data show --json-file out/data/tasks/t1_val_multi.json --html show.html
    """

    json_file: Path
    """A task file, ours or any in LLaVA's form."""
    html: Path = Path("out/show.html")
    """Page to write; it holds its pictures."""
    samples: int = 100
    """How many, drawn at random."""
    seed: int = 0
    """Seed of the draw."""
    image_root: Path = Path("/")
    """What relative picture paths start from."""

    def __call__(self) -> int:
        from offline.data_engine.checking.show import write_page

        print(write_page(self.json_file, self.html, self.samples, self.seed, self.image_root))
        return 0


@dataclass(frozen=True)
class Validate:
    """Check task files, ours or foreign: pictures, sizes, points in masks, answers, duplicates, leakage.

    Files without a "task" field are judged by the form of their answers; what cannot be checked is said. Exit status: 0
    if nothing is wrong, else 1.

      roboref data validate out/data/tasks/t1_train_multi.json out/data/tasks/t1_val_multi.json
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
        from offline.data_engine.checking.validate import faults, summarise, validate_files
        from offline.files import write_json

        findings = validate_files(list(self.json_files), self.image_root)
        print(summarise(findings, self.limit))
        if self.report:
            write_json(self.report, [finding.__dict__ for finding in findings])
        return ExitStatus.BAD if faults(findings) else ExitStatus.DONE


@dataclass(frozen=True)
class Shrink:
    """Make the x3 form of a five_frames tree: pictures by area, masks by nearest neighbour, facts and frames with them.

    What is there and whole is kept. Exit status: 0, or 1 if views could not be read; they are named.

      roboref data shrink --source five_frames --target x3 --factor 3
    """

    source: Path
    """Root of the tree."""
    target: Path
    """Root of the smaller tree."""
    factor: int = 3
    """Pictures become this much smaller in both axes."""

    def __call__(self) -> int:
        from offline.data_engine.shrink import shrink_tree

        count, broken = shrink_tree(self.source, self.target, self.factor)
        print(f"{count} objects")
        for name, reason in sorted(broken.items()):
            print(f"left out: {name}: {reason}", file=sys.stderr)
        return ExitStatus.BAD if broken else ExitStatus.DONE


@dataclass(frozen=True)
class Convert:
    """Read or write the data of other programs.

    "from-grounding": manipulation records (box, contact point, trajectory, choice, planning) to our training JSON;
    records that cannot be used are left out, counted and named, and the exit status is 1. "to-grounding":
    views of a five_frames tree to such records. "from-refspatial": a RefSpatial tree to training JSON.
    "to-refspatial": one of our task files to a RefSpatial tree.

      roboref data convert from-refspatial --source RefSpatial --target refspatial.json
    """

    how: tyro.conf.Positional[Literal["from-grounding", "to-grounding", "from-refspatial", "to-refspatial"]]
    """What to make of what."""
    source: Path
    """File or folder to read."""
    target: Path
    """File (folder for to-refspatial) to write."""
    image_root: Path = Path("/")
    """from-grounding: what picture paths start from."""
    split: Literal["train", "validation"] = "train"
    """to-grounding: split of the tree."""
    seed: int = 0
    """to-grounding: seed of the points."""

    def __call__(self) -> int:
        from offline.data_engine.formats.convert import convert

        text, left_out = convert(self.how, self.source, self.target, self.image_root, self.split, self.seed)
        print(text)
        if left_out:
            print(f"{len(left_out)} records left out", file=sys.stderr)
        for one in left_out:
            print(f"left out: {one.where}: {one.reason}", file=sys.stderr)
        return ExitStatus.BAD if left_out else ExitStatus.DONE


_MODULE = "offline.data_engine.cli"
main = CommandTable(
    "roboref data",
    {
        "build": ("offline.data_engine.build_command:Build", "turn a folder of scans into training data"),
        "tasks": (f"{_MODULE}:Tasks", "make samples from a five_frames or x3 tree, also of another program"),
        "check": (f"{_MODULE}:Check", "project a scan's mesh and objects into its frames, and score the fit"),
        "stats": (f"{_MODULE}:Stats", "counts of a built data set, and what was left out and why"),
        "audit": (
            f"{_MODULE}:Audit",
            "say which samples of a random draw are wrong, and get the share with its interval",
        ),
        "show": (f"{_MODULE}:Show", "make a page to browse samples"),
        "validate": (f"{_MODULE}:Validate", "check task files, ours or foreign"),
        "shrink": (f"{_MODULE}:Shrink", "make the x3 form of a five_frames tree"),
        "convert": (f"{_MODULE}:Convert", "read or write the data of other programs"),
        "slurm": ("offline.data_engine.slurm:Slurm", "build on a cluster"),
    },
    example="roboref data build --scans scans --out out/data",
)

if __name__ == "__main__":
    raise SystemExit(main())
