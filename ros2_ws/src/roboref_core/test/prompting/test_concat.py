from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from roboref_core.geometry.camera import normalised_to_pixel, pixel_to_normalised
from roboref_core.prompting.side_by_side import SideBySide

sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


@given(sizes, sizes, st.randoms(use_true_random=False))
def test_every_pixel_centre_keeps_its_colour_and_its_coordinates(left_size, right_size, random):
    rng = np.random.default_rng(random.randrange(2**32))
    left = rng.integers(1, 256, (left_size[1], left_size[0], 3), dtype=np.uint8)
    right = rng.integers(1, 256, (right_size[1], right_size[0], 3), dtype=np.uint8)
    layout = SideBySide(left_size, right_size)
    whole = layout.compose(left, right)
    width, height = layout.size
    assert whole.shape == (height, width, 3)
    views = ((left, left_size, layout.left_to_whole), (right, right_size, layout.right_to_whole))
    for image, (w, h), to_whole in views:
        pixels = np.stack(np.meshgrid(np.arange(w), np.arange(h)), axis=-1).reshape(-1, 2)
        xy = pixel_to_normalised(pixels, w, h)
        in_whole = normalised_to_pixel(to_whole(xy), width, height)
        np.testing.assert_allclose(in_whole, np.round(in_whole), atol=1e-9)
        u, v = np.round(in_whole).astype(int).T
        assert (whole[v, u] == image.reshape(-1, 3)).all()
        back = layout.whole_to_right(to_whole(xy))
        if image is right:
            np.testing.assert_allclose(back, xy, atol=1e-12)
        else:
            assert (back[:, 0] < 0).all()


def test_the_formula_of_the_task_description():
    layout = SideBySide((300, 200), (100, 50))
    x, y = layout.whole_to_right((0.9, 0.1))
    assert x == pytest.approx((0.9 * 400 - 300) / 100)
    assert y == pytest.approx(0.1 * 200 / 50)


def test_a_point_beside_the_right_view_is_outside_and_no_error():
    layout = SideBySide((300, 200), (100, 50))
    outside = layout.whole_to_right([(0.5, 0.1), (0.9, 0.9)])
    assert outside[0, 0] < 0 and outside[1, 1] > 1


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"right image.*\(5, 6, 3\).*\(6, 5, 3\)"):
        SideBySide((4, 3), (6, 5)).compose(np.zeros((3, 4, 3), np.uint8), np.zeros((6, 5, 3), np.uint8))
