from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from roboref_core.scene import Mesh

from offline.data_engine.seeing.surface import CLUSTER, Surface

corner = st.tuples(*[st.floats(-1.5, 1.5, width=32)] * 3)
SPACING = 0.1


@settings(max_examples=40, deadline=None)
@given(st.lists(corner, min_size=3, max_size=3), st.integers(0, 10**6))
def test_no_part_of_a_face_is_far_from_a_sample(corners, seed):
    a, b, c = vertices = np.array(corners, np.float32)
    points = Surface.build(Mesh(vertices, np.array([[0, 1, 2]], np.int32))).points
    weights = np.random.default_rng(seed).dirichlet((1, 1, 1), 100)
    apart = np.linalg.norm((weights @ vertices)[:, None] - points[None], axis=2).min(axis=1)
    assert apart.max() <= SPACING

    edges = np.linalg.norm(vertices - np.roll(vertices, 1, axis=0), axis=1)
    if edges.max() <= SPACING:
        assert len(points) == 3
        return
    height = np.linalg.norm(np.cross(b - a, c - a)) / edges.max()
    # As many as its area and its length call for, however thin it is.
    assert len(points) - 3 <= (edges.max() / SPACING + 1) * (height / SPACING + 1)
    inside, *_ = np.linalg.lstsq(np.vstack([vertices.T, np.ones(3)]), np.vstack([points.T, np.ones(len(points))]))
    residual = np.abs(np.vstack([vertices.T, np.ones(3)]) @ inside - np.vstack([points.T, np.ones(len(points))])).max()
    assert residual < 1e-4


def test_samples_of_an_object_are_one_range_near_its_neighbours():
    rng = np.random.default_rng(0)
    vertices = rng.uniform(0, 3, (60, 3)).astype(np.float32)
    surface = Surface.build(Mesh(vertices, rng.integers(0, 60, (40, 3)).astype(np.int32)))
    assert surface.point_starts[0] == 0 and surface.point_starts[-1] == len(surface.points)
    for k, (first, end) in enumerate(zip(surface.cluster_starts[:-1], surface.cluster_starts[1:], strict=True)):
        outside = np.abs(surface.points[first:end] - surface.boxes[k, :3]) - surface.boxes[k, 3:]
        assert 0 < end - first <= CLUSTER and outside.max() <= 1e-6
