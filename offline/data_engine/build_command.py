"""`roboref data build`: what is built from which scans."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from roboref_core.command_line import ExitStatus

from offline.data_engine.config import SceneConfig, TaskConfig
from offline.data_engine.sources.discover import annotated_labels
from offline.data_engine.sources.labels import LABEL_FILE, LabelTable, unknown_labels
from offline.files import read_json

if TYPE_CHECKING:
    from offline.data_engine.jobs import SceneJob
    from offline.data_engine.runner import Run

Phase = Literal["all", "scenes", "tasks", "assemble"]
_DEFECTS = {
    "json_size_differs": "views whose JSON states another size than their pictures have; the pictures' is used",
    "json_box_differs": "views whose JSON states another box than their mask has; the mask's is used",
    "no_json": "objects without JSON: read from the names of their files",
    "unreadable_json": "objects whose JSON cannot be read: read from the names of their files",
    "no_label": "views without a label: they are asked for by their mark alone",
    "no_inpainted": "views without an inpainted picture",
    "no_object_label": "objects whose label is null or empty: they are asked for by their mark alone",
    "objects_from_boxes": "objects known by their boxes alone: their masks are coarse",
    "duplicate_objects": "objects that were annotated twice",
    "absent_segments": "segments of objects that no vertex bears",
    "varying_intrinsics": "frames whose focal length is more than 1 % from the one that is used",
    "unpaired_frames": "colour pictures without depth of the same moment",
    "incomplete_frames": "frames without colour or depth",
    "no_image_file": "poses without a picture",
    "other_camera": "frames of another camera than the main one",
    "no_axis_alignment": "scans without axis alignment",
    "frame_count_differs": "scans whose metadata state another number of frames",
}


@dataclass(frozen=True)
class Build:
    """Turn a folder of scans into training data.

    Phase "scenes" makes one folder of views per scan, "tasks" the samples of each, "assemble" joins them into
    t1_train_multi.json and the others, with manifest.json. "all" does the three. Killed anywhere, the same command
    goes on; the result does not depend on --workers or --shard. What a killed run left broken is found and built
    again. Exit status: 0; 1 if scans failed (see failed/); 75 if it was stopped or the disk is full.

      roboref data build --scans scans --out out/data --workers 4
    """

    scans: Path
    """One scan, or a folder with a subfolder or .sens file per scan, also in folders such as scans/ or Training/."""
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
    """Without lists: share of the places that is held out; of several places at least one, unless it is 0."""
    verify: bool = False
    """Read every finished file and compare its hash; else only sizes, and the hashes of files that changed."""
    annotations: Path | None = None
    """Folder with a folder per scan of ScanNet's mesh and annotation, if not beside the frames (scannet_frames_25k)."""
    label_table: Path | None = None
    """scannetv2-labels.combined.tsv; by default the one beside the scans or above them, if any."""
    scene: SceneConfig = field(default_factory=SceneConfig)
    task: TaskConfig = field(default_factory=TaskConfig)

    def run(self) -> Run:
        """The Run that these settings describe; what is left out is printed. Raises ValueError naming what is wrong."""
        from offline.data_engine.jobs import find_jobs
        from offline.data_engine.runner import Run
        from offline.data_engine.splits import assign, read_list

        train = read_list(self.train_list) if self.train_list else []
        validation = read_list(self.validation_list) if self.validation_list else []
        jobs, notes = find_jobs(
            self.scans,
            lambda ids: assign(ids, train, validation, self.validation_share, self.scene.seed),
            use_stated=not train and not validation,
        )
        for note in notes:
            print(note, file=sys.stderr)
        if self.annotations is not None and not self.annotations.is_dir():
            raise ValueError(f"{self.annotations}: no such folder")
        table = self.label_table
        folder = self.annotations or (self.scans if self.scans.is_dir() else self.scans.parent)
        beside = [place / LABEL_FILE for place in (folder, folder.absolute().parent)]
        if table is None:
            table = next((path for path in beside if path.is_file()), None)
        self._refuse_unknown_labels(jobs, table)
        return Run(jobs, self.out.absolute(), self.scene, self.task, table, annotations=self.annotations)

    def _refuse_unknown_labels(self, jobs: tuple[SceneJob, ...], path: Path | None) -> None:
        labels = self.scene.filters.labels
        if not labels:
            return

        def occurring() -> set[str]:
            scans = ((job.path, self.annotations / job.scene_id if self.annotations else None) for job in jobs)
            return {label for scan, annotations in scans for label in annotated_labels(scan, annotations)}

        wrong = unknown_labels(labels, LabelTable.read(path) if path else None, occurring)
        if wrong:
            raise ValueError(f"--scene.filters.labels: {'; '.join(wrong)}")

    def shard_index(self) -> tuple[int, int]:
        """(index, count). Raises ValueError unless it reads i/n."""
        index, slash, count = self.shard.partition("/")
        if not (slash and index.isdigit() and count.isdigit() and int(count) > 0):
            raise ValueError(f"--shard must read i/n, for example 3/16, found {self.shard!r}")
        return int(index), int(count)

    def __call__(self) -> int:
        from offline.data_engine.runner import run_scenes, run_tasks

        run, shard = self.run(), self.shard_index()
        failed: list[str] = []
        with run.alone(shard):
            if self.phase in ("all", "scenes"):
                failed += run_scenes(run, self.workers, shard, self.verify)
            if self.phase in ("all", "tasks"):
                failed += run_tasks(run, self.workers, shard)
            if self.phase in ("all", "assemble"):
                print_summary(run)
        return report_failures(run, failed)


def print_summary(run: Run) -> None:
    """Join the files of a run, and say what there is and what was left out."""
    from offline.data_engine.assemble import assemble

    manifest = assemble(run)
    for name, facts in manifest["files"].items():
        print(f"{facts['samples']:9d}  {run.layout.tasks / name}")
    if run.tree is None:
        kinds = ("frames", "objects", "views")
        removed = (f"{manifest['filtering'][kind]['removed_share']:.1%} of {kind}" for kind in kinds)
        print(f"filters removed {', '.join(removed)}; roboref data stats --out {run.out} says why")
    quarantined = [f"{scene}/{file}: {why}" for scene, files in manifest["quarantined"].items() for file, why in files]
    if quarantined:
        print(f"{len(quarantined)} files are not used:")
        print("\n".join(f"  {line}" for line in quarantined))
    for kind, count in manifest["defects"].items():
        print(f"{count:9d}  {_DEFECTS.get(kind, kind)}")


def report_failures(run: Run, failed: list[str]) -> int:
    """Print which scenes failed and why; returns the exit status."""
    for scene_id in sorted(set(failed)):
        path = run.out / "failed" / f"{scene_id}.json"
        reason = read_json(path)["error"] if path.exists() else "see above"
        print(f"{scene_id} failed: {reason}", file=sys.stderr)
    if failed:
        print(f"{len(set(failed))} scenes failed; {run.out / 'failed'} has a file for each", file=sys.stderr)
    return ExitStatus.BAD if failed else ExitStatus.DONE
