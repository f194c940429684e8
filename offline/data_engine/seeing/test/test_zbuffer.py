from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import look_at
from roboref_core.scene import Instances, Mesh

from offline.data_engine.seeing.surface import Surface
from offline.data_engine.seeing.zbuffer import Projection
from offline.data_engine.test.synthetic import SyntheticScene, box, merge

o3d = pytest.importorskip("open3d")
CAMERA = Camera(320, 240, 288.3, 287.1, 158.7, 121.4)


def raycast(mesh: Mesh, camera: Camera, T_world_camera: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(o3d.core.Tensor(mesh.vertices), o3d.core.Tensor(mesh.faces.astype(np.uint32)))
    uv = np.stack(np.meshgrid(np.arange(camera.width), np.arange(camera.height)), axis=-1).reshape(-1, 2)
    directions = camera.rays(uv) @ T_world_camera[:3, :3].T
    rays = np.concatenate([np.broadcast_to(T_world_camera[:3, 3], directions.shape), directions], axis=1)
    hit = scene.cast_rays(o3d.core.Tensor(rays.astype(np.float32)))
    depth = hit["t_hit"].numpy().reshape(camera.height, camera.width)
    return np.where(np.isfinite(depth), depth, 0), hit["primitive_ids"].numpy().reshape(depth.shape)


def soup(rng: np.random.Generator, n: int, size: float) -> Mesh:
    """Triangles of all sizes and attitudes around the origin, some behind and across the camera plane."""
    centres = rng.uniform(-3, 3, (n, 1, 3))
    vertices = (centres + rng.normal(size=(n, 3, 3)) * size).reshape(-1, 3).astype(np.float32)
    return Mesh(vertices, np.arange(3 * n, dtype=np.int32).reshape(n, 3))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.05, 0.4, 3.0]))
def test_equals_ray_casting(seed, size):
    rng = np.random.default_rng(seed)
    mesh = soup(rng, 300, size)
    T = look_at(rng.uniform(-1, 1, 3), rng.uniform(-1, 1, 3) + (0, 0, 3), (0.3, 1, 0.1))
    expected, _ = raycast(mesh, CAMERA, T)
    depth = Projection(Surface.build(mesh), CAMERA, T).render().depth
    # Open3D has no near plane; nearer than ours nothing is compared.
    compared = (expected == 0) | (expected > 0.011)
    wrong = compared & (np.abs(depth - expected) > 1e-4 + 1e-4 * expected)
    # Rays through an edge may go either way; a pixel well inside a face may not.
    assert wrong.sum() <= 2e-4 * wrong.size


def test_a_closed_surface_has_no_cracks():
    """A finely divided plane, seen so that many pixel centres fall on its edges exactly."""
    n = 65
    x, y = np.meshgrid(np.arange(n), np.arange(n))
    vertices = np.stack([x.ravel() - n // 2, y.ravel() - n // 2, np.full(n * n, 4.0)], axis=1).astype(np.float32)
    q = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    faces = np.concatenate([np.stack([q, q + 1, q + n], 1), np.stack([q + 1, q + n + 1, q + n], 1)]).astype(np.int32)
    camera = Camera(100, 100, 16.0, 16.0, 50.0, 50.0)
    depth = Projection(Surface.build(Mesh(vertices, faces)), camera, np.eye(4)).render().depth
    np.testing.assert_allclose(depth, 4.0, rtol=1e-6)


def test_ids_are_those_of_the_nearest_object():
    scene = SyntheticScene(frames=6)
    surface = Surface.build(scene.mesh(), scene.instances())
    for i in range(len(scene)):
        depth, ids, _ = scene.cast(i, scene.color_camera)
        zbuffer = Projection(surface, scene.color_camera, scene.poses[i]).render()
        assert (zbuffer.ids != ids).mean() < 2e-3
        np.testing.assert_allclose(zbuffer.depth[zbuffer.ids == ids], depth[zbuffer.ids == ids], rtol=1e-4)


def test_object_windows_and_scene_without_object_agree_with_the_whole():
    scene = SyntheticScene(frames=2)
    surface = Surface.build(scene.mesh(), scene.instances())
    projection = Projection(surface, scene.color_camera, scene.poses[0])
    whole = projection.render()
    w, h = scene.color_camera.width, scene.color_camera.height
    for object_id in (4, 5, 7):
        faces = surface.object_faces(object_id)
        u0, v0, u1, v1 = projection.window(faces, (0, 0, w, h))
        alone = projection.render(faces, (u0, v0, u1, v1))
        rest = projection.render_without(faces, (u0, v0, u1, v1))
        outside = whole.ids.copy()
        outside[v0:v1, u0:u1] = 0
        assert not (outside == object_id).any()
        part = whole.depth[v0:v1, u0:u1]
        ahead = (alone.depth > 0) & ((rest.depth == 0) | (alone.depth < rest.depth))
        nearest = np.where(ahead, alone.depth, rest.depth)
        np.testing.assert_array_equal(nearest, part)
        assert not (rest.ids == object_id).any()


def test_a_window_reaches_beyond_the_picture():
    mesh, ids = merge([(*box((-4, -0.5, 2), (0, 0.5, 2.5)), 7)])
    surface = Surface.build(mesh, Instances(ids, {7: "beam"}))
    projection = Projection(surface, CAMERA, np.eye(4))
    window = projection.window(surface.object_faces(7), (-CAMERA.width, -CAMERA.height, 640, 480))
    alone = projection.render(surface.object_faces(7), window)
    assert window[0] < 0 and (alone.depth[:, : -window[0]] > 0).any()


def test_refuses_what_it_cannot_render_exactly():
    surface = Surface.build(soup(np.random.default_rng(0), 3, 1.0))
    distorted = Camera(64, 48, 50, 50, 32, 24, "plumb_bob", (0.1, 0, 0, 0))
    with pytest.raises(ValueError, match="plumb_bob"):
        Projection(surface, distorted, np.eye(4))
    with pytest.raises(ValueError, match="finite"):
        Projection(surface, CAMERA, np.full((4, 4), np.nan))


def test_surface_refuses_segments_of_another_mesh():
    mesh = soup(np.random.default_rng(0), 3, 1.0)
    with pytest.raises(ValueError, match="another mesh"):
        Surface.build(mesh, Instances(np.zeros(5, np.int32), {}))
    with pytest.raises(ValueError, match="faces name"):
        Surface.build(Mesh(mesh.vertices, mesh.faces + 7))
