"""Other cameras: what they do to pictures, and that questions stay true of them."""

from __future__ import annotations

import numpy as np
import pytest

from offline.train.nano.diet import Diet, Lens, Lenses
from offline.train.nano.pool import VIEW_CAMERA, PoolConfig, load_chunk, make_chunk, zoomed

TILE = np.full((40, 40, 3), 100, dtype=np.uint8)


def test_without_a_share_pictures_are_as_they_were():
    lenses = Lenses(Diet(), np.random.default_rng(0))
    assert lenses((0, 0), [TILE])[0] is TILE


def test_a_lens_does_what_it_says():
    rng = np.random.default_rng(0)
    assert (Lens((1.0, 1.0, 1.0), 0.0, 0.0)(TILE, rng) == TILE).all()
    bright = Lens((1.5, 1.0, 0.5), 0.0, 0.0)(TILE, rng)
    assert bright[0, 0].tolist() == [150, 100, 50]
    noisy = Lens((1.0, 1.0, 1.0), 8.0, 0.0)(TILE, rng)
    assert noisy.std() == pytest.approx(8.0, rel=0.1) and noisy.mean() == pytest.approx(100, abs=0.5)
    edge = TILE.copy()
    edge[:, 20:] = 200
    blurred = Lens((1.0, 1.0, 1.0), 0.0, 1.0)(edge, rng)
    assert 100 < blurred[20, 19, 0] < blurred[20, 20, 0] < 200


def test_pictures_of_one_view_share_their_camera():
    lenses = Lenses(Diet(share=1.0, noise=0.0, blur=0.0), np.random.default_rng(1))
    first, again, other = (lenses(view, [TILE])[0] for view in ((0, 1), (0, 1), (0, 2)))
    assert (first == again).all() and not (first == other).all()


def test_the_share_is_kept():
    rng, diet = np.random.default_rng(0), Diet(share=0.25)
    assert sum(diet.lens(rng) is not None for _ in range(2000)) == pytest.approx(500, abs=60)


@pytest.mark.parametrize("wrong", [{"share": 1.5}, {"noise": -1.0}])
def test_bad_diets_are_refused(wrong):
    with pytest.raises(ValueError, match=r"share: expected 0 to 1|must not be negative"):
        Diet(**wrong)


def test_a_wide_low_camera_sees_what_its_facts_say(tmp_path):
    config = PoolConfig(seed=8_300_000, rooms=1, views=8, zoom=(0.6, 0.8), heights=(0.5, 0.7))
    wide = load_chunk(make_chunk(tmp_path / "wide", 0, config))
    usual = load_chunk(make_chunk(tmp_path / "usual", 0, PoolConfig(seed=8_300_000, rooms=1, views=8)))
    for view, ids in zip(wide.views, wide.ids, strict=True):
        assert {int(uid) for uid in view["seen"]} >= set(np.unique(ids).tolist()) & {
            int(u) for u in wide.rooms[0]["labels"]
        }
    seen = [sum(len(view["seen"]) for view in chunk.views) for chunk in (wide, usual)]
    assert seen[0] > seen[1], "a wider view shows more"
    assert zoomed(VIEW_CAMERA, 0.5).fx == VIEW_CAMERA.fx / 2 and zoomed(VIEW_CAMERA, 1.0) is VIEW_CAMERA


@pytest.mark.parametrize("wrong", [{"zoom": (0.0, 1.0)}, {"heights": (1.7, 1.3)}])
def test_cameras_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="expected 0 < least <= largest"):
        PoolConfig(**wrong)
