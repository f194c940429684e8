"""The last step of a run: records of all scenes joined into the files that trainers read, and a manifest.

A file for each task and form (``tasks.kinds``), split, and with or without grid, such as ``t1_train_multi_grid.json``.
They hold no dates and no machine: the same input and settings give the same bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from roboref_core.atomic import replacing

from offline.data_engine.config import FORMAT
from offline.data_engine.five_frames import SPLITS
from offline.data_engine.runner import Run
from offline.data_engine.splits import check_leakage
from offline.data_engine.tasks.kinds import file_name, task_name
from offline.data_engine.tree_survey import read_survey
from offline.files import read_json, write_json

SET_ASIDE = {
    "frames": ("near_duplicate", "no_object"),
    "objects": ("structural", "never_seen"),
    "views": ("out_of_frustum", "not_seen"),
}
"""Never a candidate, so it does not count as removed noise: frames that show nothing new, the building itself, objects
that no frame shows, views that do not exist."""


def assemble(run: Run) -> dict:
    """Write the task files and ``manifest.json``; returns the manifest."""
    layout = run.layout
    jobs = sorted((job for job in run.jobs if layout.done(job).exists()), key=lambda job: job.scene_id)
    check_leakage({split: [job.scene_id for job in jobs if job.split == split] for split in SPLITS})
    files: dict[str, dict] = {}
    for split in SPLITS:
        with ExitStack() as stack:
            writers: dict[str, _ListWriter] = {}
            for job in jobs:
                if job.split != split:
                    continue
                for sample in read_records(layout.records(job)):
                    name = file_name(task_name(sample), split)
                    if name not in writers:
                        writers[name] = _ListWriter(stack.enter_context(replacing(layout.tasks / name)))
                    writers[name].add(sample)
            files |= {name: writer.finish() for name, writer in sorted(writers.items())}
    for path in layout.tasks.glob("*.json"):
        # Of a run with other settings or other scenes.
        if path.name not in files:
            path.unlink()
    facts_files = (layout.scene(job) / "scene.json" for job in jobs)
    scenes = [read_json(path) for path in facts_files if path.exists()]
    done = [read_json(layout.done(job)) for job in jobs]
    surveys = [read_survey(layout.survey(job.split, job.scene_id)) for job in jobs] if run.tree is not None else []
    defects = sum((Counter(facts["defects"]) for facts in scenes), Counter())
    defects += sum((survey.defects for survey in surveys), Counter())
    manifest = {
        "format": FORMAT,
        "settings": {"scene": _plain(run.scene), "task": _plain(run.task)},
        "scene_hash": run.scene_hash,
        "seeds": {"scene": run.scene.seed, "task": run.task.seed},
        "scenes": {split: [job.scene_id for job in jobs if job.split == split] for split in SPLITS},
        "failed": {path.stem: read_json(path)["error"] for path in sorted((run.out / "failed").glob("*.json"))},
        "files": files,
        "samples": _sum(record["counts"] for record in done),
        "dropped_samples": dict(sorted(sum((Counter(r["dropped"]) for r in done), Counter()).items())),
        "filtering": filtering(scenes),
        "inpainting": _inpainting(scenes),
        "bad_frames": sum(len(facts["bad_frames"]) for facts in scenes),
        "defects": dict(sorted(defects.items())),
        "quarantined": {
            job.scene_id: sorted(survey.quarantined.items())
            for job, survey in zip(jobs, surveys, strict=False)
            if survey.quarantined
        },
    }
    write_json(run.out / "manifest.json", manifest)
    return manifest


def read_records(path: Path) -> Iterator[dict]:
    """The samples of one scene. Raises ValueError naming file and line."""
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path} line {number}: not valid JSON ({error})") from error


def filtering(scenes: list[dict]) -> dict:
    """How much was removed and why: numbers by reason, and the removed share of what could have been used."""
    counts = _sum(facts["counts"] | {"source_frames": {}} for facts in scenes)
    counts.pop("source_frames", None)
    result: dict[str, Any] = {"source_frames": sum(facts["counts"]["source_frames"] for facts in scenes)}
    for kind in ("frames", "objects", "views"):
        reasons = counts.get(kind, {})
        kept, aside = reasons.get("kept", 0), sum(reasons.get(reason, 0) for reason in SET_ASIDE[kind])
        removed = sum(reasons.values()) - kept - aside
        result[kind] = {
            "by_reason": reasons,
            "kept": kept,
            "set_aside": aside,
            "removed": removed,
            "removed_share": round(removed / (removed + kept), 4) if removed + kept else 0.0,
        }
    return result


class _ListWriter:
    """A JSON list written sample by sample to a file that appears when it is complete."""

    def __init__(self, file: IO[bytes]):
        self.count = 0
        self._file = file
        self._hash = hashlib.sha256()

    def add(self, sample: dict) -> None:
        self._write((",\n" if self.count else "[\n") + json.dumps(sample, sort_keys=True))
        self.count += 1

    def finish(self) -> dict:
        self._write("\n]\n")
        return {"samples": self.count, "sha256": self._hash.hexdigest()}

    def _write(self, text: str) -> None:
        self._file.write(text.encode())
        self._hash.update(text.encode())


def _sum(nested) -> dict[str, dict[str, int]]:
    totals: dict[str, Counter] = {}
    for counts in nested:
        for key, values in counts.items():
            totals.setdefault(key, Counter()).update(values)
    return {key: dict(sorted(counter.items())) for key, counter in sorted(totals.items())}


def _inpainting(scenes: list[dict]) -> dict:
    views = sum(facts["inpainting"]["views"] for facts in scenes)
    warped = sum(facts["inpainting"]["warped"] * facts["inpainting"]["views"] for facts in scenes)
    inpainters = sorted({facts["inpainting"]["inpainter"] for facts in scenes})
    return {
        "views": views,
        "from_other_views": round(warped / views, 4) if views else 0.0,
        "by_inpainter": round(1 - warped / views, 4) if views else 0.0,
        "inpainters": inpainters,
    }


def _plain(config) -> dict:
    return json.loads(json.dumps(dataclasses.asdict(config), default=lambda value: value.value))
