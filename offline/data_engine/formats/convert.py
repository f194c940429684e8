"""Whole files and trees between our form and others'."""

from __future__ import annotations

from pathlib import Path

from offline.data_engine.five_frames import scenes
from offline.data_engine.formats.manipulation import LeftOut, read_grounding, training_sample, write_grounding
from offline.data_engine.formats.refspatial import find_lists, read_list, write_tree
from offline.data_engine.formats.scene_grounding import scene_records
from offline.data_engine.task_build import load_scene
from offline.data_engine.task_files import read_samples
from offline.files import write_json


def convert(
    how: str, source: Path, target: Path, image_root: Path, split: str, seed: int
) -> tuple[str, tuple[LeftOut, ...]]:
    """Do one of the conversions of ``roboref data convert``; returns what was written, in words, and what was not."""
    if how == "from-grounding":
        found = read_grounding(source)
        write_json(target, [training_sample(record, image_root) for record in found.records])
        return f"{len(found.records)} samples in {target}", found.left_out
    if how == "to-grounding":
        records = (
            record
            for scene_id in scenes(source, split)
            for record in scene_records(load_scene(source, split, scene_id), source, seed)
        )
        return f"{write_grounding(target, records)} records in {target}, picture paths relative to {source}", ()
    if how == "from-refspatial":
        samples = [sample for listed in find_lists(source) for sample in read_list(listed, listed.depths.is_dir())]
        write_json(target, samples)
        return f"{len(samples)} samples in {target}", ()
    counts = write_tree(target, (_sample(*each) for each in read_samples(source)))
    return "\n".join(f"{count:9d}  {target / name}.json" for name, count in counts.items()) or "no sample fits", ()


def _sample(where: str, sample: object) -> dict:
    if not isinstance(sample, dict):
        raise ValueError(f"{where}: expected a sample, found {type(sample).__name__} {sample!r:.80}")
    return sample
