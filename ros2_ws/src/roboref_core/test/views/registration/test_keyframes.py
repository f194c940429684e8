"""Keyframes registered around a question: better poses, for a bounded price."""

from __future__ import annotations

import numpy as np
import pytest
from roboref_core.geometry.pose import exponential, inverse, look_at, transform
from roboref_core.views.registration import (
    Keyframes,
    KeyframesConfig,
    Registrar,
    RegistrarConfig,
    RegistrationMode,
    Registrations,
    Verdict,
)
from roboref_core.views.registration import registrar as registrar_module

SIGMA = (0.02, float(np.radians(1.0)))
CENTRE = np.array([0.0, 0.0, 0.5])
TRUE = [look_at((-2.2, y, 1.3), CENTRE) for y in np.linspace(-0.4, 0.4, 7)]


@pytest.fixture(scope="module")
def views(room):
    """Of the true poses, stated with an error."""
    rng = np.random.default_rng(5)
    sigma = np.array([SIGMA[0]] * 3 + [SIGMA[1]] * 3)
    return [
        room.textured(T, view_id=f"v{i}").with_pose(T @ exponential(sigma * rng.normal(size=6)))
        for i, T in enumerate(TRUE)
    ]


def keyframes(views, known=None, config=None, mode=RegistrationMode.AUTO):
    def overlapping(view):
        return [(other, 0.9) for other in views if other is not view]

    return Keyframes(Registrar(RegistrarConfig(mode)), known or Registrations(), overlapping, config)


def off(T, i):
    """How far a pose puts what the camera looks at from where it is [m]."""
    seen = transform(inverse(TRUE[i]), CENTRE)
    return np.linalg.norm(transform(T, seen) - CENTRE)


def test_the_searched_pose_gets_better_and_says_how_good_it_is(views):
    solved = keyframes(views, config=KeyframesConfig(neighbours=6)).solve(views[3], [views[0]], *SIGMA)
    searched = solved.searched
    assert searched.images is views[3].images and searched.view_id == "v3"
    stated = np.mean([off(view.T_world_camera, i) for i, view in enumerate(views)])
    assert off(searched.T_world_camera, 3) < 0.6 * stated
    assert np.trace(searched.pose_covariance[:3, :3]) < 0.5 * 3 * SIGMA[0] ** 2
    registration = solved.registration(views[0])
    assert registration.verdict is Verdict.REGISTERED
    relative = inverse(TRUE[3]) @ TRUE[0]
    assert np.linalg.norm((registration.T_query_reference @ inverse(relative))[:3, 3]) < 0.01


def test_a_pair_is_registered_once(views, monkeypatch):
    calls = []
    register = registrar_module.register
    monkeypatch.setattr(registrar_module, "register", lambda *args: calls.append(1) or register(*args))
    known = Registrations()
    first = keyframes(views, known).solve(views[3], [views[0]], *SIGMA)
    made = len(calls)
    assert 0 < made <= 1 + 2 * KeyframesConfig().neighbours
    second = keyframes(views, known).solve(views[3], [views[0]], *SIGMA)
    assert len(calls) == made
    np.testing.assert_array_equal(first.searched.T_world_camera, second.searched.T_world_camera)


def test_earlier_questions_widen_the_graph_up_to_its_bound(views):
    known, config = Registrations(), KeyframesConfig(neighbours=2, max_views=5)
    sizes = [len(keyframes(views, known, config).solve(view, [], *SIGMA).views) for view in views]
    assert sizes[0] == 3 and sorted(sizes) == sizes and sizes[-1] == 5


@pytest.mark.parametrize(("sigma", "mode"), [((0.0, 0.0), RegistrationMode.AUTO), (SIGMA, RegistrationMode.OFF)])
def test_exact_poses_and_off_change_nothing(views, sigma, mode):
    assert keyframes(views, mode=mode).solve(views[3], [views[0]], *sigma) is None


def test_a_question_in_the_camera_frame_asks_no_keyframe_that_it_does_not_need(views):
    known = Registrations()
    assert keyframes(views, known).solve(views[3], [views[2]], *SIGMA, in_world=False) is None
    assert known.knows(views[2], views[3]) and not known.knows(views[4], views[3])


def test_after_its_deadline_a_question_registers_no_further_keyframes(views):
    known = Registrations()
    solved = keyframes(views, known).solve(views[3], [views[2]], *SIGMA, deadline=0.0)
    assert [view.view_id for view in solved.views] == ["v3", "v2"]


def test_without_overlap_nothing_is_solved(room, views):
    away = room.textured(look_at((-2.0, -1.5, 1.4), (-3.0, -2.0, 1.0)), view_id="away")
    assert keyframes([]).solve(away, [], *SIGMA) is None


def test_an_entry_ends_with_its_images(room):
    known = Registrations()
    pair = [room.textured(T).with_pose(T) for T in TRUE[:2]]
    keyframes(pair, known).solve(pair[0], [pair[1]], *SIGMA)
    assert len(known._known._held) > 0
    pair.clear()
    assert len(known._known._held) == 0
