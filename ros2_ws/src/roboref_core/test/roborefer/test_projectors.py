"""Projector types against the reference's recorded operations and its table of layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from roboref_core.models.roborefer.network.projectors import Projector, SpaceToDepth

C, H = 12, 20
WIDTHS = {
    "mlp_downsample": [(4 * C, H), (H, H)],
    "mlp_downsample_2x2_fix": [(4 * C, H), (H, H)],
    "mlp_downsample_3x3_fix": [(9 * C, 3 * C), (3 * C, H), (H, H)],
    "mlp_downsample_3x3_s2": [(9 * C, 3 * C), (3 * C, C), (C, C // 3), (C // 3, H), (H, H)],
    "mlp_downsample_3x3_s2_new": [(9 * C, 4 * C), (4 * C, 2 * C), (2 * C, C), (C, C // 3), (C // 3, H), (H, H)],
    "linear": [(C, H)],
    "mlp2x_gelu": [(C, H), (H, H)],
    "mlp3x_gelu": [(C, H), (H, H), (H, H)],
    "identity": [],
}


def test_space_to_depth_as_recorded(fixtures):
    recorded = np.load(fixtures / "downsample_ops.npz")
    for key in recorded.files:
        kind, grid = key.rsplit("_g", 1)
        tokens = torch.arange(1.0, int(grid) ** 2 * 2 + 1).view(1, -1, 2)
        assert np.array_equal(SpaceToDepth(3 if "3x3" in kind else 2)(tokens), recorded[key]), key


@pytest.mark.parametrize("kind", WIDTHS)
def test_layers_and_their_indices(kind):
    projector = Projector(kind, C, H)
    linears = {name: layer for name, layer in projector.named_modules() if isinstance(layer, torch.nn.Linear)}
    assert [(layer.in_features, layer.out_features) for layer in linears.values()] == WIDTHS[kind]
    if "downsample" in kind:
        # 0 is space-to-depth, then LN, Linear, GELU in turn; the last Linear has no LN before it.
        last = 3 * len(linears) - 2
        assert list(linears) == [f"layers.{i}" for i in (*range(2, last, 3), last)]
    elif "gelu" in kind:
        assert list(linears) == [f"layers.{i}" for i in range(0, 2 * len(linears), 2)]
    grid = 7
    cells = -(-grid // projector.factor)
    out = projector(torch.randn(2, grid * grid, C))
    assert out.shape == (2, cells * cells, C if kind == "identity" else H)


def test_a_grid_that_is_not_square_is_refused():
    with pytest.raises(ValueError, match="square grid"):
        SpaceToDepth(2)(torch.zeros(1, 6, 1))
