from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.rooms import furniture, items
from sim.rooms.design import PALETTE, Design, seeded
from sim.rooms.labels import LABELS
from sim.rooms.shapes import Box, Lathe, Panel, Tube, cylinder, ellipsoid, vessel

SIZES = st.floats(0.02, 2.0)
SOLIDS = st.one_of(
    st.builds(Box, st.tuples(SIZES, SIZES, SIZES), st.floats(0, 0.5)),
    st.builds(cylinder, SIZES, SIZES, st.one_of(st.none(), SIZES)),
    st.builds(ellipsoid, SIZES, SIZES, SIZES),
    st.builds(lambda r, h: vessel(r, h, 0.2 * min(r, h)), SIZES, SIZES),
    st.builds(lambda a, b: Tube(((0, 0, 0), (a, 0.1, b), (a, 0.3, 2 * b)), 0.02), SIZES, SIZES),
)
DESIGNS = {
    **furniture.FURNITURE,
    **{n: f for n, f in vars(items).items() if getattr(f, "__module__", "") == items.__name__ and n[0] != "_"},
}


def corners(surface):
    return (surface.vertices[surface.faces[:, k]] for k in range(3))


@settings(max_examples=60, deadline=None)
@given(SOLIDS, st.sampled_from([0.05, 0.3]))
def test_solids_are_closed_and_face_outwards(solid, edge):
    surface = solid.mesh(edge)
    a, b, c = corners(surface)
    face_normals = np.cross(b - a, c - a)
    # A closed surface's area vectors cancel, and the divergence theorem gives a positive volume.
    area = np.linalg.norm(face_normals, axis=1)
    assert np.abs(face_normals.sum(axis=0)).max() < 1e-6 * area.sum()
    assert np.einsum("ij,ij->", a, np.cross(b, c)) > 0
    # Shading normals are unit vectors on the outer side of their triangles.
    assert np.allclose(np.linalg.norm(surface.normals, axis=1), 1, atol=1e-6)
    side = np.einsum("ij,ij->i", surface.normals[surface.faces].mean(axis=1), face_normals)
    assert (side > 0).all()


@given(st.floats(0.05, 1.0), st.floats(0.05, 1.0))
@settings(max_examples=20, deadline=None)
def test_volumes_approach_the_true_ones(r, h):
    for solid, volume in ((cylinder(r, h), np.pi * r * r * h), (ellipsoid(r, r, h), 4 / 3 * np.pi * r * r * h)):
        a, b, c = corners(solid.mesh(min(r, h) / 12))
        assert np.einsum("ij,ij->", a, np.cross(b, c)) / 6 == pytest.approx(volume, rel=0.05)


def test_rounded_box_stays_inside_its_size():
    surface = Box((0.4, 0.6, 0.2), 0.05).mesh(0.05)
    assert np.allclose(np.abs(surface.vertices).max(axis=0), (0.2, 0.3, 0.1))


def test_panel_leaves_its_holes_open():
    surface = Panel((4.0, 3.0), ((-1.0, -1.5, 0.0, 0.5), (1.0, 0.0, 1.5, 1.0))).mesh(0.1)
    a, b, c = corners(surface)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2
    assert area == pytest.approx(4 * 3 - 1 * 2 - 0.5 * 1)


def test_finer_edges_mean_more_triangles():
    lathe = Lathe(((0, 0), (0.3, 0), (0.2, 0.5), (0, 0.5)))
    assert len(lathe.mesh(0.02).faces) > 3 * len(lathe.mesh(0.1).faces)


@pytest.mark.parametrize("name", sorted(DESIGNS))
def test_designs_stand_on_their_foot_and_have_known_names(name):
    for k in range(6):
        design: Design = DESIGNS[name](seeded(name, k))
        low, high = design.bounds
        hung = name in ("picture", "whiteboard", "clock")
        assert low[2] == pytest.approx(0, abs=0.02)
        assert (low[0] > -1e-6) if hung else (low[0] < 0 < high[0])
        assert design.label in LABELS and design.color in PALETTE
        for place in design.places:
            assert 0 <= place.center[2] <= high[2] + 0.02
        again = DESIGNS[name](seeded(name, k))
        assert [p.material for p in again.parts] == [p.material for p in design.parts]
