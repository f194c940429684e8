"""Projectors from vision features to LLM embeddings, with the state-dict indices of the reference."""

from __future__ import annotations

import re

import torch
from torch import nn
from torch.nn import functional as F

DOWNSAMPLE = {
    "mlp_downsample": 2,
    "mlp_downsample_2x2_fix": 2,
    "mlp_downsample_3x3_fix": 3,
    "mlp_downsample_3x3_s2": 3,
    "mlp_downsample_3x3_s2_new": 3,
}


class SpaceToDepth(nn.Module):
    """Joins each ``factor`` x ``factor`` block of a square token grid into one token.

    (B, g*g, C) row-major -> (B, ceil(g/factor)^2, factor^2 * C), channels ordered (dy, dx, c); the grid
    is padded with zeros at the bottom and at the right.
    """

    def __init__(self, factor: int):
        super().__init__()
        self.factor = factor

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        batch, count, channels = tokens.shape
        side = round(count**0.5)
        if side * side != count:
            raise ValueError(f"expected a square grid of tokens, found {count} tokens")
        k = self.factor
        pad = -side % k
        grid = F.pad(tokens.reshape(batch, side, side, channels), (0, 0, 0, pad, 0, pad))
        cells = (side + pad) // k
        blocks = grid.view(batch, cells, k, cells, k, channels).permute(0, 1, 3, 2, 4, 5)
        return blocks.reshape(batch, cells * cells, k * k * channels)


class Projector(nn.Module):
    """One of the reference's projector types; ``layers.I`` are its state-dict names.

    Input (B, N, channels), output (B, N', hidden). ``factor`` x ``factor`` tokens become one.
    """

    def __init__(self, kind: str, channels: int, hidden: int):
        super().__init__()
        self.factor = DOWNSAMPLE.get(kind, 1)
        self.layers = nn.Sequential(*_layers(kind, channels, hidden))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.layers(features)


def _layers(kind: str, channels: int, hidden: int) -> list[nn.Module]:
    if kind == "identity":
        return []
    if kind == "linear":
        return [nn.Linear(channels, hidden)]
    if match := re.fullmatch(r"mlp(\d)x_gelu", kind):
        rest = [layer for _ in range(int(match[1]) - 1) for layer in (nn.GELU(), nn.Linear(hidden, hidden))]
        return [nn.Linear(channels, hidden), *rest]
    k = DOWNSAMPLE[kind]
    widths = {
        "mlp_downsample": (),
        "mlp_downsample_2x2_fix": (),
        "mlp_downsample_3x3_fix": (3 * channels,),
        "mlp_downsample_3x3_s2": (3 * channels, channels, channels // 3),
        "mlp_downsample_3x3_s2_new": (4 * channels, 2 * channels, channels, channels // 3),
    }[kind]
    layers: list[nn.Module] = [SpaceToDepth(k)]
    width = k * k * channels
    for out in (*widths, hidden):
        layers += [nn.LayerNorm(width), nn.Linear(width, out), nn.GELU()]
        width = out
    return [*layers, nn.Linear(hidden, hidden)]
