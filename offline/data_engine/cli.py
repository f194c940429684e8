"""``roboref data``: build, check, look at and validate training data."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from offline.data_engine.build_command import Build
from offline.data_engine.config import TaskConfig
from offline.data_engine.slurm import Slurm


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
        from offline.data_engine.building.rectify import rectified
        from offline.data_engine.checking.check import check_scene
        from offline.data_engine.sources import open_scene

        path = self.scene if self.scene.exists() else self.scans / self.scene
        scene = open_scene(path, color_intrinsics=self.color_intrinsics, depth_intrinsics=self.depth_intrinsics)
        report = check_scene(rectified(scene), self.out, self.frames, self.min_good, self.annotations)
        print(json.dumps({key: value for key, value in report.items() if key != "frames"}, indent=1))
        return 0 if report["passed"] else 1


@dataclass(frozen=True)
class Stats:
    """Counts of a built data set: by task, label, relation and reason, and what the filters removed."""

    out: Path
    """Folder that ``build`` wrote."""

    def __call__(self) -> int:
        from offline.data_engine.checking.stats import describe

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
        from offline.data_engine.checking.show import write_page

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
        from offline.data_engine.checking.validate import summarise, validate_files
        from offline.files import write_json

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
        from offline.data_engine.formats.convert import convert

        print(convert(self.how, self.source, self.target, self.image_root, self.split, self.seed))
        return 0


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
