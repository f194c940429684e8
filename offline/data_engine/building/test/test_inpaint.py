from __future__ import annotations

import numpy as np
import pytest
from roboref_core.scene import Instances, Mesh

from offline.data_engine.building.inpaint import (
    ClassicalInpainter,
    SourceView,
    depth_without,
    dilate,
    inpaint,
    paint_hole,
    rank_sources,
)
from offline.data_engine.seeing.point_counter import PointCounter
from offline.data_engine.seeing.surface import Surface
from offline.data_engine.seeing.visibility import FrameVisibility
from offline.data_engine.seeing.zbuffer import Projection
from offline.data_engine.test.synthetic import ROOM, SyntheticScene

pytest.importorskip("open3d")
BAG, TABLE = 6, 4


class Without(SyntheticScene):
    """The same room without the bag: what an ideal inpainting shows."""

    def __post_init__(self):
        super().__post_init__()
        import open3d as o3d

        keep = self._face_ids != BAG
        self._caster = o3d.t.geometry.RaycastingScene()
        faces = self._mesh.faces[keep]
        self._caster.add_triangles(o3d.core.Tensor(self._mesh.vertices), o3d.core.Tensor(faces.astype(np.uint32)))
        self._face_ids = self._face_ids[keep]


@pytest.fixture(scope="module")
def painted():
    scene, truth = SyntheticScene(frames=24), Without(frames=24)
    surface = Surface.build(scene.mesh(), scene.instances())
    counter = PointCounter(surface, scene.depth_camera)
    seen = {i: counter.count(scene.depth(i), scene.poses[i])[1] for i in range(24) if i != 2}
    frame = FrameVisibility(surface, scene.color_camera, scene.poses[2], scene.depth(2), scene.depth_camera)
    _, mask, _ = frame.observe(BAG)
    hole = paint_hole(frame, mask, 0.02, [5, 7, 8, 10])
    order = rank_sources(frame, BAG, hole, seen, scene.poses, 8)
    cameras = scene.color_camera, scene.depth_camera
    sources = [SourceView(scene.color(i), cameras[0], scene.depth(i), cameras[1], scene.poses[i]) for i in order]
    result = inpaint(frame, scene.color(2), BAG, hole, sources)
    return scene, truth, frame, mask, hole, order, result


def test_the_background_comes_from_other_views(painted):
    scene, truth, _, mask, hole, order, result = painted
    assert result.warped > 0.5 and result.warped + result.classical == pytest.approx(1.0)
    assert len(order) == len(set(order)) and 2 not in order
    # The scene has no shadows and matt surfaces: the ideal picture is the room rendered without the bag.
    error = np.abs(result.image.astype(int) - truth.color(2)).mean(axis=2)
    before = np.abs(scene.color(2).astype(int) - truth.color(2)).mean(axis=2)
    assert error[mask].mean() < 0.25 * before[mask].mean()
    assert np.median(error[mask]) < 12
    np.testing.assert_array_equal(result.image[~hole], scene.color(2)[~hole])


def test_without_other_views_everything_is_classical(painted):
    scene, _, frame, _, hole, _, _ = painted
    result = inpaint(frame, scene.color(2), BAG, hole, [])
    assert (result.warped, result.classical) == (0.0, 1.0)


def test_a_learned_inpainter_can_take_the_rest(painted):
    scene, _, frame, _, hole, _, _ = painted

    class Green:
        name = "green"

        def fill(self, image, hole):
            out = image.copy()
            out[hole] = (0, 255, 0)
            return out

    result = inpaint(frame, scene.color(2), BAG, hole, [], Green())
    middle = dilate(hole, 0) & ~dilate(~hole, 0.02)
    assert (result.image[middle] == (0, 255, 0)).all()


def test_the_object_itself_is_never_copied_into_its_place():
    """A thin book on a table: from everywhere, what covers the table there is the book, within the tolerance."""
    scene = SyntheticScene(frames=12)
    vertices = scene.mesh().vertices.copy()
    book = scene.instances().vertex_ids == 5
    vertices[book, 2] = np.where(vertices[book, 2] > 0.8, 0.715, vertices[book, 2])
    ids = scene.instances().vertex_ids
    surface = Surface.build(Mesh(vertices, scene.mesh().faces), Instances(ids, {}))
    frame = FrameVisibility(surface, scene.color_camera, scene.poses[0], scene.depth(0), scene.depth_camera)
    red = np.zeros((scene.color_camera.height, scene.color_camera.width, 3), np.uint8)
    red[..., 0] = np.where(frame.zbuffer.ids == 5, 255, 0)
    source_frame = FrameVisibility(surface, scene.color_camera, scene.poses[6], scene.depth(6), scene.depth_camera)
    red_source = np.zeros_like(red)
    red_source[..., 0] = np.where(source_frame.zbuffer.ids == 5, 255, 0)
    depth = Projection(surface, scene.depth_camera, scene.poses[6]).render().depth
    source = SourceView(red_source, scene.color_camera, depth, scene.depth_camera, scene.poses[6])
    hole = dilate(frame.zbuffer.ids == 5, 0.02)

    class Black:
        name = "black"

        def fill(self, image, rest):
            return np.where(rest[..., None], 0, image).astype(np.uint8)

    result = inpaint(frame, red, 5, hole, [source], Black())
    assert result.image[..., 0].max() == 0


def test_depth_without_is_the_depth_behind(painted):
    scene, truth, frame, _, hole, _, _ = painted
    depth = depth_without(frame, BAG, hole)
    expected, _, _ = truth.cast(2, scene.depth_camera)
    _, ids, _ = scene.cast(2, scene.depth_camera)
    np.testing.assert_allclose(depth[ids == BAG], expected[ids == BAG], rtol=1e-3)


def test_things_beside_the_object_stay():
    scene = SyntheticScene(frames=4)
    surface = Surface.build(scene.mesh(), scene.instances())
    frame = FrameVisibility(surface, scene.color_camera, scene.poses[0], scene.depth(0), scene.depth_camera)
    _, mask, _ = frame.observe(TABLE)
    hole = paint_hole(frame, mask, 0.03, [i for _, _, i, _ in ROOM if i not in (1, 2, 3, TABLE)])
    on_table = np.isin(frame.zbuffer.ids, (5, 6))
    assert (hole & on_table).sum() < 0.5 * on_table.sum() and (hole & mask).sum() == mask.sum()


def test_classical_keeps_what_is_not_hole():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (400, 500, 3), dtype=np.uint8)
    hole = np.zeros((400, 500), dtype=bool)
    hole[20:380, 30:450] = True
    filled = ClassicalInpainter().fill(image, hole)
    np.testing.assert_array_equal(filled[~hole], image[~hole])
    np.testing.assert_array_equal(ClassicalInpainter().fill(image, hole & False), image)
