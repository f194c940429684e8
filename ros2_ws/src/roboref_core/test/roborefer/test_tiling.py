"""Tile grids and tiles."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from roboref_core.models.roborefer.checkpoint.config import read_config
from roboref_core.models.roborefer.network.tiling import choose_grid, count_placeholders, cut_tiles, to_picture

ASPECTS = ("dynamic", "dynamic_s2", "resize", "pad", "anything else")


@pytest.fixture(scope="module")
def config(fixtures):
    return read_config(fixtures / "ckpt_rgbd_s2")


def test_grids_as_recorded(fixtures):
    table = json.loads((fixtures / "tiling_table.json").read_text())
    for row in table["rows"]:
        size = (row["w"], row["h"], table["image_size"])
        assert choose_grid(*size, 1, 12) == (row["dynamic_cols"], row["dynamic_rows"]), row
        assert choose_grid(*size, 9, 12) == (row["s2_block_cols"], row["s2_block_rows"]), row


@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([(1, 12), (9, 12), (1, 6), (4, 4)]))
def test_grid_is_a_nearest_one(width, height, limits):
    cols, rows = choose_grid(width, height, 448, *limits)
    assert limits[0] <= cols * rows <= limits[1]
    ratios = [c / r for c in range(1, 13) for r in range(1, 13) if limits[0] <= c * r <= limits[1]]
    assert abs(width / height - cols / rows) == min(abs(width / height - ratio) for ratio in ratios)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from(ASPECTS))
def test_tiles_fit_their_placeholders(config, width, height, aspect):
    picture = to_picture(np.zeros((height, width, 3), np.uint8), "image")
    tiles = cut_tiles(picture, config, "image", aspect)
    placeholders = count_placeholders(width, height, config, "image", aspect)
    if aspect == "dynamic_s2":
        rows, cols = tiles.block
        assert placeholders == [rows * cols] and len(tiles.pixels) == 1 + 4 + rows * cols
    else:
        assert placeholders == [1] * len(tiles.pixels) and tiles.block is None


def test_tiles_are_row_major_and_the_thumbnail_is_last(config):
    quarters = np.zeros((112, 112, 3), np.uint8)
    quarters[:56, 56:], quarters[56:, :56], quarters[56:, 56:] = 80, 160, 240
    root = config.root.model_copy(update={"min_tiles": 4, "max_tiles": 4})
    config = dataclasses.replace(config, root=root)
    tiles = cut_tiles(to_picture(quarters, "image"), config, "image", "dynamic").pixels
    # The resize is by 1: tiles are exact.
    assert [int(tile.mean()) for tile in tiles[:4]] == [0, 80, 160, 240]
    assert len(tiles) == 5 and tiles[4].min() == 0 and tiles[4].max() > 200


@pytest.mark.parametrize("shape", [(40, 100), (100, 40), (60, 60)])
def test_pad_centres_on_grey(config, shape):
    white = np.full((*shape, 3), 255, np.uint8)
    (tile,) = cut_tiles(to_picture(white, "image"), config, "image", "pad").pixels
    side = max(shape)
    square = np.full((side, side, 3), 127, np.uint8)
    top, left = (side - shape[0]) // 2, (side - shape[1]) // 2
    square[top : top + shape[0], left : left + shape[1]] = 255
    expected = Image.fromarray(square).resize((56, 56), Image.Resampling.BICUBIC)
    assert np.array_equal(tile, np.asarray(expected).transpose(2, 0, 1))


def test_depth_is_widened_and_colour_is_not():
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for form in (grey, grey[..., None], Image.fromarray(grey)):
        assert np.array_equal(np.asarray(to_picture(form, "depth")), grey[..., None].repeat(3, 2))
    with pytest.raises(ValueError, match="image picture"):
        to_picture(grey, "image")


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)]
)
def test_pictures_that_are_none(array):
    for kind in ("image", "depth"):
        with pytest.raises(ValueError, match=f"{kind} picture"):
            to_picture(array, kind)


@pytest.mark.parametrize("mode", ["I;16", "I", "F", "RGBA"])
def test_depth_of_more_than_8_bits_is_refused(mode):
    with pytest.raises(ValueError, match="8-bit"):
        to_picture(Image.new(mode, (4, 4)), "depth")
