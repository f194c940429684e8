"""A built data set in numbers, from its manifest."""
from __future__ import annotations

from pathlib import Path

from offline.data_engine.files import read_json


def describe(out: Path) -> str:
    """The manifest of a run in words. Raises ValueError if there is none."""
    manifest = read_json(out / "manifest.json")
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
        lines += ["", f"{kind}: {filtering[kind]['removed_share']:.1%} removed"]
        lines += [f"  {count:9d}  {reason}" for reason, count in filtering[kind]["by_reason"].items()]
    inpainting = manifest["inpainting"]
    lines += [
        "",
        f"inpainted views: {inpainting['views']}; pixels from other views {inpainting['from_other_views']:.1%}, "
        f"{inpainting['by_inpainter']:.1%} by {', '.join(inpainting['inpainters']) or 'none'}",
        f"scenes: {len(manifest['scenes']['train'])} train, {len(manifest['scenes']['validation'])} validation, "
        f"{len(manifest['failed'])} failed; unreadable frames: {manifest['bad_frames']}",
    ]
    return "\n".join(lines)
