from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline.data_engine.assemble import SET_ASIDE, filtering
from offline.data_engine.checking.stats import describe, read_manifest
from offline.data_engine.config import FORMAT

REASONS = {
    "frames": ("kept", "blurred", "bad_pose", *SET_ASIDE["frames"]),
    "objects": ("kept", "immobile", "views_too_alike", *SET_ASIDE["objects"]),
    "views": ("kept", "cut_by_border", "unknown", *SET_ASIDE["views"]),
}
counters = st.fixed_dictionaries(
    {kind: st.dictionaries(st.sampled_from(names), st.integers(1, 500)) for kind, names in REASONS.items()}
)


@given(st.lists(counters.map(lambda counts: {"counts": counts | {"source_frames": 9}}), max_size=3))
def test_every_item_is_kept_removed_or_set_aside(scenes):
    result = filtering(scenes)
    assert result["source_frames"] == 9 * len(scenes)
    for kind in REASONS:
        facts = result[kind]
        total = sum(sum(scene["counts"][kind].values()) for scene in scenes)
        assert facts["kept"] + facts["removed"] + facts["set_aside"] == total == sum(facts["by_reason"].values())
        assert facts["kept"] == sum(scene["counts"][kind].get("kept", 0) for scene in scenes)
        usable = facts["kept"] + facts["removed"]
        assert facts["removed_share"] == (pytest.approx(facts["removed"] / usable, abs=1e-4) if usable else 0)


def manifest(counts: dict) -> dict:
    return {
        "format": FORMAT,
        "files": {},
        "samples": {},
        "dropped_samples": {},
        "failed": {},
        "bad_frames": 0,
        "scenes": {"train": ["scene0000_00"], "validation": []},
        "filtering": filtering([{"counts": counts | {"source_frames": 100}}]),
        "inpainting": {"views": 0, "from_other_views": 0.0, "by_inpainter": 0.0, "inpainters": []},
    }


def test_shares_add_up_and_say_what_was_never_a_candidate(tmp_path):
    counts = {
        "frames": {"kept": 20, "near_duplicate": 75, "blurred": 5},
        "objects": {"kept": 6, "structural": 10, "immobile": 3, "views_too_alike": 1},
        "views": {"kept": 30, "cut_by_border": 10, "not_seen": 60},
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest(counts)))
    text = describe(tmp_path, read_manifest(tmp_path))
    assert "objects: 20, 10 set aside (never candidates); of the other 10, 40.0% removed" in text
    for line in ("50.0%  set aside: structural", "15.0%  removed: immobile", "30.0%  kept", "5.0%  removed: blurred"):
        assert line in text
    for kind in REASONS:
        block = text.split(f"{kind}: ")[1].split("\n\n")[0]
        assert sum(map(float, re.findall(r"(\d+\.\d)%  ", block))) == pytest.approx(100)


def test_a_manifest_of_another_version_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 1}))
    with pytest.raises(ValueError, match="format 1, expected"):
        read_manifest(tmp_path)


def test_the_yield_is_extrapolated_with_its_spread(tmp_path):
    facts = manifest({kind: {"kept": 1} for kind in REASONS}) | {
        "scenes": {"train": ["scene0000_00", "scene0001_00"], "validation": []}
    }
    (tmp_path / "manifest.json").write_text(json.dumps(facts))
    for name, pairs in zip(facts["scenes"]["train"], (100, 300), strict=True):
        summary = tmp_path / "tasks" / "records" / "train" / f"{name}.done.json"
        counts = tmp_path / "five_frames" / "train" / name / "scene.json"
        for path in (summary, counts):
            path.parent.mkdir(parents=True, exist_ok=True)
        dropped = {"negatives_without_a_case": 7}
        summary.write_text(json.dumps({"counts": {"task": {"t1_multi": pairs}}, "dropped": dropped}))
        views = {"kept": 20, "cut_by_border": 9, "not_seen": 50}
        counts.write_text(json.dumps({"counts": {"source_frames": 500, "views": views, "objects": {"kept": 4}}}))
    text = describe(tmp_path, read_manifest(tmp_path), per_scene=True)
    # The mean is 200, its standard error 100.
    assert "1006 scenes like these: 201,200 pairs (4,024 to 398,376" in text
    assert "500,000 frames like these 1000: 200,000 pairs" in text
    assert re.search(r"scene0001_00 +0 +4 +20 +300  9 views: cut_by_border, 7 negatives_without_a_case\n", text)
