"""A built data set in numbers, from its manifest."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from offline.data_engine.assemble import SET_ASIDE
from offline.data_engine.config import FORMAT
from offline.files import read_json

_SCENES, _FRAMES = 1006, 500_000
"""What yields are extrapolated to: ScanNet++ has so many scenes, and its recordings so many frames in use."""
_PAIRS = "t1_multi"
"""A pair of views is counted once, in this form."""


def read_manifest(out: Path) -> dict[str, Any]:
    """The manifest of a run. Raises ValueError if there is none, or one of another version."""
    manifest = read_json(out / "manifest.json")
    if manifest.get("format") != FORMAT:
        raise ValueError(
            f"{out / 'manifest.json'}: format {manifest.get('format')}, expected {FORMAT}: build it again, into a new "
            "folder"
        )
    return manifest


def describe(out: Path, manifest: dict[str, Any], per_scene: bool = False) -> str:
    """The manifest of the run in ``out`` in words.

    Args:
        per_scene: also say for each scene what it gave and where its views were lost.
    """
    lines = ["samples"]
    lines += [f"  {facts['samples']:9d}  {name}" for name, facts in sorted(manifest["files"].items())]
    for kind, title in (("reason", "answers by reason"), ("relation", "relations"), ("label", "labels")):
        counts = manifest["samples"].get(kind, {})
        order = sorted(counts, key=lambda key: (-counts[key], key))
        lines += ["", title, *(f"  {counts[key]:9d}  {key}" for key in order[:40])]
    if manifest["dropped_samples"]:
        lines += ["", "samples not made"]
        lines += [f"  {count:9d}  {reason}" for reason, count in manifest["dropped_samples"].items()]
    filtering = manifest["filtering"]
    for kind in ("frames", "objects", "views"):
        lines += ["", *_filtered(kind, filtering[kind])]
    scenes = list(_scenes(out, manifest))
    lines += ["", *_yield(scenes)]
    if per_scene:
        lines += ["", *_by_scene(scenes)]
    inpainting = manifest["inpainting"]
    lines += [
        "",
        f"inpainted views: {inpainting['views']}; pixels from other views {inpainting['from_other_views']:.1%}, "
        f"{inpainting['by_inpainter']:.1%} by {', '.join(inpainting['inpainters']) or 'none'}",
        f"scenes: {len(manifest['scenes']['train'])} train, {len(manifest['scenes']['validation'])} validation, "
        f"{len(manifest['failed'])} failed; unreadable frames: {manifest['bad_frames']}",
    ]
    return "\n".join(lines)


def _scenes(out: Path, manifest: dict) -> Iterator[tuple[str, dict, dict]]:
    """Name, summary of the samples, and counts by reason (none for trees of other programs) of each scene."""
    for split, names in sorted(manifest["scenes"].items()):
        for name in names:
            summary = out / "tasks" / "records" / split / f"{name}.done.json"
            facts = out / "five_frames" / split / name / "scene.json"
            if summary.is_file():
                yield name, read_json(summary), read_json(facts)["counts"] if facts.is_file() else {}


def _yield(scenes: list[tuple[str, dict, dict]]) -> list[str]:
    """Pairs per scene and per frame, and what as many as ScanNet++ has would give, if they were like these."""
    pairs = [summary["counts"].get("task", {}).get(_PAIRS, 0) for _, summary, _ in scenes]
    if not pairs:
        return ["pairs of views: none"]
    mean = sum(pairs) / len(pairs)
    lines = [f"pairs of views ({_PAIRS}): {sum(pairs)} of {len(pairs)} scenes, {mean:.1f} a scene"]
    text = f"  {_SCENES} scenes like these: {_SCENES * mean:,.0f} pairs"
    if len(pairs) > 1:
        spread = math.sqrt(sum((n - mean) ** 2 for n in pairs) / (len(pairs) - 1) / len(pairs))
        low, high = (_SCENES * max(0.0, mean + sign * 1.96 * spread) for sign in (-1, 1))
        text += f" ({low:,.0f} to {high:,.0f}: two standard errors of the {len(pairs)} scenes)"
    lines.append(text)
    frames = sum(counts.get("source_frames", 0) for _, _, counts in scenes)
    if frames:
        lines.append(f"  {_FRAMES:,} frames like these {frames}: {_FRAMES * sum(pairs) / frames:,.0f} pairs")
    return lines


def _by_scene(scenes: list[tuple[str, dict, dict]]) -> list[str]:
    lines = ["scene            frames  objects  views  pairs  candidates lost"]
    for name, summary, counts in scenes:
        kept = [counts.get(kind, {}).get("kept", 0) for kind in ("frames", "objects", "views")]
        lost = Counter(summary["dropped"])
        for kind in ("objects", "views"):
            for reason, count in counts.get(kind, {}).items():
                if reason != "kept" and reason not in SET_ASIDE[kind]:
                    lost[f"{kind}: {reason}"] += count
        causes = ", ".join(f"{count} {reason}" for reason, count in sorted(lost.items(), key=lambda x: (-x[1], x[0])))
        pairs = summary["counts"].get("task", {}).get(_PAIRS, 0)
        lines.append(f"{name:16s} {kept[0]:6d}  {kept[1]:7d}  {kept[2]:5d}  {pairs:5d}  {causes}")
    return lines


def _filtered(kind: str, facts: dict) -> list[str]:
    """What became of all frames, objects or views: each reason with its share of all, the largest first."""
    reasons, kept, removed, aside = facts["by_reason"], facts["kept"], facts["removed"], facts["set_aside"]
    total = max(1, kept + removed + aside)
    groups = (
        ("kept", {"": kept}),
        ("removed", {r: n for r, n in reasons.items() if r != "kept" and r not in SET_ASIDE[kind]}),
        ("set aside", {r: n for r, n in reasons.items() if r in SET_ASIDE[kind]}),
    )
    lines = [
        f"{kind}: {kept + removed + aside}, {aside} set aside (never candidates); of the other {kept + removed}, "
        f"{facts['removed_share']:.1%} removed"
    ]
    for group, counts in groups:
        for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
            lines.append(f"  {count:9d} {count / total:6.1%}  {group}{': ' if reason else ''}{reason}")
    return lines
