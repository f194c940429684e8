from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import from_quaternion

from offline.data_engine.seeing.alignment import compare, neighbour_depth
from offline.data_engine.seeing.surface import Surface
from offline.data_engine.seeing.zbuffer import Projection
from offline.data_engine.test.synthetic import SyntheticScene

pytest.importorskip("open3d")
REDKITCHEN = Path(__file__).parents[5] / "shared/data/redkitchen_rgbd"


def test_a_good_frame_scores_well_and_a_displaced_one_badly():
    scene = SyntheticScene(noise=0.004, holes=0.1)
    surface = Surface.build(scene.mesh(), scene.instances())
    depth, T = scene.depth(3), scene.poses[3]
    good = compare(depth, Projection(surface, scene.depth_camera, T).render().depth)
    assert good.judged and abs(good.median) < 0.005 and good.mad < 0.02 and good.inliers > 0.93 and good.edges > 0.9
    turned = T @ from_quaternion((0, np.sin(0.05), 0, np.cos(0.05)))
    bad = compare(depth, Projection(surface, scene.depth_camera, turned).render().depth)
    assert bad.inliers < 0.8 < good.inliers and bad.edges < 0.6 and bad.mad > 2 * good.mad


def test_a_bias_along_the_rays_is_the_median():
    depth = np.full((40, 60), 2.0, np.float32)
    score = compare(depth + 0.02, depth)
    assert score.median == pytest.approx(0.02, abs=1e-6) and score.mad == pytest.approx(0, abs=1e-6)
    assert score.inliers == 1.0 and np.isnan(score.edges)


def test_nothing_to_compare_is_not_a_score():
    score = compare(np.zeros((4, 4), np.float32), np.ones((4, 4), np.float32))
    assert not score.judged and np.isnan(score.median)


def test_frames_of_one_scene_agree_without_a_mesh():
    scene = SyntheticScene(frames=48)
    others = [(scene.depth(i), scene.poses[i]) for i in (9, 11)]
    good = compare(scene.depth(10), neighbour_depth(scene.poses[10], others, scene.depth_camera))
    assert good.judged and good.inliers > 0.9 and abs(good.median) < 0.01
    bad = compare(scene.depth(10), neighbour_depth(scene.poses[14], others, scene.depth_camera))
    assert bad.inliers < 0.8


@pytest.mark.skipif(not REDKITCHEN.exists(), reason="real sample not here")
def test_the_default_tolerance_holds_on_real_kinect_frames():
    """The tolerance a + b * depth must pass the bulk of real residuals between frames at every distance."""
    camera = Camera(640, 480, 585, 585, 320, 240)
    frames = []
    for i in range(0, 1000, 40):
        raw = cv2.imread(str(REDKITCHEN / f"frame-{i:06d}.depth.png"), cv2.IMREAD_UNCHANGED)
        depth = np.where(raw == 65535, 0, raw).astype(np.float32) / 1000
        frames.append((depth, np.loadtxt(REDKITCHEN / f"frame-{i:06d}.pose.txt")))
    scores = []
    for i in range(0, len(frames), 4):
        others = [frames[j] for j in (i - 1, i + 1) if 0 <= j < len(frames)]
        scores.append(compare(frames[i][0], neighbour_depth(frames[i][1], others, camera)))
    judged = [s for s in scores if s.judged]
    assert len(judged) >= 5
    assert np.median([s.inliers for s in judged]) > 0.8
    assert np.median([abs(s.median) for s in judged]) < 0.03
