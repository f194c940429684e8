"""The samples of one scene, from its folder: the second phase, which needs other scenes' pictures for "absent"."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from roboref_core.seeds import rng_of

from offline.data_engine.config import TaskConfig
from offline.data_engine.five_frames import objects, read_object, read_views
from offline.data_engine.sealed_folder import sealed_folder
from offline.data_engine.splits import space_of
from offline.data_engine.tasks.change import without_unseen_changes
from offline.data_engine.tasks.kinds import task_name
from offline.data_engine.tasks.pairs import SceneViews, pairs_not_made, pairs_of
from offline.data_engine.tasks.samples import SampleMaker
from offline.data_engine.tree_survey import Survey
from offline.files import read_json, write_bytes, write_json


def load_scene(tree: Path, split: str, scene_id: str, survey: Survey | None = None) -> SceneViews:
    """A finished scene: ours with its facts, or the five_frames folders of any other program.

    Args:
        survey: which of its views can be used; None: all must be whole.
    Raises:
        ValueError: without a survey, naming the first broken file.
    """
    folder = tree / split / scene_id
    views = {}
    for uid in objects(tree, split, scene_id):
        if survey is None:
            views[uid] = read_object(tree, split, scene_id, uid)
        else:
            views[uid] = survey.usable(uid, read_views(tree, split, scene_id, uid)[0])
    path = folder / "scene.json"
    facts = read_json(path) if path.exists() else None
    return SceneViews(split, scene_id, folder, {uid: found for uid, found in views.items() if found}, facts)


def choose_donors(scene_id: str, candidates: list[str], count: int, seed: int) -> list[str]:
    """Scenes of other places whose pictures surely do not hold this scene's objects."""
    others = [other for other in sorted(candidates) if space_of(other) != space_of(scene_id)]
    order = rng_of("donors", seed, scene_id).permutation(len(others))
    return [others[k] for k in order[:count]]


def build_tasks(
    tree: Path,
    out: Path,
    split: str,
    scene_id: str,
    candidates: list[str],
    config: TaskConfig,
    config_hash: str,
    surveys: Mapping[str, Survey] | None = None,
) -> dict:
    """Write ``records/{split}/{scene}.jsonl`` and its pictures; returns counts.

    Args:
        tree: root of the five_frames tree.
        out: root of the tasks.
        candidates: scenes of the same split that are finished.
        surveys: scene -> its survey, for a tree that was made elsewhere.
    """
    surveys = surveys or {}
    scene = load_scene(tree, split, scene_id, surveys.get(scene_id))
    scene, unseen = without_unseen_changes(scene, config.pairs.min_change)
    donors = [
        load_scene(tree, split, other, surveys.get(other))
        for other in choose_donors(scene_id, candidates, config.pairs.donors, config.seed)
    ]
    pictures = out / "pictures" / split / scene_id
    with sealed_folder(pictures) as draft:
        maker = SampleMaker(scene, draft, pictures, config.samples, config.seed)
        if unseen:
            maker.dropped.add("change_not_visible", unseen)
        pairs = pairs_of(scene, donors, config.pairs, config.seed)
        for reason, count in pairs_not_made(scene, pairs, config.pairs).items():
            maker.dropped.add(reason, count)
        samples = list(maker.samples(pairs))
    lines = "".join(json.dumps(sample, sort_keys=True) + "\n" for sample in samples).encode()
    write_bytes(out / "records" / split / f"{scene_id}.jsonl", lines)
    summary = {
        "scene_id": scene_id,
        "split": split,
        "config_hash": config_hash,
        "samples": len(samples),
        "records": [len(lines), hashlib.sha256(lines).hexdigest()],
        "counts": count_samples(samples),
        "dropped": dict(sorted(maker.dropped.counts.items())),
    }
    # Written last: its presence says that the records are complete.
    write_json(out / "records" / split / f"{scene_id}.done.json", summary)
    return summary


def count_samples(samples: list[dict]) -> dict[str, dict[str, int]]:
    """Numbers by task file, label, relation, and reason of the negatives."""
    counts: dict[str, Counter] = {"task": Counter(), "label": Counter(), "relation": Counter(), "reason": Counter()}
    for sample in samples:
        name = task_name(sample)
        counts["task"][name] += 1
        counts["label"][sample["label"] or "-"] += 1
        if "relation" in sample:
            counts["relation"][sample["relation"]] += 1
        visibility = sample["visibility"]
        counts["reason"][f"{name}:{visibility.get('reason', 'visible')}"] += 1
    return {key: dict(sorted(counter.items())) for key, counter in counts.items()}
