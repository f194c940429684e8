from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from roboref_core.prompting.grid import Grid
from roboref_core.prompting.marker import Marker

SIZES = [(1296, 968), (640, 480), (480, 640), (112, 112), (33, 57)]


def grey(width, height):
    return np.full((height, width, 3), 90, dtype=np.uint8)


def is_reddened(image):
    """As far as thin lines on small pictures can be."""
    return (image[..., 0].astype(int) - image[..., 1]) > 20


def is_red(image):
    return (image[..., 0] > 200) & (image[..., 1] < 60) & (image[..., 2] < 60)


@pytest.mark.parametrize(("width", "height"), SIZES)
@given(fraction=st.tuples(st.floats(0.2, 0.8), st.floats(0.2, 0.8)))
def test_the_ring_is_centred_on_its_point_and_leaves_it_visible(width, height, fraction):
    pixel = (fraction[0] * (width - 1), fraction[1] * (height - 1))
    image = grey(width, height)
    marked = Marker().draw(image, pixel)
    v, u = np.nonzero(is_reddened(marked))
    assert np.allclose((u.mean(), v.mean()), pixel, atol=1.0)
    assert (marked[round(pixel[1]), round(pixel[0])] == 90).all()
    assert (image == 90).all()


@pytest.mark.parametrize("smaller", [2, 3])
@pytest.mark.parametrize("box", [None, (100, 130, 420, 290)])
def test_marks_look_alike_on_pictures_of_any_size(smaller, box):
    """On a small picture as on a large one that is made smaller."""
    small = (720 // smaller, 480 // smaller)
    after = cv2.resize(Marker().draw(grey(720, 480), (320, 250), box), small, interpolation=cv2.INTER_AREA)
    pixel = tuple((value + 0.5) / smaller - 0.5 for value in (320, 250))
    scaled = None if box is None else tuple((value + 0.5) / smaller - 0.5 for value in box)
    before = Marker().draw(grey(*small), pixel, scaled)
    difference = np.abs(before.astype(int) - after)[(after != 90).any(axis=2)]
    assert difference.mean() < 10


@pytest.mark.parametrize(("width", "height"), SIZES[:3])
def test_the_frame_lies_on_its_box(width, height):
    box = (0.2 * width, 0.3 * height, 0.6 * width, 0.7 * height)
    v, u = np.nonzero(is_red(Marker().draw(grey(width, height), (0, 0), box)))
    extent = np.array([u.min(), v.min(), u.max(), v.max()])
    assert np.abs(extent - box).max() <= 0.004 * np.hypot(width, height)


@pytest.mark.parametrize("pixel", [(0, 0), (639, 479), (639, 0), (320, 479)])
def test_labels_stay_inside_the_image(pixel):
    image = grey(640, 480)
    with_label, without = Marker().draw(image, pixel, label="AB"), Marker().draw(image, pixel)
    assert is_red(with_label).sum() > is_red(without).sum() + 50


def test_the_description_names_what_is_drawn():
    marker = Marker(color=(0, 0, 255), color_name="blue")
    assert marker.describe() == "blue circle" and marker.describe(box=True) == "blue box"


@pytest.mark.parametrize(("width", "height"), SIZES[:4])
@pytest.mark.parametrize("grid", [Grid(), Grid(rows=3, columns=7), Grid(spacing=25), Grid(rows=1, columns=1)])
def test_grid_lines_run_where_their_coordinates_say(width, height, grid):
    plain = Grid(grid.rows, grid.columns, grid.spacing, label_size=0.0, opacity=1.0).draw(grey(width, height))
    drawn = (plain == (255, 255, 0)).all(axis=2)
    xs, ys = grid.lines(width, height)
    # Whole columns are vertical lines, whole rows horizontal ones: group them, and compare their middles.
    for lines, on, side in ((xs, drawn.all(axis=0), width), (ys, drawn.all(axis=1), height)):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], on.astype(int), [0]])))
        middles = (edges[::2] + edges[1::2]) / 2
        assert len(middles) == len(lines)
        assert len(lines) == 0 or np.abs(middles / side - lines).max() <= 1.5 / side


def test_grid_opacity_mixes_lines_with_the_picture_and_leaves_the_rest():
    image = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    full = Grid(2, 2, label_size=0.0, opacity=1.0).draw(image)
    half = Grid(2, 2, label_size=0.0, opacity=0.5).draw(image)
    line = (full == (255, 255, 0)).all(axis=2)
    assert (half[~line] == image[~line]).all()
    mixed = (image[line].astype(float) + (255, 255, 0)) / 2
    assert np.abs(half[line] - mixed).max() <= 1


@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 30), st.integers(1, 30), st.floats(0, 0.5))
def test_any_grid_fits_any_picture(width, height, rows, columns, label_size):
    image = grey(width, height)
    grid = Grid(rows=rows, columns=columns, label_size=label_size)
    drawn = grid.draw(image)
    assert drawn.shape == image.shape and drawn.dtype == np.uint8
    assert (drawn == grid.draw(image)).all()
    assert (image == 90).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": 0}, "at least 1"),
        ({"spacing": 0}, "at least 1"),
        ({"opacity": 0.0}, "opacity"),
        ({"label_size": -0.1}, "label size"),
    ],
)
def test_grids_that_cannot_be_drawn_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Grid(**options)
