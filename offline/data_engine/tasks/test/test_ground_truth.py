from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from offline.data_engine.five_frames import mask_box
from offline.data_engine.tasks.ground_truth import (
    ground_truth_pixel,
    innermost_pixel,
    normalised,
)

shapes = st.tuples(st.integers(1, 14), st.integers(1, 14))
masks = arrays(np.uint8, shapes, elements=st.sampled_from([0, 0, 1, 255])).filter(lambda mask: mask.any())


@given(masks, st.integers(0, 99))
def test_the_point_is_the_box_centre_or_any_pixel_of_the_mask(mask, seed):
    u, v = ground_truth_pixel(mask, seed, "scene0000_00", 3, "000010")
    u0, v0, u1, v1 = mask_box(mask > 0)
    centre = ((u0 + u1) // 2, (v0 + v1) // 2)
    assert mask[v, u] > 0
    if mask[centre[1], centre[0]] > 0:
        assert (u, v) == centre
    assert (u, v) == ground_truth_pixel(mask * 7, seed, "scene0000_00", 3, "000010")


def test_the_random_point_is_uniform_and_depends_on_every_part_of_the_seed():
    ring = np.ones((9, 9), np.uint8)
    ring[2:7, 2:7] = 0
    drawn = [ground_truth_pixel(ring, 0, "scene", 1, str(frame)) for frame in range(3000)]
    counts = np.zeros((9, 9))
    for u, v in drawn:
        counts[v, u] += 1
    assert (counts[ring == 0] == 0).all() and counts[ring > 0].min() > 20
    for other in ((1, "scene", 1), (0, "other", 1), (0, "scene", 2)):
        assert [ground_truth_pixel(ring, *other, str(frame)) for frame in range(20)] != drawn[:20]


def test_pixel_centres():
    assert normalised((0, 0), (10, 4)) == (0.05, 0.125)
    assert normalised((9, 3), (10, 4)) == (0.95, 0.875)


def test_a_margin_keeps_points_off_the_rim_and_drops_none():
    block = np.zeros((20, 20), np.uint8)
    block[8:13, 8:13] = 1
    assert ground_truth_pixel(block, 0, margin=2) == (10, 10)
    # Thinner than the margin: the innermost pixels.
    assert ground_truth_pixel(block, 0, margin=9) == (10, 10)
    ring = np.ones((60, 60), np.uint8)
    ring[16:44, 16:44] = 0
    found = {ground_truth_pixel(ring, k, margin=2) for k in range(200)}
    assert len(found) > 50
    for u, v in found:
        inner = ring[max(0, v - 4) : v + 5, max(0, u - 4) : u + 5]
        assert (inner > 0).all()


@given(masks, st.integers(0, 9), st.floats(0, 5))
def test_a_margin_never_leaves_the_mask(mask, seed, margin):
    u, v = ground_truth_pixel(mask, seed, margin=margin)
    assert mask[v, u] > 0


def test_the_innermost_pixel_of_an_l_is_in_its_corner():
    mask = np.zeros((40, 40), dtype=bool)
    mask[:30, :10] = mask[20:30, :40] = True
    u, v = innermost_pixel(mask)
    assert mask[v, u] and u < 10 and 20 <= v < 30


def test_an_empty_mask_is_refused():
    with pytest.raises(ValueError, match="empty"):
        ground_truth_pixel(np.zeros((3, 3)), 0)
