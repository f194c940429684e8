"""The kinds of models that can be fine-tuned; a base checkpoint's config.json says which it is."""

from __future__ import annotations

from pathlib import Path

from roboref_core.models.roborefer.checkpoint.config import checkpoint_root

from offline.files import read_json
from offline.train.families.base import Family
from offline.train.families.llava_onevision import LlavaOnevision
from offline.train.families.roborefer.family import RoboRefer

FAMILIES: dict[str, type[Family]] = {"llava_llama": RoboRefer, "llava_onevision": LlavaOnevision}


def family_of(checkpoint: Path) -> Family:
    """Raises ValueError if nothing here trains such a checkpoint."""
    file = checkpoint_root(checkpoint) / "config.json"
    config = read_json(file)
    found = config.get("model_type") if isinstance(config, dict) else None
    if found not in FAMILIES:
        raise ValueError(f"{file}: expected model_type {' or '.join(FAMILIES)}, found {found!r}")
    return FAMILIES[found]()
