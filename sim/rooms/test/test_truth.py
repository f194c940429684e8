from __future__ import annotations

import numpy as np
import pytest
from roboref_core.geometry.pose import look_at

from sim.rooms.renderer import Renderer
from sim.rooms.test.rooms_for_tests import SMALL, boxes_scene
from sim.rooms.truth import object_box

T = look_at((0.5, 3.0, 0.5), (4.0, 3.0, 0.5))
TARGET = ((0.4, 1.0, 1.0), (4.0, 3.0, 0.5))


def pixels(renderer: Renderer, T_world_camera: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) bool each: where object 1 is seen, and where it would be if it were alone."""
    seen, alone = (one.render(SMALL, T_world_camera, color=False).ids == 1 for one in (renderer, renderer.alone(1)))
    return seen, alone


def test_an_unhidden_object_is_seen_whole():
    seen, alone = pixels(Renderer(boxes_scene(TARGET)), T)
    assert (seen == alone).all()
    # A front of 1 x 1 m at 3.3 m: 144 / 3.3 pixels wide.
    for axis in (0, 1):
        assert np.count_nonzero(seen.any(axis=axis)) == pytest.approx(144 / 3.3, abs=1.5)


def test_a_screen_before_its_left_half_hides_half():
    # Half way to the front the screen needs half the width: y from 3.0 to beyond the box's left edge.
    screen = ((0.02, 0.6, 3.0), (0.5 + 3.3 / 2, 3.3, 1.5))
    renderer = Renderer(boxes_scene(TARGET, screen))
    seen, alone = pixels(renderer, T)
    assert seen.sum() / alone.sum() == pytest.approx(0.5, abs=0.03)
    seen, alone = pixels(Renderer(renderer.scene.without(2)), T)
    assert (seen == alone).all()


def test_behind_the_camera_and_unknown_ids():
    renderer = Renderer(boxes_scene(TARGET))
    assert not np.any(pixels(renderer, look_at((0.5, 3.0, 0.5), (-4.0, 3.0, 0.5))))
    with pytest.raises(ValueError, match="no object 7"):
        renderer.alone(7)


def test_box_of_a_turned_object():
    scene = boxes_scene(TARGET)
    T_world_object = look_at((4.0, 3.0, 0.5), (5.0, 4.0, 0.5))
    T_box, size = object_box(Renderer(scene.with_moved(1, T_world_object)), 1)
    assert np.allclose(size, TARGET[0], atol=1e-6) and np.allclose(T_box[:3, 3], (4.0, 3.0, 0.5), atol=1e-6)
    assert np.allclose(T_box[:3, :3], T_world_object[:3, :3])
