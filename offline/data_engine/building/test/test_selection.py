from __future__ import annotations

import itertools

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from roboref_core.geometry.pose import look_at

from offline.data_engine.building.selection import SelectionConfig, select_views, separation
from offline.data_engine.seeing.frame_quality import keyframes, motion, sharpness
from offline.data_engine.test.test_filters import view


def looking_from(angle: float, distance: float = 2.0, fraction: float = 1.0):
    direction = np.array([np.cos(angle), np.sin(angle), 0.0])
    return view(direction=direction, distance=distance, fraction=fraction)


@given(st.lists(st.tuples(st.floats(0, 6.28), st.floats(0.5, 4), st.floats(0.3, 1)), min_size=1, max_size=30))
def test_selection_is_spread_sharp_and_independent_of_order(seen):
    views = {10 * i: looking_from(*v) for i, v in enumerate(seen)}
    sharp = {i: 0.7 + 0.3 * (i % 3) / 2 for i in views}
    config = SelectionConfig()
    chosen = select_views(views, sharp, config)
    assert chosen == select_views(dict(reversed(views.items())), sharp, config)
    assert chosen == [] or config.min_views <= len(chosen) <= config.views
    for a, b in itertools.combinations(chosen, 2):
        assert separation(views[a], views[b]) >= config.min_separation


def test_five_of_a_full_circle_lie_around_it():
    views = {i: looking_from(i * 2 * np.pi / 60) for i in range(60)}
    chosen = select_views(views, dict.fromkeys(views, 1.0))
    angles = np.sort([i * 2 * np.pi / 60 for i in chosen])
    gaps = np.diff(np.append(angles, angles[0] + 2 * np.pi))
    assert len(chosen) == 5 and gaps.max() <= np.pi / 2 + 0.2


def test_a_blurred_twin_loses():
    views = {0: looking_from(0.0), 1: looking_from(0.0), 2: looking_from(1.0)}
    assert set(select_views(views, {0: 0.3, 1: 1.0, 2: 1.0})) == {1, 2}


def test_keyframes_follow_the_motion_and_skip_lost_frames():
    still = [look_at((0, 0, 1), (5, 0, 1))] * 10
    walk = [look_at((0.05 * k, 0, 1), (5, 0, 1)) for k in range(20)]
    poses = np.stack([*still, np.full((4, 4), np.nan), *walk])
    chosen = keyframes(poses, translation=0.1, rotation=0.1)
    assert np.isfinite(poses[chosen]).all()
    assert (chosen < 10).sum() == 1 and 7 <= (chosen > 10).sum() <= 11
    assert np.isinf(motion(poses)[10]) and motion(poses)[3] == 0


def test_sharpness_falls_with_blur_not_with_content():
    rng = np.random.default_rng(0)
    busy = cv2.GaussianBlur(rng.integers(0, 256, (480, 640, 3), dtype=np.uint8), (0, 0), 1.0)
    plain = np.full_like(busy, 120)
    plain[100:140, 200:260] = busy[100:140, 200:260]
    for image in (busy, plain):
        assert sharpness(cv2.blur(image, (15, 1))) < 0.75 * sharpness(image)
    assert sharpness(plain) > 0.6 * sharpness(busy)
    assert sharpness(np.full((48, 64), 7, np.uint8)) == 0.0
