from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import inverse, look_at
from roboref_core.scene import Instances, Mesh
from roboref_core.views.view import View
from roboref_core.views.visibility import DepthTolerance, Visibility, point_visibility

from offline.data_engine.seeing.point_counter import PointCounter
from offline.data_engine.seeing.surface import Surface
from offline.data_engine.seeing.visibility import STATES
from offline.data_engine.seeing.zbuffer import NEAR
from offline.data_engine.test.synthetic import DEPTH, box, merge


def point_by_point(surface: Surface, camera: Camera, depth: np.ndarray, T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts and flags as PointCounter's, without clusters and in the same single precision."""
    tolerance = DepthTolerance()
    fx, fy, cx, cy, near, a, b, half = np.array(
        [camera.fx, camera.fy, camera.cx, camera.cy, NEAR, tolerance.a, tolerance.b, 0.5], np.float32
    )
    R = inverse(T)[:3, :3].astype(np.float32)
    offset = (surface.points - T[:3, 3].astype(np.float32)).T
    x, y, z = (row[0] * offset[0] + row[1] * offset[1] + row[2] * offset[2] for row in R)
    with np.errstate(all="ignore"):
        q = np.float32(1) / z
        u, v = fx * x * q + cx + half, fy * y * q + cy + half
        inside = (z >= near) & (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
        d = np.zeros_like(z)
        d[inside] = depth[v[inside].astype(np.int64), u[inside].astype(np.int64)]
        known = inside & (d > 0) & np.isfinite(d)
        occluded = known & (d < z - (a + b * z))
        conflict = known & (d > z + (a + b * z))
    visible = known & ~occluded & ~conflict
    flags = np.stack([visible, ~inside, occluded, inside & ~known, conflict], axis=1)
    return np.add.reduceat(flags.astype(np.int32), surface.point_starts[:-1]), visible


def scene_around(rng: np.random.Generator, T: np.ndarray) -> Surface:
    """Objects of one point to several clusters in front of, beside and behind a camera, and points on its frustum."""
    sizes = rng.choice([1, 2, 63, 64, 65, 127, 128, 129, 500], 30)
    parts = [rng.normal(rng.uniform(-3, 3, 3), rng.uniform(0.05, 0.6), (n, 3)) for n in sizes]
    n = 200
    pixels = rng.uniform(-0.5, (DEPTH.width - 0.5, DEPTH.height - 0.5), (n, 2))
    edge = rng.integers(0, 2, n)
    pixels[range(n), edge] = np.where(rng.random(n) < 0.5, -0.5, np.array([DEPTH.width, DEPTH.height])[edge] - 0.5)
    on_edge = DEPTH.unproject(pixels, rng.uniform(0.1, 8, n)) @ T[:3, :3].T + T[:3, 3]
    parts += [point[None] for point in on_edge]
    ids = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    mesh = Mesh(np.concatenate(parts).astype(np.float32), np.empty((0, 3), np.int32))
    return Surface.build(mesh, Instances(ids, {}))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_clusters_change_no_count_and_no_bit(seed):
    rng = np.random.default_rng(seed)
    T = look_at(rng.uniform(-3, 3, 3), rng.uniform(-1, 1, 3))
    surface = scene_around(rng, T)
    raw = np.clip(rng.normal(rng.uniform(500, 4000), 700, (DEPTH.height, DEPTH.width)), 0, 65535).astype(np.uint16)
    metres = raw * np.float32(0.001)
    counter = PointCounter(surface, DEPTH)
    wanted = rng.random(len(surface.object_ids)) < 0.7
    row = np.repeat(np.arange(len(surface.object_ids)), np.diff(surface.point_starts))

    def check(stored, unit, depth):
        expected, visible = point_by_point(surface, DEPTH, depth, T)
        for which in (np.ones(len(wanted), bool), wanted):
            counts, bits = counter.count(stored, T, which, unit)
            np.testing.assert_array_equal(counts, np.where(which[:, None], expected, 0))
            flags = np.unpackbits(bits.view(np.uint8), bitorder="little").astype(bool)
            np.testing.assert_array_equal(flags[: len(visible)], visible & which[row])
            assert not flags[len(visible) :].any()

    check(raw, 0.001, metres)
    holes = rng.random(metres.shape)
    metres[holes < 0.1], metres[holes < 0.05], metres[holes < 0.02] = 0, np.nan, np.inf
    check(metres, 1.0, metres)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_point_counts_agree_with_the_core_test(seed):
    """Against roboref_core.views.visibility, which is written for few points and in float64, on smooth depth."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-2, 2, (5, 3))
    mesh, ids = merge([(*box(lo, lo + rng.uniform(0.1, 1.5, 3)), k) for k, lo in enumerate(corners, 1)])
    surface = Surface.build(mesh, Instances(ids, {}))
    T = look_at(rng.uniform(-3, 3, 3), (0, 0, 0))
    depth = np.full((DEPTH.height, DEPTH.width), rng.uniform(0.5, 4), np.float32)
    if seed % 5 == 0:
        depth[:] = np.nan
    color = np.zeros((DEPTH.height, DEPTH.width, 3), np.uint8)
    view = View(view_id="v", stamp_ns=0, color=color, camera=DEPTH, depth=depth, T_world_camera=T)
    counts, bits = PointCounter(surface, DEPTH).count(depth, T)
    for k, object_id in enumerate(surface.object_ids):
        names, _ = point_visibility(surface.object_points(object_id), view)
        expected = np.array([names.count(state) for state in STATES])
        # A point within rounding of the picture's border or of the tolerance may fall on either side.
        assert np.abs(counts[k] - expected).sum() <= 0.01 * len(names) + 2
    assert np.bitwise_count(bits).sum() == counts[:, 0].sum()


def test_a_lost_pose_sees_nothing_and_a_wrong_size_is_refused():
    mesh, ids = merge([(*box((-1, -1, 1), (1, 1, 2)), 1), (*box((0, 0, 3), (1, 1, 4)), 2)])
    surface = Surface.build(mesh, Instances(ids, {}))
    counter = PointCounter(surface, DEPTH)
    depth = np.ones((DEPTH.height, DEPTH.width), np.float32)
    counts, bits = counter.count(depth, np.full((4, 4), np.nan))
    np.testing.assert_array_equal(counts[:, STATES.index(Visibility.OUT_OF_FRUSTUM)], np.diff(surface.point_starts))
    assert not counts[:, STATES.index(Visibility.VISIBLE)].any() and not bits.any()
    with pytest.raises(ValueError, match="depth image is 10x10"):
        counter.count(np.zeros((10, 10), np.float32), np.eye(4))
