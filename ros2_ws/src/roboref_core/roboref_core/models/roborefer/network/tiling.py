"""Pictures to square 8-bit tiles, as RoboRefer's towers take them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from PIL import Image

from roboref_core.models.roborefer.checkpoint.config import ModelConfig

Kind = Literal["image", "depth"]


@dataclass(frozen=True)
class Tiles:
    """One picture, cut.

    Attributes:
        pixels: (N, 3, S, S) uint8.
        block: (rows, cols) of the finest scale of dynamic S2, whose tiles come last; None otherwise.
    """

    pixels: np.ndarray
    block: tuple[int, int] | None = None


def to_picture(array: np.ndarray | Image.Image, kind: Kind) -> Image.Image:
    """An 8-bit 3-channel picture; depth may also be single-channel, which is repeated.

    Colour pictures that are PIL images are converted to RGB without applying an EXIF rotation.

    Raises:
        ValueError: if the picture is empty, not 8-bit or has another number of channels.
    """
    if isinstance(array, Image.Image):
        if kind == "image":
            return array.convert("RGB")
        if array.mode not in ("RGB", "L"):
            raise ValueError(f"depth picture: expected 8-bit mode RGB or L, found mode {array.mode}")
        return array if array.mode == "RGB" else array.convert("RGB")
    array = np.asarray(array)
    if kind == "depth" and array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if kind == "depth" and array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ValueError(f"{kind} picture: expected (H, W, 3) uint8, found {array.shape} {array.dtype}")
    return Image.fromarray(array)


@lru_cache(maxsize=32)
def _grids(minimum: int, maximum: int) -> tuple[tuple[int, int], ...]:
    """(cols, rows) with minimum <= cols * rows <= maximum, by product and then by columns."""
    pairs = ((cols, rows) for cols in range(1, maximum + 1) for rows in range(1, maximum // cols + 1))
    return tuple(sorted((p for p in pairs if p[0] * p[1] >= minimum), key=lambda p: (p[0] * p[1], p[0])))


def choose_grid(width: int, height: int, side: int, minimum: int, maximum: int) -> tuple[int, int]:
    """(cols, rows) of the tile grid whose aspect ratio is nearest to the picture's.

    On an exact tie the later (larger) grid wins if the picture covers more than half of its area.
    """
    best, best_difference = (1, 1), float("inf")
    aspect = width / height
    for cols, rows in _grids(minimum, maximum):
        difference = abs(aspect - cols / rows)
        if difference < best_difference:
            best, best_difference = (cols, rows), difference
        elif difference == best_difference and width * height > 0.5 * side * side * cols * rows:
            best = (cols, rows)
    return best


def _cut(picture: Image.Image, side: int, cols: int, rows: int) -> np.ndarray:
    """(rows * cols, side, side, 3), row-major tiles of the picture resized to the grid."""
    whole = np.asarray(picture.resize((side * cols, side * rows)))
    return whole.reshape(rows, side, cols, side, 3).swapaxes(1, 2).reshape(rows * cols, side, side, 3)


def _pad_to_square(picture: Image.Image, mean: tuple[float, ...]) -> Image.Image:
    width, height = picture.size
    if width == height:
        return picture
    side = max(width, height)
    square = Image.new("RGB", (side, side), tuple(int(value * 255) for value in mean))
    square.paste(picture, ((side - width) // 2, (side - height) // 2))
    return square


def cut_tiles(picture: Image.Image, config: ModelConfig, kind: Kind, aspect: str | None = None) -> Tiles:
    """Cuts a picture by the checkpoint's rule.

    Args:
        picture: RGB, from ``to_picture``.
        config: configuration of the checkpoint.
        kind: which tower's preprocessing.
        aspect: overrides ``image_aspect_ratio`` of the checkpoint.
    """
    aspect = config.root.image_aspect_ratio if aspect is None else aspect
    side, root = config.tile_side(kind), config.root
    processor = config.processor(kind)
    block = None
    if aspect == "dynamic":
        cols, rows = choose_grid(*picture.size, side, root.min_tiles, root.max_tiles)
        tiles = _cut(picture, side, cols, rows)
        if len(tiles) > 1:
            tiles = np.concatenate([tiles, _cut(picture, side, 1, 1)])
    elif aspect == "dynamic_s2":
        if not root.dynamic_s2:
            raise ValueError("image_aspect_ratio dynamic_s2 needs a checkpoint with dynamic_s2")
        ratios = [scale // root.s2_scales[0] for scale in root.s2_scales]
        cols, rows = choose_grid(*picture.size, side, ratios[-1] ** 2, root.max_tiles)
        block = (rows, cols)
        tiles = np.concatenate([_cut(picture, side, q, q) for q in ratios[:-1]] + [_cut(picture, side, cols, rows)])
    elif aspect == "resize":
        tiles = _cut(picture, side, 1, 1)
    else:
        if aspect == "pad":
            picture = _pad_to_square(picture, processor.image_mean)
        tiles = np.asarray(picture.resize((side, side), Image.Resampling(processor.resample)))[None]
    return Tiles(np.ascontiguousarray(tiles.transpose(0, 3, 1, 2)), block)


def count_placeholders(width: int, height: int, config: ModelConfig, kind: Kind, aspect: str | None) -> list[int]:
    """For each placeholder that a picture of this size takes, the tiles that its features come from."""
    root = config.root
    if aspect == "dynamic":
        cols, rows = choose_grid(width, height, config.tile_side(kind), root.min_tiles, root.max_tiles)
        return [1] * (cols * rows + (cols * rows > 1))
    if aspect == "dynamic_s2":
        finest = (root.s2_scales[-1] // root.s2_scales[0]) ** 2
        cols, rows = choose_grid(width, height, config.tile_side(kind), finest, root.max_tiles)
        index = root.s2_resize_output_to_scale_idx
        if index in (-1, len(root.s2_scales) - 1):
            return [cols * rows]
        return [(root.s2_scales[index] // root.s2_scales[0]) ** 2]
    return [1]
