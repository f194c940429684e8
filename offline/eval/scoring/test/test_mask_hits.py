"""Which pixel a point lies in, from either kind of coordinates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from roboref_core.geometry.camera import pixel_to_normalised

from offline.eval.scoring.mask_hits import on_mask

MASK = np.random.default_rng(0).random((7, 11)) < 0.5


@given(st.floats(-3, 14), st.floats(-3, 10))
def test_a_point_hits_if_the_pixel_whose_area_holds_it_is_set(u, v):
    column, row = int(np.floor(u + 0.5)), int(np.floor(v + 0.5))
    inside = -0.5 <= u <= 10.5 and -0.5 <= v <= 6.5
    expected = inside and bool(MASK[min(row, 6), min(column, 10)])
    assert on_mask(MASK, np.array([u, v]) + 0.5) == expected


def test_pixels_and_normalised_coordinates_say_the_same():
    rng = np.random.default_rng(1)
    pixels = rng.uniform((-1, -1), (11, 7), (500, 2))
    normalised = pixel_to_normalised(pixels, 11, 7)
    np.testing.assert_array_equal(on_mask(MASK, pixels + 0.5), on_mask(MASK, normalised * (11, 7)))


@pytest.mark.parametrize("point", [(0.0, 0.0), (11.0, 7.0), (11.0, 0.0)])
def test_the_corners_belong_to_the_picture(point):
    assert on_mask(np.ones_like(MASK), np.array(point))


@pytest.mark.parametrize("point", [(np.nan, 1.0), (-1e-9, 1.0), (3.0, 7.0 + 1e-9)])
def test_outside_is_no_hit(point):
    assert not on_mask(np.ones_like(MASK), np.array(point))
