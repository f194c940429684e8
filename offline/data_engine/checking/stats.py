"""A built data set in numbers, from its manifest."""

from __future__ import annotations

from pathlib import Path

from offline.data_engine.assemble import SET_ASIDE
from offline.data_engine.config import FORMAT
from offline.files import read_json


def describe(out: Path) -> str:
    """The manifest of a run in words. Raises ValueError if there is none, or one of another version."""
    manifest = read_json(out / "manifest.json")
    if manifest.get("format") != FORMAT:
        raise ValueError(
            f"{out / 'manifest.json'}: format {manifest.get('format')}, expected {FORMAT}: build it again, into a new "
            "folder"
        )
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
    inpainting = manifest["inpainting"]
    lines += [
        "",
        f"inpainted views: {inpainting['views']}; pixels from other views {inpainting['from_other_views']:.1%}, "
        f"{inpainting['by_inpainter']:.1%} by {', '.join(inpainting['inpainters']) or 'none'}",
        f"scenes: {len(manifest['scenes']['train'])} train, {len(manifest['scenes']['validation'])} validation, "
        f"{len(manifest['failed'])} failed; unreadable frames: {manifest['bad_frames']}",
    ]
    return "\n".join(lines)


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
