from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from roboref_core.geometry import pose
from scipy.spatial.transform import Rotation, Slerp

finite = st.floats(-10, 10)
quaternions = st.tuples(finite, finite, finite, finite).filter(lambda q: np.linalg.norm(q) > 1e-3)
translations = st.tuples(finite, finite, finite)


@given(quaternions, translations)
def test_quaternion_round_trip_agrees_with_scipy(q, t):
    T = pose.from_quaternion(q, t)
    np.testing.assert_allclose(T[:3, :3], Rotation.from_quat(q).as_matrix(), atol=1e-12)
    np.testing.assert_allclose(pose.from_quaternion(pose.to_quaternion(T), t), T, atol=1e-9)
    np.testing.assert_allclose(pose.inverse(T) @ T, np.eye(4), atol=1e-9)


@pytest.mark.parametrize("axis", np.eye(3))
def test_quaternion_of_half_turns(axis):
    T = pose.pose(Rotation.from_rotvec(np.pi * axis).as_matrix(), (0, 0, 0))
    np.testing.assert_allclose(pose.from_quaternion(pose.to_quaternion(T)), T, atol=1e-9)
    assert pose.rotation_angle(T) == pytest.approx(np.pi)


@given(quaternions, quaternions, translations, translations, st.floats(0, 1))
def test_interpolate_agrees_with_scipy(q0, q1, t0, t1, s):
    rotations = Rotation.from_quat([q0, q1])
    if np.pi - (rotations[0].inv() * rotations[1]).magnitude() < 1e-3:
        return  # At half a turn both ways are the shortest.
    T = pose.interpolate(pose.from_quaternion(q0, t0), pose.from_quaternion(q1, t1), s)
    np.testing.assert_allclose(T[:3, :3], Slerp([0, 1], rotations)(s).as_matrix(), atol=1e-6)
    np.testing.assert_allclose(T[:3, 3], (1 - s) * np.array(t0) + s * np.array(t1), atol=1e-9)


@given(quaternions)
def test_orthonormalise_repairs_rounding(q):
    T = pose.from_quaternion(q, (1, 2, 3))
    rounded = np.round(T, 4)
    repaired = pose.orthonormalise(rounded)
    np.testing.assert_allclose(repaired[:3, :3] @ repaired[:3, :3].T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(repaired, T, atol=2e-4)


@pytest.mark.parametrize(
    ("T", "words"),
    [
        (np.full((4, 4), -np.inf), "finite"),
        (np.eye(3), "4x4"),
        (np.diag([1.0, 1.0, -1.0, 1.0]), "not a rotation"),
        (np.diag([2.0, 2.0, 2.0, 1.0]), "not a rotation"),
        (np.ones((4, 4)), "last row"),
    ],
)
def test_orthonormalise_refuses_what_is_wrong(T, words):
    with pytest.raises(ValueError, match=f"frame 7.*{words}"):
        pose.orthonormalise(T, where="frame 7")


def test_zero_quaternion_is_refused():
    with pytest.raises(ValueError, match="non-zero norm"):
        pose.from_quaternion((0, 0, 0, 0))


def test_look_at_is_an_optical_frame():
    T = pose.look_at((1.0, 2.0, 1.5), (4.0, 2.0, 1.5))
    np.testing.assert_allclose(pose.transform(T, [0, 0, 3.0]), (4.0, 2.0, 1.5), atol=1e-12)
    assert pose.transform(T, [0, 1.0, 0])[2] == pytest.approx(0.5)  # y points down
    assert pose.transform(T, [1.0, 0, 0])[1] == pytest.approx(1.0)  # x to the right of +x is -y
