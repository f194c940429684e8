"""Which views are registered, over what, and what is said of bad poses."""

from __future__ import annotations

import numpy as np
import pytest
from roboref_core.geometry.pose import exponential, inverse, look_at
from roboref_core.views.registration import Registrar, RegistrarConfig, RegistrationMode, Verdict

CENTRE = (0.0, 0.0, 0.5)
A = look_at((-2.2, 0.2, 1.3), CENTRE)
B = look_at((-2.0, -0.4, 1.4), CENTRE)
ERROR = exponential(np.array([0.02, -0.02, 0.015, 0.015, -0.02, 0.01]))


def off(registration, T_query_reference):
    """[m]"""
    return np.linalg.norm((registration.T_query_reference @ inverse(T_query_reference))[:3, 3])


def test_exact_undeclared_poses_stand(room):
    assert Registrar().register(room.textured(A), room.textured(B)) is None


def test_undeclared_poses_that_disagree_are_registered(room):
    query = room.textured(B).with_pose(B @ ERROR @ ERROR @ ERROR)
    found = Registrar().register(room.textured(A), query)
    assert found is not None and found.verdict is Verdict.REGISTERED
    assert off(found, inverse(B) @ A) < 0.01


def test_moved_things_do_not_move_exact_poses(room):
    """Surfaces disagree as much as those of bad poses do, and no pose explains it."""
    balls = [((0.3 * np.cos(a), 1.2 * np.sin(a), 0.6), 0.4) for a in np.arange(4) * np.pi / 2]
    before, after = type(room)(spheres=balls), type(room)(spheres=[((x + 0.2, y, z), r) for (x, y, z), r in balls])
    reference, query = before.textured(A), after.textured(B)
    always = Registrar(RegistrarConfig(RegistrationMode.ALWAYS)).register(reference, query)
    assert always.stated_agreement < RegistrarConfig().agreed_share
    assert Registrar().register(reference, query) is None


def test_off_is_off(room):
    registrar = Registrar(RegistrarConfig(RegistrationMode.OFF))
    assert registrar.register(room.textured(A), room.textured(B), 0.02, 0.02) is None


@pytest.fixture(scope="module")
def turning(room):
    """A camera without poses that turns by more than its field of view, and its true poses."""
    eye = np.array([-2.2, 0.2, 1.3])
    poses = [look_at(eye, eye + np.array([np.cos(a), np.sin(a), -0.25])) for a in np.arange(7) * 0.28]
    views = [room.textured(T, view_id=str(i), stamp_ns=i).with_pose(None) for i, T in enumerate(poses)]
    return views, poses


@pytest.mark.parametrize("last", [3, 6])
def test_a_chain_covers_what_does_not_overlap(turning, last):
    views, poses = turning
    found = Registrar().through(views[0], views[last], views)
    assert found is not None
    registration, over = found
    assert off(registration, inverse(poses[last]) @ poses[0]) < 0.06
    assert last < 6 or len(over) >= 2
    assert list(over) == sorted(over)
    own = Registrar().register(views[0], views[1]).covariance
    assert not over or np.trace(registration.covariance) > np.trace(own)


def test_a_chain_ends_where_its_price_is_reached_or_a_link_is_missing(turning, monkeypatch):
    views, _ = turning
    calls = []
    register = Registrar.register
    monkeypatch.setattr(Registrar, "register", lambda *args: calls.append(1) or register(*args))
    assert Registrar().through(views[0], views[6], views, limit=2) is None
    assert len(calls) == 2
    assert Registrar().through(views[0], views[6], [views[1], views[5]]) is None


def test_the_residual_tells_bad_poses_from_good(room):
    good = [room.textured(T) for T in (A, B, look_at((-1.9, 0.5, 1.5), CENTRE))]
    bad = [good[0], good[1].with_pose(B @ ERROR @ ERROR), good[2]]
    registrar = Registrar()
    assert registrar.residual(good) < 0.004 < 0.015 < registrar.residual(bad)
    assert np.isnan(registrar.residual(good[:1]))


@pytest.mark.parametrize("mode", RegistrationMode)
def test_one_view_is_never_registered_to_itself(room, mode):
    view = room.textured(A)
    assert Registrar(RegistrarConfig(mode)).register(view, view.with_pose(B), 0.02, 0.02) is None
