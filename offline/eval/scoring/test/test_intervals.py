"""Intervals against SciPy and brute force, and whether they cover what they claim."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from offline.eval.scoring.intervals import ClusterBootstrap, mcnemar, wilson


@given(st.integers(0, 500), st.integers(1, 500))
def test_wilson_is_scipys(hits, total):
    hits = min(hits, total)
    expected = binomtest(hits, total).proportion_ci(method="wilson")
    assert wilson(hits, total) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_published_shares():
    # research notes: 47 of 100 and 26 of 77
    assert np.round(wilson(47, 100), 3).tolist() == [0.375, 0.567]
    assert np.round(wilson(26, 77), 3).tolist() == [0.242, 0.449]


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_exact_binomial_test(only_a, only_b):
    expected = binomtest(only_a, only_a + only_b, 0.5).pvalue if only_a + only_b else 1.0
    assert mcnemar(only_a, only_b) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(only_a, only_b) == mcnemar(only_b, only_a)


@pytest.mark.parametrize("call", [lambda: wilson(3, 2), lambda: wilson(-1, 2), lambda: mcnemar(-1, 2)])
def test_impossible_counts_are_refused(call):
    with pytest.raises(ValueError, match="found"):
        call()


def test_replicates_are_sums_over_drawn_scenes():
    """Every replicate is what a loop over drawn scenes gives, if it draws as often as the weights say."""
    rng = np.random.default_rng(0)
    clusters = rng.integers(0, 5, 40)
    clusters[:5] = range(5)
    columns, chosen = rng.random((40, 3)), rng.random(40) < 0.7
    bootstrap = ClusterBootstrap(clusters, replicates=50, seed=1)
    drawn = bootstrap.replicate(np.eye(5))  # how often each scene was drawn
    assert (drawn.sum(axis=1) == 5).all() and len(np.unique(drawn, axis=0)) > 20
    for weights, sums in zip(drawn, bootstrap.sums(columns, chosen), strict=True):
        by_hand = sum(weights[c] * row for c, row, used in zip(clusters, columns, chosen, strict=True) if used)
        np.testing.assert_allclose(sums, by_hand)


def test_draws_depend_on_seed_and_number_of_scenes_only():
    a = ClusterBootstrap(np.array([0, 1, 2, 2, 1]), seed=3).replicate(np.eye(3))
    b = ClusterBootstrap(np.array([2, 1, 0]), seed=3).replicate(np.eye(3))
    c = ClusterBootstrap(np.array([2, 1, 0]), seed=4).replicate(np.eye(3))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


def _simulate(rng, scenes=30, per_scene=20):
    """Hits whose chance differs from scene to scene; the true mean is 0.6."""
    chance = np.repeat(rng.beta(3, 2, scenes), per_scene)
    return np.repeat(np.arange(scenes), per_scene), (rng.random(len(chance)) < chance).astype(float)


def test_clustered_interval_covers_where_wilson_does_not():
    rng = np.random.default_rng(0)
    clustered = naive = 0
    for _ in range(200):
        clusters, hits = _simulate(rng)
        bootstrap = ClusterBootstrap(clusters, replicates=400)
        sums = bootstrap.sums(np.stack([hits, np.ones_like(hits)], axis=1))
        low, high = bootstrap.interval(sums[:, 0] / sums[:, 1])
        clustered += low <= 0.6 <= high
        low, high = wilson(int(hits.sum()), len(hits))
        naive += low <= 0.6 <= high
    assert 0.88 <= clustered / 200 <= 0.99
    assert naive / 200 < 0.8


def test_paired_difference_is_narrower_than_the_difference_of_unpaired_runs():
    rng = np.random.default_rng(0)
    clusters, a = _simulate(rng)
    b = np.where(rng.random(len(a)) < 0.05, 1 - a, a)
    one = np.ones_like(a)

    def share(sums):
        return sums[:, 0] / sums[:, 1]

    bootstrap = ClusterBootstrap(clusters)
    table_a, table_b = np.stack([a, one], axis=1), np.stack([b, one], axis=1)
    low, high = bootstrap.difference(table_b, table_a, share)
    other = ClusterBootstrap(clusters, seed=1)
    unpaired = np.percentile(share(bootstrap.sums(table_b)) - share(other.sums(table_a)), (2.5, 97.5))
    assert low <= b.mean() - a.mean() <= high
    assert high - low < 0.5 * (unpaired[1] - unpaired[0])


@pytest.mark.parametrize("scenes", [1, 4, 5])
def test_fewer_than_five_scenes_have_no_interval(scenes):
    bootstrap = ClusterBootstrap(np.arange(20) % scenes)
    interval = bootstrap.interval(bootstrap.sums(np.ones((20, 1)))[:, 0])
    assert (interval is None) == (scenes < 5)
