"""Memory that loading needs, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from roboref_core.models.roborefer.checkpoint.files import open_checkpoint
from roboref_core.models.roborefer.checkpoint.random import Shape, write_random_checkpoint

# 16 bit, 300 MB; tied, so that the embedding is the largest tensor by far.
SHAPE = Shape(
    hidden=768, intermediate=3072, layers=8, heads=12, kv_heads=2, vocabulary=60000, tower_hidden=384,
    tower_intermediate=1536, tower_layers=12, tower_heads=6, image_size=224,
)  # fmt: skip
LOAD = """
import resource, sys, torch
from roboref_core.models.roborefer.checkpoint.files import load_model
import transformers.models.qwen2.modeling_qwen2, transformers.models.siglip.modeling_siglip
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
load_model(sys.argv[2])
before = peak()
model = load_model(sys.argv[1], dtype=getattr(torch, sys.argv[3]))
print(peak() - before, sum(p.nbytes for p in {id(p): p for p in model.parameters()}.values()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_loading_takes_little_more_than_the_weights(tmp_path, random_checkpoint, dtype):
    path = write_random_checkpoint(tmp_path / "checkpoint", SHAPE, dtype=torch.bfloat16)
    assert open_checkpoint(path).nbytes > 200e6
    # A tiny model is loaded first, so that what libraries take is not counted.
    output = subprocess.run(
        [sys.executable, "-c", LOAD, str(path), str(random_checkpoint()), dtype],
        check=True,
        capture_output=True,
        text=True,
    )
    peak, weights = map(int, output.stdout.split())
    assert peak < 1.15 * weights + 70e6, f"{peak / 1e6:.0f} MB for {weights / 1e6:.0f} MB of weights"
