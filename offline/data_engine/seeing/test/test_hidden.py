"""The margin rule against what it stands for: the silhouette moved by every shift within the margin."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from roboref_core.geometry.camera import Camera
from roboref_core.views.visibility import DepthTolerance

from offline.data_engine.seeing.hidden import Scenery, certainly_hidden, touches_picture
from offline.data_engine.seeing.zbuffer import ZBuffer

W, H = 24, 18
CAMERA = Camera(W, H, 20.0, 20.0, (W - 1) / 2, (H - 1) / 2)
TOLERANCE = DepthTolerance(0.03, 0.02)


def hidden_wherever_shifted(depth, origin, mesh, sensor, margin) -> bool:
    """Pixel by pixel: is the object behind both images after every shift, or off the picture before any?"""
    for dv in range(-margin, margin + 1):
        for du in range(-margin, margin + 1):
            for v, u in zip(*np.nonzero(depth), strict=True):
                z = depth[v, u]
                row, column = v + origin[1], u + origin[0]
                inside = 0 <= row < H and 0 <= column < W
                row, column = row + dv, column + du
                if not (0 <= row < H and 0 <= column < W):
                    continue
                if not inside:
                    return False
                limit = z - TOLERANCE.at(z)
                if not (mesh[row, column] < limit and sensor[row, column] < limit):
                    return False
    return True


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 3), st.booleans())
def test_hidden_means_hidden_under_every_shift(seed, margin, mostly_near):
    rng = np.random.default_rng(seed)
    size = rng.integers(1, 7, 2)
    origin = int(rng.integers(-8, W + 4)), int(rng.integers(-8, H + 4))
    silhouette = np.where(rng.random(size) < 0.8, rng.uniform(2, 3, size), 0).astype(np.float32)
    near = 0.995 if mostly_near else 0.7
    mesh = np.where(rng.random((H, W)) < near, 1.0, np.inf).astype(np.float32)
    sensor = np.where(rng.random((H, W)) < near, 1.0, rng.uniform(1.8, 4)).astype(np.float32)
    scenery = Scenery(CAMERA, mesh, sensor, (1.0, 0.0, 1.0, 0.0), TOLERANCE)
    found = certainly_hidden(ZBuffer(silhouette, np.zeros(size, np.int32), origin), scenery, margin)
    assert found == hidden_wherever_shifted(silhouette, origin, mesh, sensor, margin)


def test_surface_below_a_pixels_size_still_touches_the_picture():
    T = np.eye(4)
    T[:3, 3] = 5, 6, 7
    ahead, behind, aside = np.array([[5, 6, 9.0]]), np.array([[5, 6, 5.0]]), np.array([[9, 6, 9.0]])
    assert touches_picture(ahead, CAMERA, T)
    assert not touches_picture(behind, CAMERA, T) and not touches_picture(aside, CAMERA, T)
    assert touches_picture(np.concatenate([behind, ahead]), CAMERA, T)
