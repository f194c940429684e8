from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from roboref_core.geometry.camera import Camera

from offline.data_engine.building.rectify import RectifiedScene, rectified
from offline.data_engine.sources import Scene
from offline.data_engine.test.synthetic import SyntheticScene

pytest.importorskip("open3d")


@pytest.fixture(scope="module")
def bent() -> SyntheticScene:
    scene = SyntheticScene(frames=2)
    lens = {"distortion_model": "plumb_bob", "distortion": (0.08, -0.03, 0.001, -0.002)}
    color, depth = replace(scene.color_camera, **lens), replace(scene.depth_camera, **lens)
    return replace(scene, color_camera=color, depth_camera=depth)


def test_a_straight_scene_is_left_alone():
    scene = SyntheticScene(frames=2)
    assert rectified(scene) is scene


def test_the_pictures_become_those_of_a_pinhole(bent):
    straight = rectified(bent)
    assert isinstance(straight, RectifiedScene) and isinstance(straight, Scene) and len(straight) == 2
    assert straight.color_camera.distortion_model == straight.depth_camera.distortion_model == "none"
    truth = SyntheticScene(frames=2)
    color, expected = straight.color(1).astype(int), truth.color(1)
    seen = color.any(axis=2)
    assert seen.mean() > 0.9
    assert np.median(np.abs(color - expected)[seen]) <= 3
    depth, true_depth = straight.depth(1), truth.depth(1)
    both = (depth > 0) & (true_depth > 0)
    assert np.median(np.abs(depth - true_depth)[both]) < 0.01
    bent_error = np.abs(bent.depth(1) - true_depth)[both]
    assert np.mean(np.abs(depth - true_depth)[both] > 0.05) < 0.5 * np.mean(bent_error > 0.05)
    raw, unit = straight.depth_raw(1)
    np.testing.assert_allclose(raw * unit, depth, atol=0.001)
    assert straight.color_encoded(1) is None and straight.mesh() is not None and straight.instances() is not None


def test_corners_that_the_lens_did_not_see_have_no_depth(bent):
    pincushion = replace(bent, depth_camera=Camera(160, 120, 144.4, 144.9, 79.6, 59.4, "plumb_bob", (0.3, 0, 0, 0)))
    depth = RectifiedScene(pincushion).depth(0)
    assert depth[0, 0] == 0 and depth[60, 80] > 0
