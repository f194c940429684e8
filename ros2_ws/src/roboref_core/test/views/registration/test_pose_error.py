"""The error of poses that nobody declared, learned from what their views show."""

from __future__ import annotations

import numpy as np
import pytest
from roboref_core.geometry.pose import exponential, look_at
from roboref_core.views.registration import PoseErrors, Registrar
from roboref_core.views.registration.pose_error import PairEvidence, PoseError, learn

NOISE = 0.006


def drawn(jitter, drift, count=150, noise=1.0, seed=0):
    """Pairs of views whose surfaces lie apart as such errors put them [m]."""
    rng = np.random.default_rng(seed)
    ways = rng.uniform(0.3, 12.0, count)
    sensor = (noise * 1.4826 * NOISE) ** 2
    sigmas = np.sqrt(sensor + 2 * jitter**2 + drift**2 * ways)
    # A median over many points of one pair: an offset that all share, and the noise of each.
    distances = np.sqrt((sigmas**2 - sensor) * rng.chisquare(3, count) / 3 + sensor) / 1.4826
    return [PairEvidence(float(d), NOISE, float(w)) for d, w in zip(distances, ways, strict=True)]


@pytest.mark.parametrize("drift", [0.005, 0.01, 0.02])
def test_drift_is_told_from_jitter(drift):
    found = learn(drawn(0.0, drift), 2.0)
    assert found.drift**0.5 == pytest.approx(drift, rel=0.4)
    assert found.jitter**0.5 < 0.006


@pytest.mark.parametrize("jitter", [0.01, 0.03])
def test_jitter_is_told_from_drift(jitter):
    found = learn(drawn(jitter, 0.0), 2.0)
    assert found.jitter**0.5 == pytest.approx(jitter, rel=0.4)
    assert np.sqrt(found.drift * 10) < jitter


def test_exact_poses_are_seen_to_be_exact_and_a_better_sensor_to_be_better():
    found = learn(drawn(0.0, 0.0, noise=0.6), 2.0)
    assert np.sqrt(found.jitter + found.drift * 10) < 0.004
    assert found.noise == pytest.approx(0.6, abs=0.12)


def test_a_few_pairs_of_things_that_moved_change_little():
    calm = drawn(0.0, 0.0)
    moved = [PairEvidence(0.2, NOISE, one.way) for one in calm[:5]]
    assert np.sqrt(learn(calm + moved, 2.0).drift * 10) < 0.01


def test_few_pairs_leave_more_open_than_many():
    few, many = learn(drawn(0.0, 0.0, 2), 2.0), learn(drawn(0.0, 0.0, 100), 2.0)
    assert few.jitter > many.jitter and few.drift > many.drift
    assert learn([], 2.0) == PoseError()


def test_the_world_owes_the_whole_way_and_a_pair_the_way_between():
    error = PoseError(jitter=0.0, drift=0.01**2, depth=2.0)
    translation, rotation = error.between(4.0)
    assert 2 * (translation**2 + (2.0 * rotation) ** 2) == pytest.approx(4.0 * 0.01**2)
    world = error.along(9.0)
    assert 9.0 * 0.01**2 < world[0, 0] + 4.0 * world[5, 5] < 1.5 * 9.0 * 0.01**2


def test_views_tell_and_are_compared_once(room, monkeypatch):
    poses = [look_at((-2.2 + 0.05 * i, 0.1 * i - 0.4, 1.3), (0.0, 0.0, 0.5)) for i in range(9)]
    rng = np.random.default_rng(3)
    exact = [room.textured(T, view_id=str(i), stamp_ns=i) for i, T in enumerate(poses)]
    off = [v.with_pose(T @ exponential(rng.normal(0, 0.02, 6))) for v, T in zip(exact, poses, strict=True)]
    errors, registrar = PoseErrors(), Registrar()

    def way(view):
        return 0.3 * view.stamp_ns

    good, bad = errors.of(registrar, exact, way), errors.of(registrar, off, way)
    assert good.pairs == bad.pairs > 15
    assert np.sqrt(good.jitter + 2 * good.drift) < 0.004 < 0.015 < np.sqrt(bad.jitter + 2 * bad.drift)
    monkeypatch.setattr(Registrar, "disagreement", lambda *_: pytest.fail("compared again"))
    assert errors.of(registrar, off, way) == bad
    blind = [view.with_pose(None) for view in exact]
    assert errors.of(registrar, blind, way).pairs == 0
