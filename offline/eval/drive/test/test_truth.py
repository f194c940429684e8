"""Ways over the floor and distances from surfaces, against what is known of them."""

from __future__ import annotations

import numpy as np
import pytest
from roboref_core.scene import Instances, Mesh

from offline.eval.drive.floor import at, nearest_free, ways
from offline.eval.replay.truth.surface import ObjectSurface
from sim.robot.navigator import plan
from sim.robot.obstacles import CELL


def middle(x: int, y: int) -> tuple[float, float]:
    return (x + 0.5) * CELL, (y + 0.5) * CELL


@pytest.mark.parametrize("seed", range(5))
def test_ways_are_as_long_as_the_navigators(seed):
    rng = np.random.default_rng(seed)
    free = rng.random((30, 24)) > 0.25
    goals = np.argwhere(free)[rng.integers(free.sum(), size=3)]
    field = ways(free, (goals + 0.5) * CELL)
    for x, y in np.argwhere(free)[rng.integers(free.sum(), size=10)]:
        found = [plan(free, middle(x, y), middle(*goal), 0.01) for goal in goals]
        lengths = [np.linalg.norm(np.diff(way, axis=0), axis=1).sum() for way in found if way is not None]
        # The navigator's ways are 8-connected inside what is 4-connected; corners may be cut here.
        if lengths:
            assert field[x, y] <= min(lengths) + 1e-9
    assert np.isinf(field[~free]).all()


def test_ways_in_the_open_are_octile():
    field = ways(np.ones((20, 20), bool), np.array(middle(0, 0)))
    assert field[3, 10] == pytest.approx(CELL * (7 + 3 * np.sqrt(2)))
    assert at(field, middle(3, 10)) == pytest.approx(CELL * (7 + np.sqrt(2)), abs=CELL)
    assert np.isinf(ways(np.zeros((4, 4), bool), np.array(middle(0, 0)))).all()


def test_the_nearest_free_cell():
    free = np.zeros((10, 10), bool)
    free[7, 2] = True
    assert np.allclose(nearest_free(free, (0.0, 0.0)), middle(7, 2))
    assert not len(nearest_free(np.zeros((4, 4), bool), (0.0, 0.0)))


def test_what_a_ray_misses_a_surface_by():
    square = np.array([(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)], np.float32)
    mesh = Mesh(square, np.array([(0, 1, 2), (0, 2, 3)], np.int32))
    surface = ObjectSurface(mesh, Instances(np.full(4, 3), {3: "sheet"}), 3)
    eye = np.array((0.5, 0.5, 2.0))
    assert surface.distance_from_ray(eye, np.array((0.0, 0.0, -3.0))) < 0.02
    down = np.array((1.5, 0.5, 2.0))
    assert surface.distance_from_ray(down, np.array((0.0, 0.0, -1.0))) == pytest.approx(0.5, abs=0.02)
    assert np.isinf(surface.distance_from_ray(eye, np.array((0.0, 0.0, 1.0))))
    assert np.allclose(surface.nearest(np.array((0.5, 0.5, 1.0))), (0.5, 0.5, 0.0), atol=0.03)
