"""The untrained model: RoboRefer's layout at a thousandth of its size."""

from __future__ import annotations

import json
from pathlib import Path

from roboref_core.models.roborefer.checkpoint.random import Shape, write_random_checkpoint

from offline.train.nano.pool import SIDE
from offline.train.nano.vocabulary import write_tokenizer

PATCH = 8
MAX_LENGTH = 1536
_INIT_SCALE = 0.04


def write_base(path: Path, seed: int = 0) -> Path:
    """A checkpoint with random weights.

    Pictures of about 4:3 become one tile of 10 x 10 tokens; wide ones, such as two views side by side, two tiles and a
    thumbnail.
    """
    vocabulary = write_tokenizer(path / "llm", MAX_LENGTH)
    shape = Shape(
        hidden=192,
        intermediate=512,
        layers=4,
        heads=6,
        kv_heads=2,
        vocabulary=vocabulary,
        tied=False,
        tower_hidden=128,
        tower_intermediate=384,
        tower_layers=4,
        tower_heads=4,
        image_size=SIDE,
        patch_size=PATCH,
        projector="mlp_downsample",
        aspect="dynamic",
        depth="own",
        max_length=MAX_LENGTH,
    )
    write_random_checkpoint(path, shape, seed, scale=_INIT_SCALE)
    write_tokenizer(path / "llm", MAX_LENGTH)
    root = json.loads((path / "config.json").read_text())
    # Every layer of so small a tower is used.
    root |= {"max_tiles": 2, "mm_vision_select_layer": -1}
    root["llm_cfg"]["rope_theta"] = 1e4
    (path / "config.json").write_text(json.dumps(root, indent=2, sort_keys=True) + "\n")
    (path / "llm" / "config.json").write_text(json.dumps(root["llm_cfg"], indent=2, sort_keys=True) + "\n")
    return path
