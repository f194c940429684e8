"""Poses averaged over registrations: how much better they get, and what they say of themselves."""

from __future__ import annotations

import numpy as np
import pytest
from roboref_core.geometry.pose import exponential, inverse, logarithm, look_at
from roboref_core.views.registration.pose_graph import Edge, solve

SIGMA = (0.02, float(np.radians(1.0)))
OWN = np.array([SIGMA[0]] * 3 + [SIGMA[1]] * 3)
TRUE = np.stack([look_at((2.0 * np.cos(a), 2.0 * np.sin(a), 1.3), (0.0, 0.0, 0.5)) for a in np.linspace(0, 1, 9)])
PRECISE = np.diag([1 / 0.003**2] * 3 + [1 / 0.002**2] * 3)


def registered(rng, pairs, information=PRECISE):
    """Edges with the errors that they state."""
    spread = np.linalg.cholesky(np.linalg.inv(information))
    return [
        Edge(i, k, exponential(spread @ rng.normal(size=6)) @ inverse(TRUE[k]) @ TRUE[i], information) for i, k in pairs
    ]


def star():
    return [(i, 0) for i in range(1, len(TRUE))]


def noisy(rng, scale=1.0):
    return np.stack([T @ exponential(scale * OWN * rng.normal(size=6)) for T in TRUE])


def errors(poses):
    return np.stack([logarithm(inverse(true) @ T) for true, T in zip(TRUE, poses, strict=True)])


def test_independent_errors_average_out_and_the_covariance_says_so():
    before, after, deviations, relatives = [], [], [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        stated = noisy(rng)
        graph = solve(stated, registered(rng, star()), *SIGMA)
        error = errors(graph.poses)[0]
        before.append(np.linalg.norm(errors(stated)[0, :3]))
        after.append(np.linalg.norm(error[:3]))
        deviations.append(error @ np.linalg.solve(graph.covariance_of(0), error))
        T, covariance = graph.relative(4, 0)
        relative = logarithm(T @ inverse(inverse(TRUE[0]) @ TRUE[4]))
        relatives.append(relative @ np.linalg.solve(covariance, relative))
    assert np.median(after) < 0.6 * np.median(before)
    for squared in (deviations, relatives):  # Six degrees of freedom: 95 % lie below 12.6.
        assert 0.88 <= np.mean(np.array(squared) < 12.6) <= 1.0 and 4.0 < np.mean(squared) < 8.0


def test_an_error_that_all_poses_share_stays_and_is_owned():
    """No average shows an offset of the whole map."""
    rng = np.random.default_rng(0)
    off = exponential(np.array([0.03, -0.02, 0.01, 0.0, 0.0, 0.0]))
    graph = solve(np.stack([off @ T for T in TRUE]), registered(rng, star()), *SIGMA)
    spread = np.sqrt(np.diag(graph.covariance_of(0)))
    assert (spread > 0.9 * OWN).all()
    assert np.abs(errors(graph.poses)[0] - errors([off @ T for T in TRUE])[0]).max() < 0.002


def test_exact_poses_stay_exact():
    rng = np.random.default_rng(0)
    graph = solve(TRUE, registered(rng, star()), *SIGMA)
    assert np.median(np.linalg.norm(errors(graph.poses)[:, :3], axis=1)) < 0.002


def test_errors_larger_than_stated_are_owned():
    rng = np.random.default_rng(0)
    graph = solve(noisy(rng, 4.0), registered(rng, star()), *SIGMA)
    usual = solve(noisy(np.random.default_rng(0)), registered(rng, star()), *SIGMA)
    assert np.trace(graph.covariance_of(0)) > 4 * np.trace(usual.covariance_of(0))


def test_a_wrong_registration_does_not_pull():
    rng = np.random.default_rng(3)
    stated, edges = noisy(rng), registered(rng, [*star(), *[(i, i + 1) for i in range(1, 8)]])
    right = solve(stated, edges, *SIGMA).poses[0]
    wrong = [*edges, Edge(8, 0, exponential(np.array([0.5, 0, 0, 0, 0.3, 0])) @ inverse(TRUE[0]) @ TRUE[8], PRECISE)]
    assert np.linalg.norm((inverse(right) @ solve(stated, wrong, *SIGMA).poses[0])[:3, 3]) < 0.01


def test_a_chain_is_less_certain_than_its_links():
    rng = np.random.default_rng(1)
    graph = solve(noisy(rng), registered(rng, [(i, i + 1) for i in range(8)]), *SIGMA)
    near, far = (np.trace(graph.relative(i, 8)[1]) for i in (7, 0))
    assert near < far < np.trace(np.diag(OWN**2)) * 2


def test_without_registrations_the_stated_poses_stand():
    stated = noisy(np.random.default_rng(2))
    graph = solve(stated, [], *SIGMA)
    np.testing.assert_allclose(graph.poses, stated, atol=1e-12)
    np.testing.assert_allclose(graph.covariance_of(3), np.diag(OWN**2), rtol=1e-9)


@pytest.mark.parametrize("blind", [0, 5])
def test_what_a_registration_leaves_open_stays_as_stated(blind):
    """Sliding along a wall: no information in one direction."""
    rng = np.random.default_rng(4)
    information = PRECISE.copy()
    information[blind] = information[:, blind] = 0.0
    edges = [Edge(1, 0, inverse(TRUE[0]) @ TRUE[1], information)]
    graph = solve(noisy(rng), edges, *SIGMA)
    assert np.isfinite(graph.poses).all()
    assert np.linalg.eigvalsh(graph.covariance_of(0)).max() <= OWN.max() ** 2 * 1.001


def test_what_a_camera_errs_by_in_each_registration_is_not_averaged_away():
    rng = np.random.default_rng(4)
    systematic = np.diag([2 * 0.01**2] * 3 + [2 * 0.004**2] * 3)
    edges = registered(rng, star())
    shared = [Edge(e.first, e.second, e.T_second_first, e.information, systematic) for e in edges]
    before, after = (solve(noisy(np.random.default_rng(5)), some, *SIGMA) for some in (edges, shared))
    np.testing.assert_array_equal(before.poses, after.poses)
    np.testing.assert_allclose(after.covariance_of(0) - before.covariance_of(0), systematic / 2, atol=1e-12)
    assert np.trace(after.relative(3, 0)[1]) > np.trace(before.relative(3, 0)[1]) + np.trace(systematic) / 2
