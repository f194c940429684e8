from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from roboref_core.geometry.pose import inverse, rotation_angle

from sim.bags.perturb import Delivery, PoseDrift
from sim.rooms.depth_defects import DepthDefects

SECOND = 10**9
shares = st.floats(0, 0.9)


def stamps(n: int, period: float = 0.1) -> np.ndarray:
    return SECOND + (np.arange(n) * period * SECOND).astype(np.int64)


@given(st.integers(1, 60), shares, shares, st.floats(0.01, 2.0), st.integers(0, 5))
def test_what_arrives_arrives_in_order_and_when_it_should(n, dropped, late, delay, seed):
    order, times = Delivery(dropped, late, delay, seed).arrivals(stamps(n), np.arange(n), "scene")
    assert len(set(order.tolist())) == len(order) <= n
    assert (np.diff(times) > 0).all()
    waits = (times - stamps(n)[order]) / SECOND
    # A nanosecond for each frame that would arrive at the same time.
    assert (np.isclose(waits, 0, atol=1e-6) | np.isclose(waits, delay, atol=1e-6)).all()


def test_shares_of_dropped_and_late_frames():
    n = 2000
    order, times = Delivery(0.2, 0.3, 0.25).arrivals(stamps(n), np.arange(n), "scene")
    assert len(order) == pytest.approx(0.8 * n, rel=0.05)
    assert (times - stamps(n)[order] > 0.1 * SECOND).mean() == pytest.approx(0.3, abs=0.04)
    assert (np.diff(order) < 0).any()


def test_the_fate_of_a_frame_does_not_depend_on_the_others():
    every, _ = Delivery(0.4).arrivals(stamps(50), np.arange(50), "scene")
    half, _ = Delivery(0.4).arrivals(stamps(50)[::2], np.arange(50)[::2], "scene")
    assert [n for n in every if n % 2 == 0] == (2 * half).tolist()


def test_nothing_asked_for_changes_nothing():
    order, times = Delivery().arrivals(stamps(20), np.arange(20), "scene")
    assert order.tolist() == list(range(20))
    np.testing.assert_array_equal(times, stamps(20))
    poses = np.broadcast_to(np.eye(4), (20, 4, 4))
    assert PoseDrift().perturb(poses, stamps(20), "scene") is poses


def test_drift_grows_with_the_root_of_time():
    n, runs = 101, 300
    poses = np.broadcast_to(np.eye(4), (n, 4, 4)).copy()
    walks = np.array([PoseDrift(0.02, 0.01, seed).perturb(poses, stamps(n), "scene") for seed in range(runs)])
    np.testing.assert_array_equal(walks[:, 0], np.broadcast_to(np.eye(4), (runs, 4, 4)))
    for seconds, index in ((1, 10), (10, 100)):
        np.testing.assert_allclose(walks[:, index, :3, 3].std(axis=0), 0.02 * np.sqrt(seconds), rtol=0.15)
        turn = [rotation_angle(T) for T in walks[:, index]]
        # The length of a vector of three equal normal components has this mean.
        assert np.mean(turn) == pytest.approx(0.01 * np.sqrt(seconds) * np.sqrt(8 / np.pi), rel=0.1)


def test_drift_is_rigid_and_leaves_lost_frames_lost():
    poses = np.tile(np.eye(4), (12, 1, 1))
    poses[4] = np.nan
    drifted = PoseDrift(0.1, 0.2, 1).perturb(poses, stamps(12), "scene")
    assert np.isnan(drifted[4, :3]).all()
    for T in np.delete(drifted, 4, axis=0):
        np.testing.assert_allclose(T @ inverse(T), np.eye(4), atol=1e-12)
    assert np.isfinite(poses[5:]).all() and not np.allclose(drifted[5], poses[5])


@given(st.floats(0, 0.9), st.floats(0, 0.02), st.integers(0, 3))
def test_depth_defects_have_their_size(holes, noise, seed):
    depth = np.full((60, 80), 2.0, np.float32)
    worse = DepthDefects(noise, holes)(depth, np.random.default_rng(seed))
    measured = worse > 0
    assert 1 - measured.mean() == pytest.approx(holes, abs=0.002)
    assert np.std(worse[measured]) == pytest.approx(noise * 4.0, rel=0.35, abs=1e-6)
    np.testing.assert_array_equal(worse, DepthDefects(noise, holes)(depth, np.random.default_rng(seed)))


def test_holes_are_patches_and_missing_depth_stays_missing():
    depth = np.full((240, 320), 1.0, np.float32)
    depth[:20] = 0
    depth[20:40] = np.nan
    worse = DepthDefects(0.01, 0.2)(depth, np.random.default_rng(0))
    assert (worse[:40] == 0).all() and np.isfinite(worse).all()
    hole = worse[40:] == 0
    # Beside a hole's pixel there is nearly always another one; single pixels would have 0.2.
    assert hole[:, 1:][hole[:, :-1]].mean() > 0.8


@pytest.mark.parametrize(
    "wrong", [lambda: Delivery(dropped=1.0), lambda: Delivery(late=-0.1), lambda: Delivery(delay=0),
              lambda: PoseDrift(rotation=-1), lambda: DepthDefects(noise=-1), lambda: DepthDefects(holes=1.0)]
)  # fmt: skip
def test_impossible_numbers_are_refused(wrong):
    with pytest.raises(ValueError, match="found"):
        wrong()
