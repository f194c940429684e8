"""Colour against geometry: right where they belong together, wrong where intrinsics or moments are exchanged."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from roboref_core.geometry.camera import Camera
from roboref_core.views.visibility import DepthTolerance

from offline.data_engine.filters import FilterConfig, mismatched_colors
from offline.data_engine.seeing.photometric import EdgeOffsets, agreements, look_of
from offline.data_engine.test.synthetic import SyntheticScene

pytest.importorskip("open3d")
REDKITCHEN = Path(__file__).parents[5] / "shared/data/redkitchen_rgbd"


@pytest.fixture(scope="module")
def scene():
    return SyntheticScene(frames=40, noise=0.002)


def grey(scene, i: int) -> np.ndarray:
    return cv2.cvtColor(scene.color(i), cv2.COLOR_RGB2GRAY)


def scaled(camera: Camera, factor: float) -> Camera:
    return Camera(camera.width, camera.height, camera.fx * factor, camera.fy * factor, camera.cx, camera.cy)


def test_exchanged_pictures_and_wrong_intrinsics_are_found(scene):
    used = range(0, 40, 2)
    pictures = {i: grey(scene, i) for i in used}
    depths = {i: scene.depth(i) for i in used}

    def measured(picture_of, color: Camera) -> dict[int, float]:
        looks = {i: look_of(pictures[picture_of(i)], depths[i], scene.poses[i]) for i in used}
        return agreements(looks, color, scene.depth_camera, DepthTolerance())

    good = measured(lambda i: i, scene.color_camera)
    assert len(good) > 12 and min(good.values()) > 0.6
    assert mismatched_colors(good, FilterConfig()) == set()
    assert mismatched_colors(measured(lambda i: (i + 10) % 40, scene.color_camera), FilterConfig()) is None
    assert mismatched_colors(measured(lambda i: i, scaled(scene.color_camera, 720 / 525)), FilterConfig()) is None
    # One exchanged picture costs that frame.
    pictures[4] = pictures[24]
    assert 4 in mismatched_colors(measured(lambda i: i, scene.color_camera), FilterConfig())


@pytest.mark.parametrize("shift", [0, 5])
def test_the_offset_of_edges_is_measured(scene, shift):
    offsets = EdgeOffsets(scene.color_camera, scene.color_camera)
    for i in range(0, 40, 3):
        depth, _, _ = scene.cast(i, scene.color_camera)
        offsets.add(np.roll(grey(scene, i), shift, axis=1), depth.astype(np.float32))
    found = offsets.misalignment()
    assert found is not None and abs(found - shift) <= 1.5


def test_where_nothing_can_be_told_nothing_is_said(scene):
    empty = np.zeros((242, 324), np.uint8)
    offsets = EdgeOffsets(scene.color_camera, scene.depth_camera)
    offsets.add(empty, scene.depth(0))
    assert offsets.misalignment() is None
    looks = {i: look_of(empty, scene.depth(i), scene.poses[i]) for i in (0, 1, 2)}
    assert agreements(looks, scene.color_camera, scene.depth_camera, DepthTolerance()) == {}
    assert mismatched_colors({}, FilterConfig()) == set()


@pytest.mark.skipif(not REDKITCHEN.exists(), reason="real sample not here")
def test_on_real_frames_the_true_focal_length_stands_out():
    frames = {}
    for i in range(0, 1000, 40):
        raw = cv2.imread(str(REDKITCHEN / f"frame-{i:06d}.depth.png"), cv2.IMREAD_UNCHANGED)
        picture = cv2.imread(str(REDKITCHEN / f"frame-{i:06d}.color.jpg"), cv2.IMREAD_GRAYSCALE)
        depth = np.where(raw == 65535, 0, raw).astype(np.float32) / 1000
        frames[i] = look_of(picture, depth, np.loadtxt(REDKITCHEN / f"frame-{i:06d}.pose.txt"))
    depth_camera = Camera(640, 480, 585, 585, 320, 240)

    def median(focal: float) -> float:
        color = Camera(640, 480, focal, focal, 320, 240)
        return float(np.median(list(agreements(frames, color, depth_camera, DepthTolerance()).values())))

    assert median(525) > 0.6 and median(720) < 0.3
