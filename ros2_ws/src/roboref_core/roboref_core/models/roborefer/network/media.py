"""Tiles to features: tower, merge of scales, projector, and the text around each picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from roboref_core.models.roborefer.checkpoint.config import ModelConfig
from roboref_core.models.roborefer.checkpoint.config_schema import ProcessorConfig
from roboref_core.models.roborefer.network.tiling import Tiles

# Tiles that a CPU takes through the tower at once: what lies between its layers then stays in the caches.
_CPU_TILES = 4


def normalise(pixels: torch.Tensor, processor: ProcessorConfig, dtype: torch.dtype) -> torch.Tensor:
    """(N, 3, S, S) uint8 to the tower's input, computed in float32."""
    mean = pixels.new_tensor(processor.image_mean, dtype=torch.float32).view(3, 1, 1)
    std = pixels.new_tensor(processor.image_std, dtype=torch.float32).view(3, 1, 1)
    return ((pixels.float() * processor.rescale_factor - mean) / std).to(dtype)


def tower_features(tower: Any, pixels: torch.Tensor, layer: int, feature: str) -> torch.Tensor:
    """(N, tokens, C): hidden state ``layer`` of a SiglipVisionModel; 0 is the embedding's output.

    Blocks above the selected one are not run, and its output gets no post_layernorm.
    """
    depth = layer if layer >= 0 else len(tower.encoder.layers) + 1 + layer
    hidden = tower.embeddings(pixels)
    for block in tower.encoder.layers[:depth]:
        hidden = block(hidden, attention_mask=None)
    return hidden[:, 1:] if feature == "patch" else hidden


def _to_map(tiles: torch.Tensor, rows: int, cols: int) -> torch.Tensor:
    """(rows * cols, h * h, C) row-major tiles to one (1, C, rows * h, cols * h) map."""
    side = round(tiles.shape[1] ** 0.5)
    grid = tiles.reshape(rows, cols, side, side, -1).permute(4, 0, 2, 1, 3)
    return grid.reshape(1, -1, rows * side, cols * side)


def merge_scales(
    features: torch.Tensor, block: tuple[int, int] | None, config: ModelConfig
) -> tuple[torch.Tensor, tuple[int, int]]:
    """One picture's tiles of all scales to blocks with the scales joined on channels (dynamic S2).

    Args:
        features: (N, g*g, C), tiles in scale order; a single tile if ``block`` is None.
        block: (rows, cols) of the finest scale.
    Returns:
        (rows * cols, g*g, scales * C) blocks, and (rows, cols) in which they lie.
    """
    scales, index = config.root.s2_scales, config.root.s2_resize_output_to_scale_idx
    if block is None:
        return features.repeat(1, 1, len(scales)), (1, 1)
    ratios = [scale // scales[0] for scale in scales]
    grids = [*((q, q) for q in ratios[:-1]), block]
    maps = [
        _to_map(tiles, *grid)
        for tiles, grid in zip(features.split([rows * cols for rows, cols in grids]), grids, strict=True)
    ]
    rows, cols = grids[index]
    side = maps[0].shape[-1] // grids[0][1]
    size = (rows * side, cols * side)
    joined = torch.cat([F.interpolate(m.float(), size=size, mode="area").to(m.dtype) for m in maps], dim=1)
    cut = joined.view(-1, rows, side, cols, side).permute(1, 3, 2, 4, 0)
    return cut.reshape(rows * cols, side * side, -1), (rows, cols)


def encode_pictures(
    pictures: Sequence[Tiles],
    config: ModelConfig,
    tower: Any,
    projector: nn.Module,
    processor: ProcessorConfig,
) -> list[list[torch.Tensor]]:
    """Projected features of each picture: one (tokens, H) tensor for each of its placeholders.

    All pictures go through the projector as one batch, and on a GPU through the tower.
    """
    weight = tower.embeddings.patch_embedding.weight
    pixels = torch.cat([torch.from_numpy(picture.pixels) for picture in pictures]).to(weight.device)
    layer, feature = config.root.mm_vision_select_layer, config.root.mm_vision_select_feature
    selected = torch.cat(
        [
            tower_features(tower, normalise(tiles, processor, weight.dtype), layer, feature)
            for tiles in pixels.split(_CPU_TILES if weight.device.type == "cpu" else len(pixels))
        ]
    )
    per_picture = selected.split([len(picture.pixels) for picture in pictures])
    if not config.root.dynamic_s2:
        projected = projector(selected).split([len(tiles) for tiles in per_picture])
        return [list(tiles.unbind()) for tiles in projected]
    # Every block-less tile is a picture of its own: it has its own placeholder.
    merged = [
        [merge_scales(features, picture.block, config)]
        if picture.block is not None
        else [merge_scales(tile[None], None, config) for tile in features]
        for picture, features in zip(pictures, per_picture, strict=True)
    ]
    flat = [entry for entries in merged for entry in entries]
    projected = iter(projector(torch.cat([blocks for blocks, _ in flat])).split([len(blocks) for blocks, _ in flat]))
    return [
        [_to_map(next(projected), *grid)[0].flatten(1).transpose(0, 1) for _, grid in entries] for entries in merged
    ]
