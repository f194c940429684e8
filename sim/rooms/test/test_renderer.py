from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import inverse, look_at, transform

from sim.rooms.path import make_path
from sim.rooms.renderer import Renderer
from sim.rooms.test.rooms_for_tests import SMALL, boxes_scene, renderer, room

PINHOLE = Camera(64, 48, 55.0, 56.0, 31.2, 24.1)
BARREL = Camera(64, 48, 45.0, 45.0, 31.5, 23.5, "plumb_bob", (-0.25, 0.06, 0.002, -0.001, 0.0))
FISHEYE = Camera(64, 48, 26.0, 26.0, 31.5, 23.5, "equidistant", (0.02, -0.01, 0.003, -0.001))


def cast(scene, origin, directions):
    """Brute force in plain numpy (Moeller and Trumbore 1997): distance along each ray and face, front sides only."""
    g = scene.geometry
    a, b, c = (g.vertices[g.faces[:, k]].astype(np.float64) for k in range(3))
    e1, e2, s = b - a, c - a, origin - a
    q = np.cross(s, e1)
    best, face = np.full(len(directions), np.inf), np.full(len(directions), -1)
    for n, d in enumerate(directions):
        p = np.cross(d, e2)
        det = np.einsum("ij,ij->i", e1, p)
        front = det > 1e-12
        safe = np.where(front, det, 1.0)
        u, v = np.einsum("ij,ij->i", s, p) / safe, q @ d / safe
        t = np.einsum("ij,ij->i", e2, q) / safe
        hit = front & (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0)
        if hit.any():
            k = np.flatnonzero(hit)[np.argmin(t[hit])]
            best[n], face[n] = t[k], k
    return best, face


def check_against_brute_force(scene, camera, T, seed=0, rays=60):
    rendering = Renderer(scene).render(camera, T, color=False)
    rng = np.random.default_rng(seed)
    pixels = np.column_stack([rng.integers(camera.width, size=rays), rng.integers(camera.height, size=rays)])
    directions = camera.rays(pixels)
    pixels, directions = pixels[np.isfinite(directions).all(axis=1)], directions[np.isfinite(directions).all(axis=1)]
    depth, face = cast(scene, T[:3, 3], directions @ T[:3, :3].T)
    seen = rendering.depth[pixels[:, 1], pixels[:, 0]]
    expected = np.where(np.isfinite(depth), depth, 0.0)
    ids = np.where(face >= 0, scene.geometry.face_object[face], 0)
    # The direction has z = 1, so the distance along it is the depth along the optical axis.
    assert np.allclose(seen, expected, rtol=1e-5, atol=1e-6)
    different = rendering.ids[pixels[:, 1], pixels[:, 0]] != ids
    assert different.sum() <= 1  # two surfaces at the very same depth may swap


@pytest.mark.parametrize("camera", [PINHOLE, BARREL, FISHEYE], ids=["pinhole", "plumb_bob", "equidistant"])
@pytest.mark.parametrize("seed", [0, 3])
def test_depth_and_ids_equal_brute_force_ray_casting(camera, seed):
    poses = make_path(renderer(seed), 40, seed=1).poses
    for k in (0, 20, 39):
        check_against_brute_force(room(seed), camera, poses[k], seed=k)


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(*[st.floats(0.3, 5.7)] * 2, st.floats(0.05, 2.5)),
    st.tuples(*[st.floats(0.0, 6.0)] * 2, st.floats(0.0, 0.4)),
    st.sampled_from([PINHOLE, BARREL, FISHEYE]),
)
def test_any_pose_even_close_to_large_triangles(eye, target, camera):
    if np.linalg.norm(np.subtract(eye, target)[:2]) < 0.2:
        return
    scene = boxes_scene(((0.8, 0.5, 0.7), (2, 2, 0.35)), ((0.3, 0.3, 1.5), (4, 3, 0.75)), edge=3.0)
    inside = any(
        (np.abs(np.subtract(eye, c)) < np.array(s) / 2 + 0.05).all()
        for s, c in (
            ((0.8, 0.5, 0.7), (2, 2, 0.35)),
            ((0.3, 0.3, 1.5), (4, 3, 0.75)),
        )
    )
    if not inside:
        check_against_brute_force(scene, camera, look_at(eye, target), rays=40)


def test_no_cracks_inside_a_closed_surface():
    """From inside the room every ray meets something: holes between triangles would show as missing depth."""
    for seed in (0, 2):
        scene = room(seed)
        if "ceiling" not in scene.labels.values():
            continue
        for T in make_path(renderer(seed), 60).poses[::15]:
            rendering = renderer(seed).render(Camera(320, 240, 290, 290, 159.5, 119.5), T, color=False)
            assert (rendering.depth > 0).all()


def test_color_is_deterministic_lit_and_alike_from_many_threads():
    T = make_path(renderer(0), 5).poses[0]
    first = renderer(0).render(SMALL, T)
    assert first.color.dtype == np.uint8 and first.color.shape == (120, 160, 3)
    assert 60 < first.color.mean() < 220 and first.color.std() > 15
    results = [None] * 4

    def work(k):
        results[k] = Renderer(room(0)).render(SMALL, T)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for r in results:
        assert (r.color == first.color).all() and (r.depth == first.depth).all() and (r.ids == first.ids).all()


def test_a_box_casts_its_shadow_on_the_floor():
    scene = boxes_scene(((0.6, 0.6, 0.6), (4.0, 3.0, 0.3)))
    T = look_at((5.2, 1.0, 2.2), (4.3, 3.0, 0.0))
    lit, shadowed = Renderer(scene, shadows=False).render(SMALL, T).color, Renderer(scene).render(SMALL, T).color
    # The lamp is over the middle of the room at (3, 3): the floor behind the box, away from it, is dark.
    behind, before = np.array([[4.45, 3.0, 0.0], [3.2, 3.0, 0.0]])
    for point, is_dark in ((behind, True), (before, False)):
        u, v = np.round(SMALL.project(transform(inverse(T), point[None]))[0]).astype(int)
        assert (int(lit[v, u].sum()) - int(shadowed[v, u].sum()) > 60) == is_dark


def test_surface_agrees_with_the_depth_image_and_between_pixels():
    T = make_path(renderer(3), 30).poses[25]
    rendering = renderer(3).render(SMALL, T, color=False)
    pixels = np.array([(10, 20), (80, 60), (150, 100), (-40, 5)], dtype=np.float64)
    points, ids = renderer(3).surface(SMALL, T, pixels)
    for (u, v), point, object_id in zip(pixels[:3].astype(int), points, ids, strict=False):
        assert object_id == rendering.ids[v, u]
        assert transform(inverse(T), point)[2] == pytest.approx(rendering.depth[v, u], rel=1e-5)
    between, _ = renderer(3).surface(SMALL, T, pixels[:3] + 0.37)
    assert np.allclose(SMALL.project(transform(inverse(T), between)), pixels[:3] + 0.37, atol=1e-6)
    assert np.isnan(renderer(3).surface(SMALL, T, [(np.nan, 3.0)])[0]).all()
