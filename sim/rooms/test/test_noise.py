from __future__ import annotations

import numpy as np
import pytest
from roboref_core.geometry.camera import Camera

from sim.rooms.noise import DepthNoise

CAMERA = Camera(320, 240, 289.0, 289.0, 159.5, 119.5)


def rng(seed=0):
    return np.random.default_rng(seed)


def plane(z):
    return np.full((240, 320), z, dtype=np.float32)


@pytest.mark.parametrize("z", [0.8, 2.0, 3.5, 5.0])
def test_axial_noise_on_a_frontal_wall_follows_nguyen_2012(z):
    measured = DepthNoise(step=1e-6)(plane(z), CAMERA, rng())
    centre = measured[80:160, 110:210]
    assert (centre > 0).all()
    assert centre.std() == pytest.approx(0.0012 + 0.0019 * (z - 0.4) ** 2, rel=0.05)
    assert centre.mean() == pytest.approx(z, abs=1e-3)


def test_depth_is_whole_millimetres_and_seeded():
    depth = plane(1.5)
    a, b, c = (DepthNoise()(depth, CAMERA, rng(s)) for s in (1, 1, 2))
    assert (a == b).all() and (a != c).any()
    assert np.allclose(a * 1000, np.round(a * 1000), atol=1e-3)


def test_holes_at_edges_and_nowhere_else():
    depth = plane(3.0)
    depth[60:180, 80:240] = 1.5
    measured = DepthNoise(lateral=0.0)(depth, CAMERA, rng())
    step = np.zeros(depth.shape, dtype=bool)
    step[59:181, 79:241] = True
    step[61:179, 81:239] = False
    assert 0.6 < (measured[step] == 0).mean() < 0.8
    assert (measured[~step] > 0).all()


def test_no_depth_at_grazing_angles_nor_out_of_range():
    u, v = np.meshgrid(np.arange(320), np.arange(240))
    rays = CAMERA.rays(np.stack([u.ravel(), v.ravel()], 1)).reshape(240, 320, 3)
    for height in (0.2, 1.5):
        # A floor ``height`` below the camera.
        depth = np.where(rays[..., 1] > 0.02, height / np.maximum(rays[..., 1], 0.02), 0).astype(np.float32)
        row = 155  # looks down at 7 degrees: 83 degrees from the floor's normal
        measured = DepthNoise(lateral=0.0, min_range=0.1, max_range=99.0)(depth, CAMERA, rng())
        assert (measured[row] == 0).all(), height
        assert (measured[220, 5:-5] > 0).mean() > 0.95
    assert (DepthNoise()(plane(0.39), CAMERA, rng()) == 0).all()
    assert (DepthNoise()(plane(6.01), CAMERA, rng()) == 0).all()
    assert (DepthNoise()(plane(0.0), CAMERA, rng()) == 0).all()
    with pytest.raises(ValueError, match="depth image is 4x3"):
        DepthNoise()(np.ones((3, 4), np.float32), CAMERA, rng())
