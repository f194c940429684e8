"""Registration of what looks the same in many places: a box before a tiled wall, seen with poses that are off."""

from __future__ import annotations

import numpy as np
import pytest
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import carried_covariance, exponential, inverse, look_at, transform
from roboref_core.views.registration import FeatureCache, Verdict, register
from roboref_core.views.registration.features import surface_of
from roboref_core.views.view import View

CAMERA = Camera(320, 240, 260.0, 262.0, 158.5, 121.0)
WALL_Y = 3.0
LOW, HIGH = np.array([0.4, 1.5, 0.5]), np.array([0.9, 1.8, 1.6])
TILE = 0.25
ANGLES = np.linspace(0.0, 2 * np.pi, 12, endpoint=False)
POSES = [look_at((-0.3 + 0.5 * np.cos(a), 0.2 * np.sin(a), 1.2), (0.2, WALL_Y, 1.2)) for a in ANGLES]


def tiled(T_world_camera: np.ndarray) -> View:
    """Exact colour and depth, by ray casting."""
    v, u = np.mgrid[: CAMERA.height, : CAMERA.width]
    rays = CAMERA.rays(np.stack([u.ravel(), v.ravel()], axis=1)) @ T_world_camera[:3, :3].T
    rays[rays == 0] = 1e-12
    origin = T_world_camera[:3, 3]
    near, far = np.sort([(LOW - origin) / rays, (HIGH - origin) / rays], axis=0)
    on_box = (near.max(axis=1) < far.min(axis=1)) & (near.max(axis=1) > 0)
    z = np.where(on_box, near.max(axis=1), (WALL_Y - origin[1]) / rays[:, 1])
    tiles = np.floor((origin + rays * z[:, None]) / TILE + 1e-6).sum(axis=1) % 2
    color = np.where(on_box[:, None], (200, 60, 40), (90, 140, 170)) * (0.6 + 0.4 * tiles[:, None])
    return View(
        view_id="tiled",
        stamp_ns=0,
        color=color.reshape(CAMERA.height, CAMERA.width, 3).astype(np.uint8),
        camera=CAMERA,
        depth=z.reshape(CAMERA.height, CAMERA.width).astype(np.float32),
        T_world_camera=T_world_camera,
    )


@pytest.fixture(scope="module")
def views() -> list[View]:
    return [tiled(T) for T in POSES]


def wrong(found, reference: View, i: int, k: int) -> float:
    """Share of the reference's points that a registration puts beyond 3 stated standard deviations and 1 cm."""
    points = surface_of(reference).points[::40]
    true = transform(inverse(POSES[k]) @ POSES[i], points)
    off = np.linalg.norm(transform(found.T_query_reference, points) - true, axis=1)
    sigma = [np.sqrt(np.linalg.eigvalsh(carried_covariance(p, found.covariance)).max()) for p in true]
    return float((off > 3.0 * np.array(sigma) + 0.01).mean())


@pytest.mark.parametrize("sigma", [(0.02, 0.0175), (0.05, 0.052)])
def test_tiles_do_not_pass_for_one_another(views, sigma):
    """Nor do a box's outlines hold it where the wall behind it fits everywhere."""
    rng, cache, scale = np.random.default_rng(7), FeatureCache(), np.repeat(sigma, 3)
    registered = failed = 0
    for _ in range(40):
        i, k = rng.choice(len(POSES), 2, replace=False)
        a, b = (views[n].with_pose(POSES[n] @ exponential(scale * rng.normal(size=6))) for n in (i, k))
        found = register(a, b, cache, *sigma)
        if found.verdict is Verdict.REGISTERED:
            registered += 1
            failed += wrong(found, a, i, k) > 0.1
    assert registered > 20
    assert failed <= 1


def test_without_poses_a_tile_is_no_place(views):
    cache = FeatureCache()
    for i, k in [(0, 1), (0, 3), (2, 9), (5, 7), (4, 6), (10, 3)]:
        found = register(views[i].with_pose(None), views[k].with_pose(None), cache, 0.0, 0.0)
        assert found.verdict is not Verdict.REGISTERED or wrong(found, views[i], i, k) < 0.1


def test_normals_beside_an_outline_are_those_of_their_surface():
    """Straight ahead, box and wall face the camera, and so does every normal: none leans over from one to the other."""
    surface = surface_of(tiled(look_at((0.65, 0.0, 1.05), (0.65, WALL_Y, 1.05))))
    normals = surface.normals[np.isfinite(surface.normals[..., 0])]
    assert len(normals) > 60_000
    np.testing.assert_allclose(normals[:, 2], -1.0, atol=1e-3)
