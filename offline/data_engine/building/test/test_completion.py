"""Objects of which the mesh has a part, in pictures where the whole is known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from offline.data_engine.building.completion import Extent, object_extent, why_object_remains
from offline.data_engine.building.inpaint import _feather, dilate
from offline.data_engine.seeing.visibility import VisibilityConfig

W, H = 320, 240
THING, BESIDE = 5, 6


def picture_of(box: tuple[int, int, int, int], color=(40, 60, 150), seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A coloured thing on a grey wall, with noise; and its true mask."""
    u0, v0, u1, v1 = box
    truth = np.zeros((H, W), bool)
    truth[v0:v1, u0:u1] = True
    picture = np.where(truth[..., None], np.array(color), 170)
    noise = np.random.default_rng(seed).normal(0, 4, (H, W, 3))
    return np.clip(picture + noise, 0, 255).astype(np.uint8), truth


def frame_of(mask: np.ndarray, measured: np.ndarray) -> SimpleNamespace:
    """A view whose mesh shows the thing in ``mask``, 1 m away, before a wall at 2 m."""
    return SimpleNamespace(
        zbuffer=SimpleNamespace(
            depth=np.where(mask, np.float32(1), np.float32(2)), ids=np.where(mask, THING, 0).astype(np.int32)
        ),
        sensor_depth=lambda part: measured.astype(np.float32)[part],
        config=VisibilityConfig(),
    )


@pytest.mark.parametrize("measured", ["nothing", "everything"])
def test_the_missing_part_is_found(measured):
    picture, truth = picture_of((130, 100, 190, 140))
    mask = truth & (np.arange(W) < 178)
    depth = np.where(truth, 1.0, 2.0) if measured == "everything" else np.zeros((H, W))
    extent = object_extent(frame_of(mask, depth), picture, mask, [])
    assert extent.bounded and (extent.region | mask == extent.region).all()
    assert (extent.region & truth).sum() / truth.sum() > 0.97
    assert (extent.region & ~dilate(truth, 0.006)).sum() < 0.02 * truth.sum()


def test_what_was_measured_behind_is_not_grown_over():
    """The wall has the thing's colour: only depth tells them apart."""
    picture = np.full((H, W, 3), 120, np.uint8)
    _, truth = picture_of((130, 100, 190, 140))
    depth = np.where(truth, 1.0, 2.0)
    extent = object_extent(frame_of(truth, depth), picture, truth, [])
    assert extent.bounded and not (extent.region & ~dilate(truth, 0.02)).any()


def test_a_thing_that_goes_on_beyond_the_hole_is_not_used():
    picture, _ = picture_of((60, 100, 190, 140))
    mask = np.zeros((H, W), bool)
    mask[104:136, 160:188] = True
    extent = object_extent(frame_of(mask, np.zeros((H, W))), picture, mask, [])
    hole = dilate(extent.region, 0.02)
    painted = np.where(hole[..., None], np.uint8(170), picture)
    assert why_object_remains(picture, painted, mask, hole, extent) == "object_goes_on"


def test_a_picture_that_has_not_changed_is_not_used():
    picture, truth = picture_of((130, 100, 190, 140))
    hole = dilate(truth, 0.02)
    painted = np.where(hole[..., None], np.uint8(170), picture)
    assert why_object_remains(picture, painted, truth, hole, Extent(truth, True)) is None
    assert why_object_remains(picture, picture, truth, hole, Extent(truth, True)) == "object_remains"


def test_no_rim_shimmers_through_where_the_hole_is_narrow():
    picture, truth = picture_of((130, 100, 190, 140))
    hole = dilate(truth, 0.008)
    fill = np.full_like(picture, 170)
    out = _feather(picture, fill, hole, truth)
    assert (out[truth] == 170).all() and (out[~hole] == picture[~hole]).all()
